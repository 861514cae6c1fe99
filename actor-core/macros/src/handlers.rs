//! `#[handlers]`: the messages and events of an entity, from the methods of one `impl` block.
//!
//! [`method`] reads one method, [`argument`] its parameters; [`rules`] and [`owned`] say what they
//! cannot be. [`print`] writes the block back with what dispatches to it: [`reference`] what
//! callers see, [`tables`] what is known about the methods, [`wire`] how calls become bytes.

mod argument;
mod method;
mod owned;
mod print;
mod reference;
mod rules;
mod tables;
mod wire;

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Ident, ImplItem, ItemImpl, Path, PathArguments, Type};

use crate::problems::Problems;
use method::{Method, Role};

/// A block to print.
struct Handlers {
    /// The entity.
    kind: Path,
    /// The type of its references, which its derive declares.
    reference: Path,
    /// The messages and events, in the order they are written.
    methods: Vec<Method>,
    /// The block as the user wrote it, without our marks.
    block: ItemImpl,
}

/// Expands the attribute; a method with a mistake stays in the block but is no message.
pub(crate) fn expand(settings: &TokenStream, block: TokenStream) -> TokenStream {
    let mut problems = Problems::default();
    if !settings.is_empty() {
        let why = "`#[handlers]` has no settings: write them in `#[entity(...)]`";
        problems.add(syn::Error::new_spanned(settings, why));
    }
    let parsed = match syn::parse2::<ItemImpl>(block.clone()) {
        Ok(parsed) => parse(parsed, &mut problems),
        Err(error) => {
            let why = format!("{error}: `#[handlers]` goes on `impl Cart {{ .. }}`");
            problems.add(syn::Error::new(error.span(), why));
            Err(block)
        }
    };
    let printed = parsed.map_or_else(|block| block, |handlers| print::print(&handlers));
    let errors = problems.print();
    quote!(#printed #errors)
}

/// Reads the block; when it is for no plain type, returns it without our marks.
fn parse(mut block: ItemImpl, problems: &mut Problems) -> Result<Handlers, TokenStream> {
    let head = problems.check(parse_head(&block));
    let functions = block.items.iter_mut().filter_map(|item| match item {
        ImplItem::Fn(function) => Some(function),
        _ => None,
    });
    let Some((kind, reference)) = head else {
        functions.for_each(|function| {
            for mark in ["on", "idempotent"] {
                drop(method::take_mark(function, mark));
            }
        });
        return Err(block.into_token_stream());
    };
    let mut methods: Vec<Method> = functions
        .filter_map(|function| problems.check(method::parse(function, &kind)).flatten())
        .collect();
    refuse_repeated_events(&mut methods, problems);
    Ok(Handlers {
        kind,
        reference,
        methods,
        block,
    })
}

/// Reads what the block is for.
fn parse_head(block: &ItemImpl) -> syn::Result<(Path, Path)> {
    if let Some((path, _)) = &block.trait_ {
        let ty = block.self_ty.to_token_stream();
        let why = format!("messages are methods of the type itself: write `impl {ty}`");
        return Err(syn::Error::new_spanned(path, why));
    }
    if !block.generics.params.is_empty() {
        let why = "an entity has one stable wire name and so no generics: write a plain type";
        return Err(syn::Error::new_spanned(&block.generics.params, why));
    }
    let plain = match &*block.self_ty {
        Type::Path(ty) if ty.qself.is_none() => {
            let is_plain = |arguments: &PathArguments| matches!(arguments, PathArguments::None);
            ty.path
                .segments
                .iter()
                .all(|part| is_plain(&part.arguments))
                .then_some(&ty.path)
        }
        _ => None,
    };
    let Some(kind) = plain else {
        let why = "`#[handlers]` needs the plain name of a type: write `impl Cart`";
        return Err(syn::Error::new_spanned(&block.self_ty, why));
    };
    let mut reference = kind.clone();
    if let Some(last) = reference.segments.last_mut() {
        last.ident = reference_name(&last.ident);
    }
    Ok((kind.clone(), reference))
}

fn reference_name(kind: &Ident) -> Ident {
    format_ident!("{kind}Ref", span = kind.span())
}

/// Notes and leaves out a second method for the same event.
fn refuse_repeated_events(methods: &mut Vec<Method>, problems: &mut Problems) {
    let mut seen: Vec<String> = Vec::new();
    methods.retain(|method| {
        let Role::Event { ty, .. } = &method.role else {
            return true;
        };
        let text = ty.to_string();
        if seen.contains(&text) {
            let why = "this event has an `#[on]` method already: handle it in one";
            problems.add(syn::Error::new_spanned(ty, why));
            return false;
        }
        seen.push(text);
        true
    });
}

#[cfg(test)]
mod tests;
