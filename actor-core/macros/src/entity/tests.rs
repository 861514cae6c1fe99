//! What the derive prints and refuses.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;
use crate::checking::{messages, tokens};

/// Returns what is refused about `#[entity(...)]` with these settings.
fn refusals(settings: &TokenStream) -> Vec<String> {
    messages(expand(quote!(
        #[entity(#settings)]
        struct Cart;
    )))
}

#[test]
fn an_entity_without_settings_is_volatile_and_has_the_defaults() {
    let printed = expand(tokens("pub struct ShoppingCart;")).to_string();

    assert!(
        printed.contains("const KIND : & 'static str = \"shopping-cart\""),
        "{printed}"
    );
    assert!(printed.contains("EntityOptions { .. ::"), "{printed}");
    assert!(
        printed.contains(":: core :: option :: Option :: None"),
        "{printed}"
    );
}

#[test]
fn every_setting_is_printed() {
    let printed = expand(quote! {
        #[entity(durable, version = 2, passivate = "1500ms", mailbox = 7)]
        #[entity(key_retention = "1h", takeover = "lease", expose)]
        #[entity(group = "media", kind = "basket")]
        struct Cart;
    });
    let text = printed.to_string();

    assert_eq!(messages(printed), Vec::<String>::new());
    for part in [
        "= \"basket\"",
        "msgpack (2u32)",
        "passivate : :: actor_core :: __private :: Duration :: new (1u64 , 500000000u32)",
        "key_retention : :: actor_core :: __private :: Duration :: new (3600u64 , 0u32)",
        "mailbox : 7usize",
        "takeover : :: actor_core :: __private :: Takeover :: Lease",
        "exposed : true",
        "const GROUP : & 'static str = \"media\"",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn the_reference_has_the_visibility_of_its_entity() {
    for visibility in [quote!(), quote!(pub), quote!(pub(crate))] {
        let printed = expand(quote!(#visibility struct Cart;)).to_string();

        assert!(
            printed.contains(&quote!(#visibility struct CartRef).to_string()),
            "{printed}"
        );
    }
}

#[test]
fn a_setting_out_of_bounds_is_refused() {
    let cases = [
        (
            quote!(passivate = "999ms"),
            "too short: write at least \"1s\"",
        ),
        (
            quote!(key_retention = "0s"),
            "too short: write at least \"1s\"",
        ),
        (
            quote!(mailbox = 0),
            "out of bounds: write a number from 1 to 4294967295",
        ),
        (
            quote!(durable, version = 0),
            "out of bounds: write a number from 1 to 4294967295",
        ),
        (quote!(passivate = "soon"), "not a duration ("),
        (quote!(kind = "Cart"), "not a wire name: "),
        (
            quote!(takeover = "never"),
            "not a takeover: write \"early\" or \"lease\"",
        ),
    ];
    for (settings, expected) in cases {
        let refused = refusals(&settings);

        assert!(
            refused.len() == 1 && refused[0].starts_with(expected),
            "{refused:?}"
        );
    }
}

#[test]
fn a_setting_of_the_wrong_form_is_refused_with_the_right_one() {
    let cases = [
        (
            quote!(passivate),
            "`passivate` has a value: write `passivate = \"10m\"`",
        ),
        (quote!(passivate = 600), "write `passivate = \"10m\"`"),
        (quote!(mailbox = "7"), "write `mailbox = 1`"),
        (quote!(takeover = lease), "write `takeover = \"lease\"`"),
        (
            quote!(durable = true),
            "`durable` has no value: write `durable` alone",
        ),
        (
            quote!(durable, durable),
            "`durable` is set twice: remove one",
        ),
        (
            quote!(version = 2),
            "only stored state has a version: add `durable` or remove `version`",
        ),
    ];
    for (settings, expected) in cases {
        assert_eq!(refusals(&settings), [expected]);
    }
}

#[test]
fn an_unknown_setting_lists_what_is_accepted() {
    let refused = refusals(&quote!(persistent));

    assert_eq!(
        refused,
        [
            "`persistent` is not a setting: write one of `durable`, `version = 2`, \
          `passivate = \"10m\"`, `mailbox = 100`, `key_retention = \"24h\"`, \
          `takeover = \"lease\"`, `expose`, `group = \"media\"`, \
          `kind = \"wire-name\"`"
        ]
    );
}

#[test]
fn a_wrong_setting_leaves_an_entity_so_that_nothing_else_fails() {
    let printed = expand(tokens("#[entity(persistent)] struct Cart;")).to_string();

    assert!(
        printed.contains("__private :: Entity for Cart"),
        "{printed}"
    );
    assert!(printed.contains("struct CartRef"), "{printed}");
}

#[test]
fn generics_and_unions_are_refused() {
    let refused = [
        tokens("struct Cart<T>(T);"),
        tokens("struct Cart where u8: Copy;"),
        tokens("union Cart { a: u8 }"),
    ]
    .map(|item| messages(expand(item)).concat());

    assert!(refused[0].contains("no generics"), "{refused:?}");
    assert!(refused[1].contains("no generics"), "{refused:?}");
    assert!(
        refused[2].contains("write a `struct` or an `enum`"),
        "{refused:?}"
    );
}

#[test]
fn a_name_that_has_no_wire_form_asks_for_one() {
    let refused = messages(expand(tokens("struct Café;")));

    assert_eq!(
        refused,
        ["`café` is not a wire name: set one with `kind = \"wire-name\"`"]
    );
}
