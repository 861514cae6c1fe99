//! What the attribute makes of a block.

mod refusals;

use proc_macro2::TokenStream;
use quote::quote;

use super::{Handlers, expand, parse};
use crate::{checking::tokens, problems::Problems};

/// Reads a block that has no mistakes.
fn parsed(block: TokenStream) -> Handlers {
    let mut problems = Problems::default();
    let handlers = parse(syn::parse2(block).expect("an impl"), &mut problems);
    problems.or(()).expect("no mistakes");
    handlers.expect("a plain type")
}

#[test]
fn only_public_methods_and_marked_ones_are_sent() {
    let handlers = parsed(quote! {
        impl Cart {
            pub const LIMIT: u32 = 3;
            pub fn add(&mut self) {}
            pub async fn total(&self) -> u64 { 0 }
            pub fn new() -> Self { Self }
            pub(crate) fn near(&self) {}
            fn helper<T>(self, t: &T) -> &T { t }
            #[on] fn ordered(&mut self, _: crate::OrderPlaced) {}
        }
    });

    let sent: Vec<_> = handlers
        .methods
        .iter()
        .map(|method| (method.name(), method.writes, method.is_async))
        .collect();
    assert_eq!(
        sent,
        [
            ("add".to_owned(), true, false),
            ("total".to_owned(), false, true),
            ("on:order-placed".to_owned(), true, false),
        ]
    );
}

#[test]
fn the_context_may_stand_anywhere_and_is_no_argument() {
    for parameters in [
        quote!(ctx: &mut Ctx<Self>, sku: Sku, n: u32),
        quote!(sku: Sku, _: &mut actor_core::Ctx<Self>, n: u32),
        quote!(mut sku: Sku, n: u32, ctx: &mut Ctx<Cart>,),
    ] {
        let handlers = parsed(quote!(impl Cart { pub fn add(&self, #parameters) {} }));

        let names: Vec<_> = handlers.methods[0]
            .arguments()
            .map(|one| one.name())
            .collect();
        assert_eq!(names, ["sku", "n"]);
    }
}

#[test]
fn a_result_is_recognized_by_its_last_segment() {
    let cases = [
        (quote!(), false),
        (quote!(-> Money), false),
        (quote!(-> Option<Result<u8>>), false),
        (quote!(-> Result<u8>), true),
        (quote!(-> std::io::Result<u8>), true),
    ];
    for (output, fallible) in cases {
        let handlers = parsed(quote!(impl Cart { pub fn get(&self) #output {} }));

        assert_eq!(handlers.methods[0].returns.fallible, fallible, "{output}");
    }
}

#[test]
fn self_in_a_type_becomes_the_entity() {
    let handlers = parsed(tokens(
        "impl shop::Cart { pub fn merge(&mut self, all: Vec<[Self; 2]>) {} }",
    ));

    let argument = handlers.methods[0]
        .arguments()
        .next()
        .expect("one argument");
    assert_eq!(argument.ty.to_string(), "Vec < [shop :: Cart ; 2] >");
}

#[test]
fn documentation_is_text_on_the_method_and_docs_on_the_reference() {
    let block = quote! {
        impl Cart {
            /// Adds one.
            ///
            ///     code
            #[deprecated]
            pub fn add(&mut self) {}
        }
    };
    let handlers = parsed(block.clone());
    let printed = expand(&quote!(), block).to_string();

    assert_eq!(handlers.methods[0].docs_text(), "Adds one.\n\n    code");
    assert_eq!(
        printed.matches("# [doc = r\" Adds one.\"]").count(),
        2,
        "{printed}"
    );
    assert_eq!(printed.matches("# [deprecated]").count(), 2, "{printed}");
}

#[test]
fn our_mark_is_taken_off() {
    let printed = expand(
        &quote!(),
        tokens("impl Cart { #[on] fn a(&mut self, e: E) {} }"),
    )
    .to_string();

    assert!(!printed.contains("# [on]"), "{printed}");
    assert!(printed.contains("On < E > for Cart"), "{printed}");
}
