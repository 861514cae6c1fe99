//! What the attribute refuses, and what it leaves.

use quote::quote;

use super::expand;
use crate::checking::{messages, tokens};

/// Returns what is refused about a block with this method.
fn refusals(method: &str) -> Vec<String> {
    messages(expand(
        &quote!(),
        tokens(&format!("impl Cart {{ {method} }}")),
    ))
}

fn assert_refused(cases: &[(&str, &str)]) {
    for (method, expected) in cases {
        assert_eq!(refusals(method), [*expected], "{method}");
    }
}

#[test]
fn what_a_message_cannot_be_is_refused() {
    let stays = "the entity stays where it is: write `&self` or `&mut self`";
    let generics = "a message has one wire form and so no generics: write plain types";
    assert_refused(&[
        ("pub fn a(self) {}", stays),
        ("pub fn a(self: Box<Self>) {}", stays),
        (
            "pub const fn a(&self) {}",
            "a message cannot be `const`: remove it",
        ),
        (
            "pub unsafe fn a(&self) {}",
            "a message cannot be `unsafe`: remove it",
        ),
        (
            r#"pub extern "C" fn a(&self) {}"#,
            "a message cannot be `extern`: remove it",
        ),
        ("pub fn a<T>(&self) {}", generics),
        ("pub fn a<'a>(&'a self) {}", generics),
        ("pub fn a(&self) where u8: Copy {}", generics),
        (
            "#[cfg(unix)] pub fn a(&self) {}",
            "every node must know the same messages: remove the `cfg`, or write it inside the \
             method",
        ),
    ]);
}

#[test]
fn a_context_of_another_form_is_refused() {
    assert_refused(&[
        (
            "pub fn a(&self, c: &Ctx<Self>) {}",
            "write `&mut Ctx<Self>`",
        ),
        (
            "pub fn a(&self, c: Ctx<Self>) {}",
            "the context is lent: write `&mut Ctx<Self>`",
        ),
        (
            "pub fn a(&self, c: &mut Ctx<Self>, d: &mut Ctx<Self>) {}",
            "there is one context: remove the second `Ctx`",
        ),
    ]);
}

#[test]
fn what_an_argument_or_result_cannot_be_is_refused() {
    let borrows = "message arguments are owned: write a type that borrows nothing";
    let unnamed = "the argument's name is part of the message: write a plain name";
    assert_refused(&[
        (
            "pub fn a(&self, b: &str) {}",
            "message arguments are owned: write `String`",
        ),
        (
            "pub fn a(&self, b: &[u8]) {}",
            "message arguments are owned: write `Vec<u8>`",
        ),
        (
            "pub fn a(&self, b: &mut a::B<u8>) {}",
            "message arguments are owned: write `a::B<u8>`",
        ),
        ("pub fn a(&self, b: Option<&str>) {}", borrows),
        ("pub fn a(&self, b: Cow<'_, str>) {}", borrows),
        (
            "pub fn a(&self, b: impl Into<String>) {}",
            "message arguments have a type with a name: write it instead of `impl`",
        ),
        ("pub fn a(&self, (b, c): (u8, u8)) {}", unnamed),
        ("pub fn a(&self, _: u8) {}", unnamed),
        ("pub fn a(&self, b @ 1: u8) {}", unnamed),
        (
            "pub fn a(&self, #[cfg(unix)] b: u8) {}",
            "a message is the same on every node: remove the `cfg`",
        ),
        (
            "pub fn a(&self) -> &str {}",
            "message results are owned: write `String`",
        ),
    ]);
}

#[test]
fn what_an_event_handler_cannot_be_is_refused() {
    let one = "an `#[on]` method receives one event: write `event: OrderPlaced`";
    assert_refused(&[
        (
            "#[on] fn a(&self, e: E) {}",
            "an `#[on]` method changes the entity: write `&mut self`",
        ),
        (
            "#[on] fn a(e: E) {}",
            "an `#[on]` method changes the entity: write `&mut self` first",
        ),
        ("#[on] fn a(&mut self) {}", one),
        ("#[on] fn a(&mut self, c: &mut Ctx<Self>) {}", one),
        ("#[on] fn a(&mut self, e: E, f: F) {}", one),
        (
            "#[on] pub fn a(&mut self, e: E) {}",
            "an `#[on]` method is run by its event, not called: remove `pub`",
        ),
        (
            "#[on(E)] fn a(&mut self, e: E) {}",
            "the argument's type says which event it is: write `#[on]`",
        ),
        (
            "#[on] fn a(&mut self, e: E) -> u8 {}",
            "nobody waits for an event's handler: return nothing, or `Result<()>`",
        ),
        (
            "#[on] fn a(&mut self, e: (E, F)) {}",
            "an event is a type with a name: write a struct that derives `Event`",
        ),
        (
            "#[on] fn a(&mut self, e: E) {} #[on] fn b(&mut self, e: E) {}",
            "this event has an `#[on]` method already: handle it in one",
        ),
    ]);
}

#[test]
fn a_block_of_another_shape_is_refused_and_kept_without_marks() {
    let plain = "`#[handlers]` needs the plain name of a type";
    let cases = [
        ("impl Run for Cart { fn a() {} }", "messages are methods of"),
        ("impl<T> Cart<T> { fn a() {} }", "an entity has one stable"),
        ("impl Cart<u8> { fn a() {} }", plain),
        ("impl [Cart] { fn a() {} }", plain),
        ("struct Cart { a : u8 }", "expected `impl`"),
    ];
    for (block, expected) in cases {
        let printed = expand(&quote!(), tokens(block));

        let kept = tokens(block).to_string();
        assert!(printed.to_string().starts_with(&kept), "{printed}");
        let refused = messages(printed).join(" and ");
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn settings_are_refused() {
    let refused = messages(expand(&quote!(durable), tokens("impl Cart {}")));

    assert_eq!(
        refused,
        ["`#[handlers]` has no settings: write them in `#[entity(...)]`"]
    );
}

#[test]
fn every_mistake_is_reported_and_the_rest_still_sent() {
    let printed = expand(
        &quote!(),
        tokens(
            "impl Cart {
                pub fn bad(&self, b: &str, c: &[u8]) {}
                pub fn good(&self) {}
                pub fn worse(self) {}
            }",
        ),
    );
    let text = printed.to_string();

    assert_eq!(messages(printed).len(), 3);
    assert!(text.contains("__Args :: good"), "{text}");
    assert!(!text.contains("__Args :: bad"), "{text}");
}
