//! What `#[entity(...)]` sets.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Ident, LitStr, meta::ParseNestedMeta, spanned::Spanned};

use crate::attributes::{self, Settings};

/// How the settings of `#[entity(...)]` are written.
const FORMS: &[&str] = &[
    "durable",
    "version = 2",
    "passivate = \"10m\"",
    "mailbox = 100",
    "key_retention = \"24h\"",
    "takeover = \"lease\"",
    "expose",
    "group = \"media\"",
    "kind = \"wire-name\"",
];

/// The shortest passivation and key retention.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// When a new owner may begin.
#[derive(Clone, Copy)]
enum Takeover {
    Early,
    Lease,
}

/// The settings.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) kind: Option<String>,
    /// Where `durable` is written, for errors about what it needs.
    durable: Option<Span>,
    version: Option<(u32, Span)>,
    passivate: Option<Duration>,
    mailbox: Option<usize>,
    key_retention: Option<Duration>,
    takeover: Option<Takeover>,
    exposed: bool,
    group: Option<String>,
}

impl Options {
    /// Reads every `#[entity(...)]`.
    pub(crate) fn read(&mut self, input: &DeriveInput) -> syn::Result<()> {
        Settings::new(FORMS).read(&input.attrs, "entity", |key, meta| {
            let span = meta.path.span();
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
                "takeover" => self.takeover = Some(takeover(meta)?),
                "expose" => self.exposed = attributes::flag(meta)?,
                "group" => self.group = Some(attributes::group(meta)?),
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

    /// Prints the options.
    pub(crate) fn print(&self) -> TokenStream {
        let passivate = self.passivate.map(|after| field("passivate", after));
        let key_retention = self
            .key_retention
            .map(|after| field("key_retention", after));
        let mailbox = self.mailbox.map(|most| quote!(mailbox: #most,));
        let takeover = self.takeover.map(|takeover| match takeover {
            Takeover::Early => quote!(takeover: ::actor_core::__private::Takeover::Early,),
            Takeover::Lease => quote!(takeover: ::actor_core::__private::Takeover::Lease,),
        });
        let exposed = self.exposed.then(|| quote!(exposed: true,));
        quote! {
            ::actor_core::__private::EntityOptions {
                #passivate #key_retention #mailbox #takeover #exposed
                ..::actor_core::__private::EntityOptions::DEFAULT
            }
        }
    }

    /// Prints the group, if it is not the default one.
    pub(crate) fn print_group(&self) -> Option<TokenStream> {
        let group = self.group.as_ref()?;
        Some(quote!(const GROUP: &'static str = #group;))
    }

    /// Prints how the state is stored.
    pub(crate) fn print_durable(&self) -> TokenStream {
        let version = self.version.map_or(1, |(version, _)| version);
        match self.durable {
            // The span makes a missing `Serialize` an error at `durable`.
            Some(span) => quote_spanned! {span.resolved_at(Span::call_site())=>
                ::core::option::Option::Some(::actor_core::__private::Durable::msgpack(#version))
            },
            None => quote!(::core::option::Option::None),
        }
    }
}

/// Reads when a new owner may begin.
fn takeover(meta: &ParseNestedMeta<'_>) -> syn::Result<Takeover> {
    let text: LitStr = attributes::value(meta, "\"lease\"")?;
    match text.value().as_str() {
        "early" => Ok(Takeover::Early),
        "lease" => Ok(Takeover::Lease),
        _ => Err(syn::Error::new_spanned(
            &text,
            "not a takeover: write \"early\" or \"lease\"",
        )),
    }
}

fn field(name: &str, value: Duration) -> TokenStream {
    let name = Ident::new(name, Span::call_site());
    let (seconds, nanos) = (value.as_secs(), value.subsec_nanos());
    quote!(#name: ::actor_core::__private::Duration::new(#seconds, #nanos),)
}
