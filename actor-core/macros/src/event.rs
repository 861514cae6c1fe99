//! `#[derive(Event)]`: a name, a topic, and the field that names who receives it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Data, DeriveInput, Ident, LitStr, Member};

use crate::{
    attributes::{self, Settings},
    naming,
    problems::{Problems, blame},
};

/// How the settings of `#[event(...)]` are written.
const FORMS: &[&str] = &["topic = \"orders\"", "key = field", "name = \"wire-name\""];

/// An event to print.
struct Event {
    ident: Ident,
    name: String,
    topic: String,
    key: Option<Member>,
}

/// Expands the derive.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut problems = Problems::default();
    let parsed = parse(&input, &mut problems);
    let printed = problems.check(parsed).map(|event| print(&event));
    let errors = problems.print();
    quote!(#printed #errors)
}

/// Reads the type; settings that are wrong are noted and left empty.
fn parse(input: &DeriveInput, problems: &mut Problems) -> syn::Result<Event> {
    attributes::refuse_generics(input, "an event")?;
    let (mut name, mut topic, mut key) = (None, None, None);
    let read = Settings::new(FORMS).read(&input.attrs, "event", |setting, meta| {
        match setting {
            "topic" => topic = Some(read_topic(&attributes::value(meta, "\"orders\"")?)?),
            "key" => key = Some(find(input, attributes::value(meta, "field")?)?),
            "name" => name = Some(attributes::name(meta)?),
            _ => return Ok(false),
        }
        Ok(true)
    });
    // One mistake makes one message: a topic that could not be read is not also a missing one.
    if problems.check(read).is_some() && topic.is_none() {
        let why = "an event is announced on a topic: write `#[event(topic = \"orders\")]`";
        problems.add(syn::Error::new_spanned(&input.ident, why));
    }
    let name = match name {
        Some(name) => name,
        None => attributes::default_name(input, "name")?,
    };
    Ok(Event {
        ident: input.ident.clone(),
        name,
        topic: topic.unwrap_or_default(),
        key,
    })
}

fn read_topic(text: &LitStr) -> syn::Result<String> {
    if naming::is_topic(&text.value()) {
        return Ok(text.value());
    }
    let why = "not a topic: write 1 to 128 small letters, digits, `/`, `_`, `.` and `-`";
    Err(syn::Error::new_spanned(text, why))
}

/// Finds the field that `key` names.
fn find(input: &DeriveInput, key: Member) -> syn::Result<Member> {
    let Data::Struct(data) = &input.data else {
        let why = "only a `struct` has the fields a key is taken from: remove `key`";
        return Err(syn::Error::new_spanned(key, why));
    };
    if data.fields.members().any(|member| member == key) {
        return Ok(key);
    }
    let names: Vec<String> = data
        .fields
        .members()
        .map(|member| member.to_token_stream().to_string())
        .collect();
    let (ident, key_text) = (&input.ident, key.to_token_stream());
    let why = if names.is_empty() {
        format!("`{ident}` has no fields: remove `key`")
    } else {
        format!(
            "`{ident}` has no field `{key_text}`: write one of `{}`",
            names.join("`, `")
        )
    };
    Err(syn::Error::new_spanned(key, why))
}

/// Prints the impl.
fn print(event: &Event) -> TokenStream {
    let Event {
        ident,
        name,
        topic,
        key,
    } = event;
    let quiet = attributes::quiet();
    let key = key.as_ref().map_or_else(
        || quote!(::core::option::Option::None),
        |key| {
            // The span makes a missing `Display` an error at the key.
            let text = quote_spanned! {blame(key)=>
                ::std::string::ToString::to_string(&self.#key)
            };
            quote!(::core::option::Option::Some(#text))
        },
    );
    quote! {
        #quiet
        const _: () = {
            impl ::actor_core::__private::Event for #ident {
                const NAME: &'static str = #name;
                const TOPIC: &'static str = #topic;

                fn key(&self) -> ::core::option::Option<::std::string::String> {
                    #key
                }
            }
        };
    }
}

#[cfg(test)]
mod tests;
