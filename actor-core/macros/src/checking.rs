//! What the tests of expansions share.

use proc_macro2::{TokenStream, TokenTree};

/// Reads tokens from text, which is shorter than `quote!` once formatted.
pub(crate) fn tokens(text: &str) -> TokenStream {
    text.parse().expect("tokens")
}

/// Returns the messages that an expansion reports, in order.
pub(crate) fn messages(expansion: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    let mut reports = false;
    for token in expansion {
        match token {
            TokenTree::Ident(word) => reports = word == "compile_error",
            TokenTree::Group(group) if reports => {
                found.extend(syn::parse2::<syn::LitStr>(group.stream()).map(|text| text.value()));
                reports = false;
            }
            TokenTree::Group(group) => found.extend(messages(group.stream())),
            _ => {}
        }
    }
    found
}
