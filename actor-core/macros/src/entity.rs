//! `#[derive(Entity)]`: a kind, its options, and the type of its references.

mod reference;

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, Ident, Visibility};

use crate::{
    attributes::{self, Settings},
    problems::{Problems, blame},
};

/// How the settings of `#[entity(...)]` are written.
const FORMS: &[&str] = &[
    "durable",
    "version = 2",
    "passivate = \"10m\"",
    "mailbox = 100",
    "key_retention = \"24h\"",
    "expose",
    "kind = \"wire-name\"",
];

/// The shortest passivation and key retention.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// An entity to print.
pub(crate) struct Entity {
    pub(crate) ident: Ident,
    pub(crate) visibility: Visibility,
    kind: String,
    options: Options,
}

/// What `#[entity(...)]` sets.
#[derive(Default)]
struct Options {
    kind: Option<String>,
    /// Where `durable` is written, for errors about what it needs.
    durable: Option<Span>,
    version: Option<(u32, Span)>,
    passivate: Option<Duration>,
    mailbox: Option<usize>,
    key_retention: Option<Duration>,
    exposed: bool,
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
    Ok(Entity { ident: input.ident.clone(), visibility: input.vis.clone(), kind, options })
}

impl Options {
    fn read(&mut self, input: &DeriveInput) -> syn::Result<()> {
        Settings::new(FORMS).read(&input.attrs, "entity", |key, meta| {
            let span = blame(&meta.path);
            match key {
                "durable" => self.durable = attributes::flag(meta)?.then_some(span),
                "version" => {
                    self.version = Some((attributes::number(meta, 1..=u32::MAX)?, span));
                }
                "passivate" => self.passivate = Some(attributes::duration(meta, DURATION_MIN)?),
                "mailbox" => {
                    self.mailbox = Some(attributes::number(meta, 1..=u32::MAX)? as usize);
                }
                "key_retention" => {
                    self.key_retention = Some(attributes::duration(meta, DURATION_MIN)?);
                }
                "expose" => self.exposed = attributes::flag(meta)?,
                "kind" => self.kind = Some(attributes::name(meta)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        match self.version {
            Some((_, span)) if self.durable.is_none() => Err(syn::Error::new(
                span,
                "only stored state has a version: add `durable` or remove `version`",
            )),
            _ => Ok(()),
        }
    }

    fn print(&self) -> TokenStream {
        let passivate = self.passivate.map(|after| field("passivate", after));
        let key_retention = self.key_retention.map(|after| field("key_retention", after));
        let mailbox = self.mailbox.map(|most| quote!(mailbox: #most,));
        let exposed = self.exposed.then(|| quote!(exposed: true,));
        quote! {
            ::actor_core::__private::EntityOptions {
                #passivate #key_retention #mailbox #exposed
                ..::actor_core::__private::EntityOptions::DEFAULT
            }
        }
    }

    fn print_durable(&self) -> TokenStream {
        let version = self.version.map_or(1, |(version, _)| version);
        match self.durable {
            // The span makes a missing `Serialize` an error at `durable`.
            Some(span) => quote_spanned! {span=>
                ::core::option::Option::Some(::actor_core::__private::Durable::msgpack(#version))
            },
            None => quote!(::core::option::Option::None),
        }
    }
}

fn field(name: &str, value: Duration) -> TokenStream {
    let name = Ident::new(name, Span::call_site());
    let (seconds, nanos) = (value.as_secs(), value.subsec_nanos());
    quote!(#name: ::actor_core::__private::Duration::new(#seconds, #nanos),)
}

/// Prints the impls and the reference type.
fn print(entity: &Entity) -> TokenStream {
    let Entity { ident, kind, options, .. } = entity;
    let quiet = attributes::quiet();
    let reference = reference::print(entity);
    let durable = options.print_durable();
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
