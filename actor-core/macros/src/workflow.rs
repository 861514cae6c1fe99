//! `#[derive(Workflow)]`: a recipe's name, version and output.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Ident, Type, parse_quote};

use crate::{
    attributes::{self, Settings},
    problems::{Problems, blame},
};

/// How the settings of `#[workflow(...)]` are written.
const FORMS: &[&str] = &[
    "output = Type",
    "version = 2",
    "expose",
    "group = \"media\"",
    "kind = \"wire-name\"",
];

/// A workflow to print.
struct Workflow {
    ident: Ident,
    kind: String,
    output: Type,
    version: u32,
    exposed: bool,
    group: Option<String>,
}

/// Expands the derive.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut problems = Problems::default();
    let parsed = parse(&input, &mut problems);
    let printed = problems.check(parsed).map(|workflow| print(&workflow));
    let errors = problems.print();
    quote!(#printed #errors)
}

/// Reads the type; settings that are wrong are noted and left at their default.
fn parse(input: &DeriveInput, problems: &mut Problems) -> syn::Result<Workflow> {
    attributes::refuse_generics(input, "a workflow")?;
    let mut kind = None;
    let mut output = parse_quote!(());
    let (mut version, mut exposed, mut group) = (1, false, None);
    let read = Settings::new(FORMS).read(&input.attrs, "workflow", |setting, meta| {
        match setting {
            "output" => output = attributes::value(meta, "Type")?,
            "version" => version = attributes::number(meta, 1..=u32::MAX)?,
            "expose" => exposed = attributes::flag(meta)?,
            "group" => group = Some(attributes::group(meta)?),
            "kind" => kind = Some(attributes::name(meta)?),
            _ => return Ok(false),
        }
        Ok(true)
    });
    problems.check(read);
    let kind = match kind {
        Some(kind) => kind,
        None => attributes::default_name(input, "kind")?,
    };
    Ok(Workflow {
        ident: input.ident.clone(),
        kind,
        output,
        version,
        exposed,
        group,
    })
}

/// Prints the impls.
fn print(workflow: &Workflow) -> TokenStream {
    let Workflow {
        ident,
        kind,
        output,
        version,
        exposed,
        group,
    } = workflow;
    let group = group
        .as_ref()
        .map(|group| quote!(const GROUP: &'static str = #group;));
    let quiet = attributes::quiet();
    // The span makes a missing `impl Run` an error at the type's name.
    let install = quote_spanned! {blame(ident)=>
        ::actor_workflow::__private::install::<#ident>(registry)
    };
    quote! {
        #quiet
        const _: () = {
            impl ::actor_workflow::Workflow for #ident {
                type Output = #output;
                const KIND: &'static str = #kind;
                #group
                const VERSION: u32 = #version;
                const EXPOSED: bool = #exposed;
            }

            impl ::actor_workflow::__private::Component for #ident {
                fn install(registry: &mut ::actor_workflow::__private::Registry) {
                    #install
                }
            }
        };
    }
}

#[cfg(test)]
mod tests;
