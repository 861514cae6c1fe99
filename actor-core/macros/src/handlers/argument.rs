//! The parameters of a message: its arguments, and at most one context.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{FnArg, Ident, Pat, PatType, Path, Signature, Type, TypePath, ext::IdentExt};

use super::owned;
use crate::problems::Problems;

/// One parameter after `self`.
pub(crate) enum Parameter {
    /// `ctx: &mut Ctx<Self>`.
    Ctx,
    /// A value that the caller sends.
    Argument(Box<Argument>),
}

/// A value that the caller sends.
pub(crate) struct Argument {
    /// Its name; `None` for the `_` of an event.
    pub(crate) ident: Option<Ident>,
    /// Its type, which names the entity instead of `Self`.
    pub(crate) ty: TokenStream,
    /// The type as the user wrote it.
    pub(crate) written: Type,
}

impl Parameter {
    /// Returns the argument, if it is one.
    pub(crate) fn argument(&self) -> Option<&Argument> {
        match self {
            Self::Ctx => None,
            Self::Argument(argument) => Some(argument),
        }
    }
}

impl Argument {
    /// Returns the name on the wire.
    pub(crate) fn name(&self) -> String {
        self.ident
            .as_ref()
            .map_or_else(String::new, |ident| ident.unraw().to_string())
    }
}

/// Reads the parameters; `_` is a name only where `unnamed` allows it.
pub(crate) fn parse(
    signature: &Signature,
    kind: &Path,
    unnamed: bool,
) -> syn::Result<Vec<Parameter>> {
    let mut problems = Problems::default();
    let mut parameters = Vec::new();
    for input in &signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        let Some(parameter) = problems.check(parse_one(input, kind, unnamed)) else {
            continue;
        };
        let second = matches!(parameter, Parameter::Ctx)
            && parameters
                .iter()
                .any(|earlier| matches!(earlier, Parameter::Ctx));
        if second {
            let why = "there is one context: remove the second `Ctx`";
            problems.add(syn::Error::new_spanned(input, why));
        }
        parameters.push(parameter);
    }
    problems.or(parameters)
}

fn parse_one(input: &PatType, kind: &Path, unnamed: bool) -> syn::Result<Parameter> {
    if let Some(cfg) = input
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("cfg"))
    {
        let why = "a message is the same on every node: remove the `cfg`";
        return Err(syn::Error::new_spanned(cfg, why));
    }
    match &*input.ty {
        Type::Reference(reference) if is_named(&reference.elem, "Ctx") => {
            if reference.mutability.is_some() {
                return Ok(Parameter::Ctx);
            }
            Err(syn::Error::new_spanned(&input.ty, "write `&mut Ctx<Self>`"))
        }
        ty if is_named(ty, "Ctx") => Err(syn::Error::new_spanned(
            ty,
            "the context is lent: write `&mut Ctx<Self>`",
        )),
        ty => {
            let ident = parse_name(&input.pat, unnamed)?;
            owned::check(ty, "arguments")?;
            Ok(Parameter::Argument(Box::new(Argument {
                ident,
                ty: owned::without_self(ty.to_token_stream(), kind),
                written: ty.clone(),
            })))
        }
    }
}

/// Reads a plain name, which is also the argument's name on the wire.
fn parse_name(pattern: &Pat, unnamed: bool) -> syn::Result<Option<Ident>> {
    match pattern {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
            Ok(Some(name.ident.clone()))
        }
        Pat::Wild(_) if unnamed => Ok(None),
        _ => {
            let why = "the argument's name is part of the message: write a plain name";
            Err(syn::Error::new_spanned(pattern, why))
        }
    }
}

/// Says whether the last segment of a path type is `name`.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(TypePath { path, .. })
        if path.segments.last().is_some_and(|last| last.ident == name))
}
