//! `#[derive(Entity)]`: a kind, its options, and the type of its references.

mod options;
mod reference;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, Ident, Visibility};

use crate::{
    attributes,
    problems::{Problems, blame},
};
use options::Options;

/// An entity to print.
pub(crate) struct Entity {
    pub(crate) ident: Ident,
    pub(crate) visibility: Visibility,
    kind: String,
    options: Options,
}

/// Expands the derive.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut problems = Problems::default();
    let parsed = parse(&input, &mut problems);
    let printed = problems.check(parsed).map(|entity| print(&entity));
    let errors = problems.print();
    quote!(#printed #errors)
}

/// Reads the type; settings that are wrong are noted and left at their default.
fn parse(input: &DeriveInput, problems: &mut Problems) -> syn::Result<Entity> {
    attributes::refuse_generics(input, "an entity")?;
    if let Data::Union(data) = &input.data {
        let why = "a union cannot be an entity: write a `struct` or an `enum`";
        return Err(syn::Error::new_spanned(data.union_token, why));
    }
    let mut options = Options::default();
    problems.check(options.read(input));
    let kind = match options.kind.take() {
        Some(kind) => kind,
        None => attributes::default_name(input, "kind")?,
    };
    Ok(Entity {
        ident: input.ident.clone(),
        visibility: input.vis.clone(),
        kind,
        options,
    })
}

/// Prints the impls and the reference type.
fn print(entity: &Entity) -> TokenStream {
    let Entity {
        ident,
        kind,
        options,
        ..
    } = entity;
    let quiet = attributes::quiet();
    let reference = reference::print(entity);
    let (durable, group) = (options.print_durable(), options.print_group());
    let options = options.print();
    // The spans make a missing `Default` or `#[handlers]` an error at the type's name.
    let create = quote_spanned!(blame(ident)=> <#ident as ::core::default::Default>::default());
    let install = quote_spanned! {blame(ident)=>
        ::actor_core::__private::install_entity::<#ident>(registry)
    };
    quote! {
        #reference

        #quiet
        const _: () = {
            impl ::actor_core::__private::Entity for #ident {
                const KIND: &'static str = #kind;
                const OPTIONS: ::actor_core::__private::EntityOptions = #options;
                #group
                const DURABLE: ::core::option::Option<::actor_core::__private::Durable<Self>> =
                    #durable;

                fn create() -> Self {
                    #create
                }
            }

            impl ::actor_core::__private::Component for #ident {
                fn install(registry: &mut ::actor_core::__private::Registry) {
                    #install
                }
            }
        };
    }
}

#[cfg(test)]
mod tests;
