//! Several errors of one expansion, reported together, and where the compiler's own should point.

use proc_macro2::{Span, TokenStream};
use syn::spanned::Spanned;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Problems(Option<syn::Error>);

impl Problems {
    /// Adds an error.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// Returns the value, or adds the error.
    pub(crate) fn check<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// Returns `value` when nothing was wrong.
    pub(crate) fn or<T>(self, value: T) -> syn::Result<T> {
        self.0.map_or(Ok(value), Err)
    }

    /// Prints the errors; nothing when there are none.
    pub(crate) fn print(self) -> TokenStream {
        self.0
            .map(syn::Error::into_compile_error)
            .unwrap_or_default()
    }
}

/// Returns the span for a call whose errors should point at `tokens`.
///
/// Names still resolve as ours, also where a macro of the user wrote `tokens`.
pub(crate) fn blame(tokens: &impl Spanned) -> Span {
    tokens.span().resolved_at(Span::call_site())
}
