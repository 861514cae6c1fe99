//! The settings of an attribute: flags, names, numbers and durations, with their bounds.

use std::{ops::RangeInclusive, time::Duration};

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, DeriveInput, LitInt, LitStr, Token, meta::ParseNestedMeta, parse::Parse};

use crate::naming;

/// The keys of one attribute: which exist, and which were set already.
pub(crate) struct Settings {
    /// How each setting is written.
    forms: &'static [&'static str],
    seen: Vec<String>,
}

impl Settings {
    /// Starts with no setting seen.
    pub(crate) fn new(forms: &'static [&'static str]) -> Self {
        Self { forms, seen: Vec::new() }
    }

    /// Reads every `#[name(...)]` among the attributes, handing each setting to `read`.
    pub(crate) fn read(
        mut self,
        attributes: &[Attribute],
        name: &str,
        mut read: impl FnMut(&str, &ParseNestedMeta<'_>) -> syn::Result<bool>,
    ) -> syn::Result<()> {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
            attribute.parse_nested_meta(|meta| self.one(&meta, &mut read))?;
        }
        Ok(())
    }

    /// Reads one setting; `read` returns whether it knows the key.
    pub(crate) fn one(
        &mut self,
        meta: &ParseNestedMeta<'_>,
        read: impl FnOnce(&str, &ParseNestedMeta<'_>) -> syn::Result<bool>,
    ) -> syn::Result<()> {
        let key = meta.path.to_token_stream().to_string();
        let fail = |why| Err(syn::Error::new_spanned(&meta.path, why));
        if self.seen.contains(&key) {
            return fail(format!("`{key}` is set twice: remove one"));
        }
        if !read(&key, meta)? {
            let forms = self.forms.join("`, `");
            return fail(format!("`{key}` is not a setting: write one of `{forms}`"));
        }
        self.seen.push(key);
        Ok(())
    }
}

/// Reads a setting that has no value.
pub(crate) fn flag(meta: &ParseNestedMeta<'_>) -> syn::Result<bool> {
    if meta.input.is_empty() || meta.input.peek(Token![,]) {
        return Ok(true);
    }
    let key = meta.path.to_token_stream();
    Err(meta.input.error(format!("`{key}` has no value: write `{key}` alone")))
}

/// Reads `key = value`.
pub(crate) fn value<T: Parse>(meta: &ParseNestedMeta<'_>, wanted: &str) -> syn::Result<T> {
    let key = meta.path.to_token_stream();
    let input = meta.value().map_err(|_| {
        syn::Error::new_spanned(&meta.path, format!("`{key}` has a value: write `{key} = {wanted}`"))
    })?;
    input
        .parse()
        .map_err(|error: syn::Error| {
            syn::Error::new(error.span(), format!("write `{key} = {wanted}`"))
        })
}

/// Reads a duration such as `"10m"` of at least `least`.
pub(crate) fn duration(meta: &ParseNestedMeta<'_>, least: Duration) -> syn::Result<Duration> {
    let text: LitStr = value(meta, "\"10m\"")?;
    match humantime::parse_duration(&text.value()) {
        Err(why) => Err(syn::Error::new_spanned(
            &text,
            format!("not a duration ({why}): write a number and a unit, such as \"30s\" or \"10m\""),
        )),
        Ok(duration) if duration < least => Err(syn::Error::new_spanned(
            &text,
            format!("too short: write at least \"{}\"", humantime::format_duration(least)),
        )),
        Ok(duration) => Ok(duration),
    }
}

/// Reads a whole number within `bounds`.
pub(crate) fn number(meta: &ParseNestedMeta<'_>, bounds: RangeInclusive<u32>) -> syn::Result<u32> {
    let literal: LitInt = value(meta, &bounds.start().to_string())?;
    match literal.base10_parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(syn::Error::new_spanned(
            &literal,
            format!("out of bounds: write a number from {} to {}", bounds.start(), bounds.end()),
        )),
    }
}

/// Reads a wire name.
pub(crate) fn name(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let text: LitStr = value(meta, "\"wire-name\"")?;
    if naming::is_name(&text.value()) {
        return Ok(text.value());
    }
    Err(syn::Error::new_spanned(
        &text,
        "not a wire name: write up to 64 small letters, digits and `-`, beginning with a letter",
    ))
}

/// Returns the wire name a type has when none is set.
pub(crate) fn default_name(input: &DeriveInput, key: &str) -> syn::Result<String> {
    let name = naming::kebab(&input.ident.to_string());
    if naming::is_name(&name) {
        return Ok(name);
    }
    let why = format!("`{name}` is not a wire name: set one with `{key} = \"wire-name\"`");
    Err(syn::Error::new_spanned(&input.ident, why))
}

/// Refuses generics: one generic type would be many kinds under one wire name.
pub(crate) fn refuse_generics(input: &DeriveInput, what: &str) -> syn::Result<()> {
    if input.generics.params.is_empty() && input.generics.where_clause.is_none() {
        return Ok(());
    }
    let tokens = if input.generics.params.is_empty() {
        input.generics.where_clause.to_token_stream()
    } else {
        input.generics.params.to_token_stream()
    };
    let why = format!(
        "{what} has one stable wire name and so no generics: write a plain type for each kind"
    );
    Err(syn::Error::new_spanned(tokens, why))
}

/// Prints the attribute that keeps lints about style away from code nobody wrote.
pub(crate) fn quiet() -> TokenStream {
    quote! {
        #[allow(
            clippy::all,
            clippy::pedantic,
            dead_code,
            deprecated,
            missing_debug_implementations,
            missing_docs,
            non_camel_case_types,
            private_interfaces,
            unreachable_patterns,
            unreachable_pub,
            unused_qualifications
        )]
    }
}
