//! Prints the block and the dispatch to its methods.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::Ident;

use super::{
    Handlers,
    argument::Parameter,
    method::{Method, Role},
    reference, tables, wire,
};
use crate::{attributes, problems::blame};

/// Prints everything.
pub(crate) fn print(handlers: &Handlers) -> TokenStream {
    let Handlers {
        kind,
        reference: reference_type,
        methods,
        block,
    } = handlers;
    let quiet = attributes::quiet();
    let calls = reference::print(handlers);
    let types = types(methods);
    let tables = tables::print(methods);
    let index = methods.iter().enumerate().map(|(at, method)| {
        let variant = &method.ident;
        quote!(__Args::#variant(..) => #at,)
    });
    let dispatch = methods.iter().map(dispatch);
    let wire = wire::print(methods);
    let subscriptions = methods.iter().filter_map(|method| match &method.role {
        Role::Message => None,
        Role::Event { ty, .. } => Some(quote_spanned! {blame(ty)=>
            impl ::actor_core::__private::On<#ty> for #kind {}
        }),
    });
    // In a block of their own the generated types can clash with no other entity's.
    quote! {
        #block

        #quiet
        const _: () = {
            #calls
            #types
            #(#subscriptions)*

            impl ::actor_core::__private::Handlers for #kind {
                type Ref = #reference_type;
                type Args = __Args;
                type Outcome = __Outcome;
                #tables

                fn method(args: &Self::Args) -> usize {
                    match *args { #(#index)* }
                }

                async fn handle(
                    &mut self,
                    __args: Self::Args,
                    __ctx: &mut ::actor_core::__private::Ctx<Self>,
                ) -> Self::Outcome {
                    match __args { #(#dispatch)* }
                }

                #wire
            }
        };
    }
}

/// Returns the types of a method's value and error.
pub(crate) fn value_and_error(method: &Method) -> (TokenStream, TokenStream) {
    let ty = &method.returns.ty;
    if !method.returns.fallible {
        return (ty.clone(), quote!(::actor_core::__private::Infallible));
    }
    (
        quote_spanned!(blame(ty)=> <#ty as ::actor_core::__private::Outcome>::Ok),
        quote_spanned!(blame(ty)=> <#ty as ::actor_core::__private::Outcome>::Err),
    )
}

/// Returns the name of a message's argument struct.
pub(crate) fn arguments_struct(method: &Method) -> Ident {
    format_ident!("__Args_{}", method.ident, span = method.ident.span())
}

/// Prints the enums of arguments and outcomes, and the structs of arguments.
fn types(methods: &[Method]) -> TokenStream {
    let variants: Vec<_> = methods.iter().map(|method| &method.ident).collect();
    let arguments = methods.iter().map(|method| match &method.role {
        Role::Message => {
            let arguments = arguments_struct(method);
            quote!(#arguments)
        }
        Role::Event { ty, .. } => ty.clone(),
    });
    let results = methods.iter().map(|method| {
        let (value, error) = value_and_error(method);
        quote!(::core::result::Result<#value, #error>)
    });
    let structs = methods
        .iter()
        .filter(|method| matches!(method.role, Role::Message))
        .map(wire::arguments);
    quote! {
        pub enum __Args { #(#variants(#arguments),)* }

        pub enum __Outcome { #(#variants(#results),)* }

        #(#structs)*
    }
}

/// Prints the arm that runs a method.
fn dispatch(method: &Method) -> TokenStream {
    let ident = &method.ident;
    let pattern = match &method.role {
        Role::Message => {
            let arguments = arguments_struct(method);
            let names = method.arguments().map(|argument| &argument.ident);
            quote!(#arguments { #(#names),* })
        }
        Role::Event { .. } => quote!(__event),
    };
    let values = method
        .parameters
        .iter()
        .map(|parameter| match (parameter, &method.role) {
            (Parameter::Ctx, _) => quote!(__ctx),
            (Parameter::Argument(_), Role::Event { .. }) => quote!(__event),
            (Parameter::Argument(argument), Role::Message) => {
                let name = &argument.ident;
                quote!(#name)
            }
        });
    let wait = method.is_async.then(|| quote!(.await));
    // Called by path, an inherent method wins over a trait's method of the same name.
    let run = quote!(Self::#ident(self, #(#values),*) #wait);
    let result = if method.returns.fallible {
        quote!(::actor_core::__private::Outcome::into_result(#run))
    } else {
        quote!(::core::result::Result::Ok(#run))
    };
    quote!(__Args::#ident(#pattern) => __Outcome::#ident(#result),)
}
