//! What the derive prints and refuses.

use quote::quote;

use super::expand;
use crate::checking::{messages, tokens};

#[test]
fn an_event_has_a_name_a_topic_and_the_key_of_its_field() {
    let printed = expand(quote! {
        #[event(topic = "shop/orders", key = cart)]
        pub struct OrderPlaced { pub cart: CartId }
    })
    .to_string();

    for part in [
        "NAME : & 'static str = \"order-placed\"",
        "TOPIC : & 'static str = \"shop/orders\"",
        "to_string (& self . cart)",
    ] {
        assert!(printed.contains(part), "no {part} in {printed}");
    }
}

#[test]
fn an_event_without_a_key_has_none() {
    let printed = expand(tokens(
        r#"#[event(topic = "t", name = "x")] enum Said { Hello }"#,
    ))
    .to_string();

    assert!(
        printed.contains("NAME : & 'static str = \"x\""),
        "{printed}"
    );
    assert!(printed.contains("Option :: None"), "{printed}");
}

#[test]
fn a_mistake_is_refused_once_and_says_what_to_write() {
    let cases = [
        (
            tokens("struct Said;"),
            "an event is announced on a topic: write `#[event(topic = \"orders\")]`",
        ),
        (
            tokens(r#"#[event(topic = "Orders")] struct Said;"#),
            "not a topic: write 1 to 128 small letters, digits, `/`, `_`, `.` and `-`",
        ),
        (
            tokens(r#"#[event(topic = "t", key = room)] struct Said { user: u8, text: u8 }"#),
            "`Said` has no field `room`: write one of `user`, `text`",
        ),
        (
            tokens(r#"#[event(topic = "t", key = 1)] struct Said(u8);"#),
            "`Said` has no field `1`: write one of `0`",
        ),
        (
            tokens(r#"#[event(topic = "t", key = room)] struct Said;"#),
            "`Said` has no fields: remove `key`",
        ),
        (
            tokens(r#"#[event(topic = "t", key = room)] enum Said { Hello }"#),
            "only a `struct` has the fields a key is taken from: remove `key`",
        ),
    ];
    for (item, expected) in cases {
        assert_eq!(messages(expand(item)), [expected]);
    }
}

#[test]
fn generics_are_refused() {
    let refused = messages(expand(tokens(
        r#"#[event(topic = "t")] struct Said<'a>(&'a str);"#,
    )));

    assert!(refused.concat().contains("no generics"), "{refused:?}");
}
