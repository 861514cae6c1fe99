//! Prints what is known about the methods and events, for dispatch and for people.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::method::{Method, Role};
use crate::problems::blame;

/// Prints both tables.
pub(crate) fn print(methods: &[Method]) -> TokenStream {
    let rows = methods.iter().map(|method| {
        let callable = matches!(method.role, Role::Message);
        let (name, docs, writes) = (method.name(), method.docs_text(), method.writes);
        let (runs_ahead, idempotent) = (!method.is_async, method.idempotent);
        // An event is encoded as itself, not as an object of arguments.
        let args = method
            .arguments()
            .filter(|_| callable)
            .map(|argument| argument.name());
        quote! {
            ::actor_core::__private::Method {
                name: #name,
                args: &[#(#args),*],
                writes: #writes,
                idempotent: #idempotent,
                runs_ahead: #runs_ahead,
                callable: #callable,
                docs: #docs,
            }
        }
    });
    let events = methods
        .iter()
        .enumerate()
        .filter_map(|(at, method)| match &method.role {
            Role::Message => None,
            Role::Event { ty, .. } => Some(quote_spanned! {blame(ty)=>
                ::actor_core::__private::EventHandler {
                    event: <#ty as ::actor_core::__private::Event>::NAME,
                    method: #at,
                }
            }),
        });
    quote! {
        const METHODS: &'static [::actor_core::__private::Method] = &[#(#rows),*];
        const EVENTS: &'static [::actor_core::__private::EventHandler] = &[#(#events),*];
    }
}
