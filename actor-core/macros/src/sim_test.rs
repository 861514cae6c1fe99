//! `#[sim::test]`: a test that runs a whole cluster in virtual time.

use proc_macro2::{Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    FnArg, ItemFn, Token, Type, meta::ParseNestedMeta, parenthesized, parse::Parser,
    punctuated::Punctuated,
};

use crate::{
    attributes::{self, Settings},
    problems::{Problems, blame},
};

/// How the settings are written.
const FORMS: &[&str] = &["nodes = 3", "host(Cart, Checkout)", "seeds = 64"];

/// What the attribute sets.
struct Options {
    nodes: u32,
    seeds: u32,
    host: Vec<Type>,
}

/// Expands the attribute; after a mistake only the function is printed.
pub(crate) fn expand(settings: TokenStream, function: &TokenStream) -> TokenStream {
    let mut problems = Problems::default();
    let options = problems.check(parse_options(settings));
    let parsed = match syn::parse2(function.clone()) {
        Ok(parsed) => problems.check(check_function(&parsed)).map(|()| parsed),
        Err(error) => {
            problems.add(error);
            None
        }
    };
    match (options, parsed) {
        (Some(options), Some(function)) => print(&options, function),
        _ => {
            let errors = problems.print();
            quote!(#errors #[allow(dead_code)] #function)
        }
    }
}

/// Reads the settings.
fn parse_options(tokens: TokenStream) -> syn::Result<Options> {
    let mut options = Options {
        nodes: 1,
        seeds: 1,
        host: Vec::new(),
    };
    let mut settings = Settings::new(FORMS);
    let parser = syn::meta::parser(|meta| {
        settings.one(&meta, |key, meta| {
            match key {
                "nodes" => options.nodes = attributes::number(meta, 1..=64)?,
                "seeds" => options.seeds = attributes::number(meta, 1..=100_000)?,
                "host" => options.host = parse_host(meta)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    });
    parser.parse2(tokens)?;
    Ok(options)
}

fn parse_host(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<Type>> {
    if !meta.input.peek(syn::token::Paren) {
        let why = "the hosted kinds stand in parentheses: write `host(Cart, Checkout)`";
        return Err(syn::Error::new_spanned(&meta.path, why));
    }
    let kinds;
    parenthesized!(kinds in meta.input);
    Ok(Punctuated::<Type, Token![,]>::parse_terminated(&kinds)?
        .into_iter()
        .collect())
}

/// Refuses a function that cannot be the body of a simulation.
fn check_function(function: &ItemFn) -> syn::Result<()> {
    let mut problems = Problems::default();
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let why = "a simulation awaits: write `async fn`";
        problems.add(syn::Error::new_spanned(signature.fn_token, why));
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        let why = "a test has no generics: remove them";
        problems.add(syn::Error::new_spanned(&signature.generics, why));
    }
    let why = "a simulation is handed to the test: write one argument, `sim: Sim`";
    match signature.inputs.iter().nth(1).or(signature.inputs.first()) {
        None => problems.add(syn::Error::new_spanned(&signature.ident, why)),
        Some(FnArg::Receiver(receiver)) => problems.add(syn::Error::new_spanned(receiver, why)),
        Some(extra) if signature.inputs.len() > 1 => {
            problems.add(syn::Error::new_spanned(extra, why));
        }
        Some(FnArg::Typed(_)) => {}
    }
    problems.or(())
}

/// Prints the test.
fn print(options: &Options, function: ItemFn) -> TokenStream {
    let host = &options.host;
    let nodes = Literal::u32_unsuffixed(options.nodes);
    let seeds = Literal::u32_unsuffixed(options.seeds);
    let ItemFn {
        attrs,
        vis,
        sig,
        block,
        ..
    } = function;
    let (ident, inputs, output) = (&sig.ident, &sig.inputs, &sig.output);
    let name = ident.to_string();
    // The spans make a kind that cannot be hosted, or a result that is not one, errors of the
    // user's.
    let host = quote_spanned! {host.first().map_or(blame(ident), blame)=>
        <(#(#host,)*) as ::actor_cluster::sim::__private::Component>::install
    };
    let finish = quote_spanned! {blame(output)=>
        ::actor_cluster::sim::__private::finish(__body(sim).await)
    };
    quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #ident() {
            async fn __body(#inputs) #output #block

            ::actor_cluster::sim::__private::run(
                ::actor_cluster::sim::Options {
                    name: ::core::concat!(::core::module_path!(), "::", #name),
                    nodes: #nodes,
                    seeds: #seeds,
                    host: #host,
                },
                |sim| ::std::boxed::Box::pin(async move { #finish }),
            )
        }
    }
}

#[cfg(test)]
mod tests;
