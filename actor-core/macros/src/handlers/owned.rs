//! The check that a type can cross a wire: it borrows nothing and has a name.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Path, Type};

/// Refuses a type that borrows or has no name; `what` is `arguments` or `results`.
pub(crate) fn check(ty: &Type, what: &str) -> syn::Result<()> {
    let why = match ty {
        Type::Reference(reference) => {
            format!(
                "message {what} are owned: write `{}`",
                owned_form(&reference.elem)
            )
        }
        _ if contains(ty.to_token_stream(), is_impl) => {
            format!("message {what} have a type with a name: write it instead of `impl`")
        }
        _ if borrows(ty.to_token_stream()) => {
            format!("message {what} are owned: write a type that borrows nothing")
        }
        _ => return Ok(()),
    };
    Err(syn::Error::new_spanned(ty, why))
}

/// Returns the owned form of what a reference points to.
fn owned_form(target: &Type) -> String {
    match target {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => format!("Vec<{}>", text(&slice.elem)),
        other => text(other),
    }
}

/// Returns the tokens as a person would write them.
fn text(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    [(" < ", "<"), (" >", ">"), (" :: ", "::"), (" , ", ", ")]
        .iter()
        .fold(spaced, |text, (from, to)| text.replace(from, to))
}

fn is_impl(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(word) if word == "impl")
}

/// Says whether a `&` or a lifetime other than `'static` occurs.
fn borrows(tokens: TokenStream) -> bool {
    let mut lifetime = false;
    contains(tokens, |token| match token {
        TokenTree::Punct(mark) if mark.as_char() == '&' => true,
        TokenTree::Punct(mark) => {
            lifetime = mark.as_char() == '\'';
            false
        }
        TokenTree::Ident(word) => std::mem::take(&mut lifetime) && word != "static",
        _ => false,
    })
}

fn contains(tokens: TokenStream, mut wanted: impl FnMut(&TokenTree) -> bool) -> bool {
    fn walk(tokens: TokenStream, wanted: &mut dyn FnMut(&TokenTree) -> bool) -> bool {
        tokens.into_iter().any(|token| {
            let inside = match &token {
                TokenTree::Group(group) => walk(group.stream(), wanted),
                _ => false,
            };
            inside || wanted(&token)
        })
    }
    walk(tokens, &mut wanted)
}

/// Prints a type for use outside the block: `Self` becomes the entity.
pub(crate) fn without_self(tokens: TokenStream, kind: &Path) -> TokenStream {
    let replace = |token| match token {
        TokenTree::Ident(word) if word == "Self" => quote!(#kind),
        TokenTree::Group(group) => {
            let inner = without_self(group.stream(), kind);
            let mut replaced = Group::new(group.delimiter(), inner);
            replaced.set_span(group.span());
            // A group without delimiters only marks what an outer macro substituted.
            match group.delimiter() {
                Delimiter::None => replaced.stream(),
                _ => TokenTree::Group(replaced).into(),
            }
        }
        other => other.into(),
    };
    tokens.into_iter().flat_map(replace).collect()
}
