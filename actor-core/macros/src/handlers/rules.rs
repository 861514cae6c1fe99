//! What a message and an event's receiver cannot be.

use syn::{
    Attribute, ImplItemFn, Meta, ReceiverKind, ReturnType, Safety, Signature, Type, Visibility,
    spanned::Spanned,
};

use super::argument;
use crate::problems::Problems;

/// Refuses a mark with settings, and one on a public method.
pub(crate) fn check_mark(mark: &Attribute, function: &ImplItemFn) -> syn::Result<()> {
    let mut problems = Problems::default();
    if !matches!(mark.meta, Meta::Path(_)) {
        let why = "the argument's type says which event it is: write `#[on]`";
        problems.add(syn::Error::new_spanned(mark, why));
    }
    if let Visibility::Public(public) = &function.vis {
        let why = "an `#[on]` method is run by its event, not called: remove `pub`";
        problems.add(syn::Error::new_spanned(public, why));
    }
    problems.or(())
}

/// Refuses a mark with settings, and one on an event's receiver.
pub(crate) fn check_idempotent(mark: &Attribute, is_event: bool) -> syn::Result<()> {
    let mut problems = Problems::default();
    if !matches!(mark.meta, Meta::Path(_)) {
        let why = "it has no settings: write `#[idempotent]`";
        problems.add(syn::Error::new_spanned(mark, why));
    }
    if is_event {
        let why = "an event is received once by itself: remove `#[idempotent]`";
        problems.add(syn::Error::new_spanned(mark, why));
    }
    problems.or(())
}

/// Refuses what a message cannot be.
pub(crate) fn check_shape(function: &ImplItemFn) -> syn::Result<()> {
    let mut problems = Problems::default();
    let signature = &function.sig;
    for attribute in &function.attrs {
        if attribute.path().is_ident("cfg") {
            let why = "every node must know the same messages: remove the `cfg`, \
                       or write it inside the method";
            problems.add(syn::Error::new_spanned(attribute, why));
        }
    }
    let qualifiers = [
        signature
            .constness
            .as_ref()
            .map(|word| ("const", word.span())),
        match &signature.safety {
            Safety::Unsafe(word) => Some(("unsafe", word.span())),
            _ => None,
        },
        signature
            .abi
            .as_ref()
            .map(|abi| ("extern", abi.extern_token.span())),
    ];
    for (word, span) in qualifiers.into_iter().flatten() {
        let why = format!("a message cannot be `{word}`: remove it");
        problems.add(syn::Error::new(span, why));
    }
    let why = "a message has one wire form and so no generics: write plain types";
    if !signature.generics.params.is_empty() {
        problems.add(syn::Error::new_spanned(&signature.generics.params, why));
    } else if let Some(clause) = &signature.generics.where_clause {
        problems.add(syn::Error::new_spanned(clause, why));
    }
    problems.or(())
}

/// Says whether the method writes; refuses a receiver that a message cannot have.
pub(crate) fn check_receiver(signature: &Signature, is_event: bool) -> syn::Result<bool> {
    let Some(receiver) = signature.receiver() else {
        let why = "an `#[on]` method changes the entity: write `&mut self` first";
        return Err(syn::Error::new_spanned(&signature.ident, why));
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, Some(_)) => Ok(true),
        _ if is_event => {
            let why = "an `#[on]` method changes the entity: write `&mut self`";
            Err(syn::Error::new_spanned(receiver, why))
        }
        ReceiverKind::Reference(_, _, None) => Ok(false),
        _ => {
            let why = "the entity stays where it is: write `&self` or `&mut self`";
            Err(syn::Error::new_spanned(receiver, why))
        }
    }
}

/// Refuses a result that nobody would see.
pub(crate) fn check_event_returns(output: &ReturnType) -> syn::Result<()> {
    match output {
        ReturnType::Type(_, ty) if !is_unit(ty) && !argument::is_named(ty, "Result") => {
            let why = "nobody waits for an event's handler: return nothing, or `Result<()>`";
            Err(syn::Error::new_spanned(ty, why))
        }
        _ => Ok(()),
    }
}

fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}
