//! Prints how arguments and outcomes become bytes and back.
//!
//! Arguments are an object of named arguments; an event is itself. Of an outcome only the value or
//! the error is written, beside a mark that says which.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::{
    argument::Argument,
    method::{Method, Role},
    print::{arguments_struct, value_and_error},
};
use crate::problems::blame;

/// Prints the struct of a message's arguments.
pub(crate) fn arguments(method: &Method) -> TokenStream {
    let ident = arguments_struct(method);
    // The spans make an argument that cannot be sent an error at its type.
    let fields = method.arguments().map(|argument| {
        let Argument { ident, ty, .. } = argument;
        quote_spanned!(blame(ty)=> pub #ident: #ty)
    });
    let expecting = format!("an object of the arguments of `{}`", method.name());
    quote! {
        #[derive(
            ::actor_core::__private::serde::Serialize,
            ::actor_core::__private::serde::Deserialize,
        )]
        #[serde(
            crate = "::actor_core::__private::serde",
            deny_unknown_fields,
            expecting = #expecting
        )]
        pub struct #ident { #(#fields,)* }
    }
}

/// Prints the methods of `Handlers` that write and read bytes.
pub(crate) fn print(methods: &[Method]) -> TokenStream {
    let encode_args = methods.iter().map(|method| {
        let variant = &method.ident;
        quote!(__Args::#variant(ref args) => codec.encode(args),)
    });
    let decode_args = methods
        .iter()
        .enumerate()
        .map(|(at, method)| decode_args(at, method));
    let encode_outcome = methods.iter().map(encode_outcome);
    let decode_outcome = methods
        .iter()
        .enumerate()
        .map(|(at, method)| decode_outcome(at, method));
    let is_ok = methods.iter().map(|method| {
        let variant = &method.ident;
        quote!(__Outcome::#variant(ref result) => result.is_ok(),)
    });
    let codec = quote!(codec: ::actor_core::__private::Codec);
    let error = quote!(::actor_core::__private::CodecError);
    let encoded = quote!(::actor_core::__private::Encoded);
    let result = quote!(::core::result::Result);
    quote! {
        fn encode_args(
            args: &Self::Args,
            #codec,
        ) -> #result<::std::vec::Vec<u8>, #error> {
            match *args { #(#encode_args)* }
        }

        fn decode_args(method: usize, #codec, bytes: &[u8]) -> #result<Self::Args, #error> {
            match method {
                #(#decode_args)*
                _ => #result::Err(#error::new("no method has this number")),
            }
        }

        fn encode_outcome(outcome: &Self::Outcome, #codec) -> #result<#encoded, #error> {
            match *outcome { #(#encode_outcome)* }
        }

        fn decode_outcome(
            method: usize,
            #codec,
            encoded: &#encoded,
        ) -> #result<Self::Outcome, #error> {
            match (method, encoded.ok) {
                #(#decode_outcome)*
                _ => #result::Err(#error::new("the method has no such outcome")),
            }
        }

        fn is_ok(outcome: &Self::Outcome) -> bool {
            match *outcome { #(#is_ok)* }
        }
    }
}

/// Prints the arm that reads a method's arguments.
fn decode_args(at: usize, method: &Method) -> TokenStream {
    let variant = &method.ident;
    let arguments = arguments_struct(method);
    if matches!(method.role, Role::Message) && method.arguments().next().is_none() {
        // A caller with nothing to say may send an empty object, a null or nothing.
        return quote! {
            #at if bytes.is_empty() => ::core::result::Result::Ok(__Args::#variant(#arguments {})),
            #at => codec
                .decode::<::core::option::Option<#arguments>>(bytes)
                .map(|_| __Args::#variant(#arguments {})),
        };
    }
    quote!(#at => codec.decode(bytes).map(__Args::#variant),)
}

/// Prints the arms that write a method's outcome.
fn encode_outcome(method: &Method) -> TokenStream {
    let variant = &method.ident;
    // The spans make a missing `Serialize` an error at the result's type.
    let encode = quote_spanned!(blame(&method.returns.ty)=> codec.encode(content));
    let error = if method.returns.fallible {
        quote! {
            #encode.map(|bytes| ::actor_core::__private::Encoded { ok: false, bytes })
        }
    } else {
        quote!(match *content {})
    };
    quote! {
        __Outcome::#variant(::core::result::Result::Ok(ref content)) => {
            #encode.map(|bytes| ::actor_core::__private::Encoded { ok: true, bytes })
        }
        __Outcome::#variant(::core::result::Result::Err(ref content)) => #error,
    }
}

/// Prints the arms that read a method's outcome.
fn decode_outcome(at: usize, method: &Method) -> TokenStream {
    let variant = &method.ident;
    let (value, error) = value_and_error(method);
    // The spans make a missing `Deserialize` an error at the result's type.
    let span = blame(&method.returns.ty);
    let decode_value = quote_spanned!(span=> codec.decode::<#value>(&encoded.bytes));
    let decode_error = quote_spanned!(span=> codec.decode::<#error>(&encoded.bytes));
    let failed = method.returns.fallible.then(|| {
        quote! {
            (#at, false) => #decode_error
                .map(|error| __Outcome::#variant(::core::result::Result::Err(error))),
        }
    });
    quote! {
        (#at, true) => #decode_value
            .map(|value| __Outcome::#variant(::core::result::Result::Ok(value))),
        #failed
    }
}
