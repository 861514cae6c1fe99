//! One method: what makes it a message, an event's receiver or a helper.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    Attribute, Expr, ExprLit, Ident, ImplItemFn, Lit, Meta, Path, ReturnType, Type, Visibility,
    ext::IdentExt, parse_quote,
};

use super::{
    argument::{self, Argument, Parameter},
    owned, rules,
};
use crate::{naming, problems::Problems};

/// A method that can be sent.
pub(crate) struct Method {
    pub(crate) ident: Ident,
    pub(crate) role: Role,
    /// The documentation, for the method of the reference.
    pub(crate) docs: Vec<Attribute>,
    /// Whether it takes `&mut self`.
    pub(crate) writes: bool,
    /// Whether doing it twice is as good as doing it once.
    pub(crate) idempotent: bool,
    pub(crate) is_async: bool,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) returns: Returns,
}

/// Who sends it.
pub(crate) enum Role {
    /// A caller, by name.
    Message,
    /// Whoever announces the event.
    Event { ty: TokenStream, name: String },
}

/// What it returns.
pub(crate) struct Returns {
    pub(crate) ty: TokenStream,
    /// Whether the type's name is `Result`.
    pub(crate) fallible: bool,
}

impl Method {
    /// Returns the arguments, the context left out.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.parameters.iter().filter_map(Parameter::argument)
    }

    /// Returns the name on the wire.
    pub(crate) fn name(&self) -> String {
        match &self.role {
            Role::Message => self.ident.unraw().to_string(),
            Role::Event { name, .. } => format!("on:{name}"),
        }
    }

    /// Returns the text of the documentation.
    pub(crate) fn docs_text(&self) -> String {
        let lines = self
            .docs
            .iter()
            .filter_map(|attribute| match &attribute.meta {
                Meta::NameValue(pair) => match &pair.value {
                    Expr::Lit(ExprLit {
                        lit: Lit::Str(text),
                        ..
                    }) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            });
        let lines: Vec<String> = lines
            .map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned())
            .collect();
        lines.join("\n").trim().to_owned()
    }
}

/// Takes one of our marks off a method.
pub(crate) fn take_mark(function: &mut ImplItemFn, name: &str) -> Option<Attribute> {
    let is_mark = |attribute: &Attribute| attribute.path().is_ident(name);
    let mark = function.attrs.iter().position(is_mark);
    mark.map(|at| function.attrs.remove(at))
}

/// Reads a method and takes our mark off it; `None` for a helper.
pub(crate) fn parse(function: &mut ImplItemFn, kind: &Path) -> syn::Result<Option<Method>> {
    let mark = take_mark(function, "on");
    let idempotent = take_mark(function, "idempotent");
    let is_public = matches!(function.vis, Visibility::Public(_));
    if mark.is_none() && (!is_public || function.sig.receiver().is_none()) {
        return Ok(None);
    }
    let mut problems = Problems::default();
    if let Some(mark) = &mark {
        problems.check(rules::check_mark(mark, function));
    }
    if let Some(idempotent) = &idempotent {
        problems.check(rules::check_idempotent(idempotent, mark.is_some()));
    }
    problems.check(rules::check_shape(function));
    let receiver = problems.check(rules::check_receiver(&function.sig, mark.is_some()));
    let parameters = problems.check(argument::parse(&function.sig, kind, mark.is_some()));
    let returns = problems.check(parse_returns(&function.sig.output, kind));
    let role = match &parameters {
        Some(parameters) if mark.is_some() => {
            problems.check(parse_event(&function.sig.ident, parameters))
        }
        _ => Some(Role::Message),
    };
    if mark.is_some() {
        problems.check(rules::check_event_returns(&function.sig.output));
    }
    let parsed = (|| {
        Some(Method {
            ident: function.sig.ident.clone(),
            role: role?,
            docs: copied(&function.attrs),
            writes: receiver?,
            idempotent: idempotent.is_some(),
            is_async: function.sig.asyncness.is_some(),
            parameters: parameters?,
            returns: returns?,
        })
    })();
    problems.or(())?;
    soften(function);
    Ok(parsed)
}

/// Returns the attributes that the reference's method shares.
fn copied(attributes: &[Attribute]) -> Vec<Attribute> {
    let shared = |attribute: &&Attribute| {
        attribute.path().is_ident("doc") || attribute.path().is_ident("deprecated")
    };
    attributes.iter().filter(shared).cloned().collect()
}

/// Silences lints that would advise against what a message must be.
fn soften(function: &mut ImplItemFn) {
    function.attrs.push(parse_quote! {
        #[allow(
            clippy::must_use_candidate,
            clippy::needless_pass_by_ref_mut,
            clippy::needless_pass_by_value,
            clippy::unused_async,
            clippy::unused_self,
            unreachable_pub
        )]
    });
}

fn parse_returns(output: &ReturnType, kind: &Path) -> syn::Result<Returns> {
    let ReturnType::Type(_, ty) = output else {
        return Ok(Returns {
            ty: quote!(()),
            fallible: false,
        });
    };
    owned::check(ty, "results")?;
    Ok(Returns {
        ty: owned::without_self(ty.to_token_stream(), kind),
        fallible: argument::is_named(ty, "Result"),
    })
}

/// Reads the event from the only argument.
fn parse_event(ident: &Ident, parameters: &[Parameter]) -> syn::Result<Role> {
    let mut events = parameters.iter().filter_map(Parameter::argument);
    let why = "an `#[on]` method receives one event: write `event: OrderPlaced`";
    let Some(event) = events.next() else {
        return Err(syn::Error::new_spanned(ident, why));
    };
    if let Some(extra) = events.next() {
        return Err(syn::Error::new_spanned(&extra.written, why));
    }
    match &event.written {
        Type::Path(path) if path.qself.is_none() => {
            let last = path.path.segments.last().map(|last| last.ident.to_string());
            let name = naming::kebab(&last.unwrap_or_default());
            Ok(Role::Event {
                ty: event.ty.clone(),
                name,
            })
        }
        other => {
            let why = "an event is a type with a name: write a struct that derives `Event`";
            Err(syn::Error::new_spanned(other, why))
        }
    }
}
