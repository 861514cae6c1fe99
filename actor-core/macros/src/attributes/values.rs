//! The values of settings: flags, names, numbers and durations, with their bounds.

use std::{ops::RangeInclusive, time::Duration};

use quote::ToTokens;
use syn::{LitInt, LitStr, Token, meta::ParseNestedMeta, parse::Parse};

use crate::naming;

/// Reads a setting that has no value.
pub(crate) fn flag(meta: &ParseNestedMeta<'_>) -> syn::Result<bool> {
    if meta.input.is_empty() || meta.input.peek(Token![,]) {
        return Ok(true);
    }
    let key = meta.path.to_token_stream();
    Err(meta
        .input
        .error(format!("`{key}` has no value: write `{key}` alone")))
}

/// Reads `key = value`.
pub(crate) fn value<T: Parse>(meta: &ParseNestedMeta<'_>, wanted: &str) -> syn::Result<T> {
    let key = meta.path.to_token_stream();
    let input = meta.value().map_err(|_| {
        syn::Error::new_spanned(
            &meta.path,
            format!("`{key}` has a value: write `{key} = {wanted}`"),
        )
    })?;
    input.parse().map_err(|error: syn::Error| {
        syn::Error::new(error.span(), format!("write `{key} = {wanted}`"))
    })
}

/// Reads a duration such as `"10m"` of at least `least`.
pub(crate) fn duration(meta: &ParseNestedMeta<'_>, least: Duration) -> syn::Result<Duration> {
    let text: LitStr = value(meta, "\"10m\"")?;
    match humantime::parse_duration(&text.value()) {
        Err(why) => Err(syn::Error::new_spanned(
            &text,
            format!(
                "not a duration ({why}): write a number and a unit, such as \"30s\" or \"10m\""
            ),
        )),
        Ok(duration) if duration < least => Err(syn::Error::new_spanned(
            &text,
            format!(
                "too short: write at least \"{}\"",
                humantime::format_duration(least)
            ),
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
            format!(
                "out of bounds: write a number from {} to {}",
                bounds.start(),
                bounds.end()
            ),
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

/// Reads the name of a group of shards.
pub(crate) fn group(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let text: LitStr = value(meta, "\"media\"")?;
    if naming::is_name(&text.value()) {
        return Ok(text.value());
    }
    Err(syn::Error::new_spanned(
        &text,
        "not a group: write up to 64 small letters, digits and `-`, beginning with a letter",
    ))
}
