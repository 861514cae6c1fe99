//! What all macros share: reading settings, checking the type, quieting lints.

mod values;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, DeriveInput, meta::ParseNestedMeta};

pub(crate) use values::{duration, flag, group, name, number, value};

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
        Self {
            forms,
            seen: Vec::new(),
        }
    }

    /// Reads every `#[name(...)]` among the attributes, handing each setting to `read`.
    pub(crate) fn read(
        mut self,
        attributes: &[Attribute],
        name: &str,
        mut read: impl FnMut(&str, &ParseNestedMeta<'_>) -> syn::Result<bool>,
    ) -> syn::Result<()> {
        for attribute in attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident(name))
        {
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
