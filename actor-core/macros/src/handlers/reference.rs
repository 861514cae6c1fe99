//! Prints the methods of the reference: what callers see.

use proc_macro2::TokenStream;
use quote::quote;

use super::{
    Handlers,
    method::{Method, Role},
    print::{arguments_struct, value_and_error},
};

/// Prints one method for each message.
pub(crate) fn print(handlers: &Handlers) -> TokenStream {
    let reference = &handlers.reference;
    let calls = handlers
        .methods
        .iter()
        .filter(|method| matches!(method.role, Role::Message))
        .map(|method| call(handlers, method));
    quote! {
        impl #reference {
            #(#calls)*
        }
    }
}

/// Prints a message's method of the reference.
fn call(handlers: &Handlers, method: &Method) -> TokenStream {
    let kind = &handlers.kind;
    let Method { ident, docs, .. } = method;
    let names: Vec<_> = method.arguments().map(|argument| &argument.ident).collect();
    let types = method.arguments().map(|argument| &argument.ty);
    let arguments = arguments_struct(method);
    let (value, error) = value_and_error(method);
    quote! {
        #(#docs)*
        pub fn #ident(
            &self,
            #(#names: #types,)*
        ) -> ::actor_core::__private::Call<'_, #kind, #value, #error> {
            (**self).call(__Args::#ident(#arguments { #(#names),* }), |outcome| match outcome {
                __Outcome::#ident(result) => ::core::option::Option::Some(result),
                _ => ::core::option::Option::None,
            })
        }
    }
}
