//! What the derive prints and refuses.

use quote::quote;

use super::expand;
use crate::checking::{messages, tokens};

#[test]
fn a_workflow_without_settings_returns_nothing_and_is_version_one() {
    let printed = expand(tokens("struct PlaceOrder;")).to_string();

    for part in [
        "type Output = ()",
        "KIND : & 'static str = \"place-order\"",
        "VERSION : u32 = 1u32",
        "EXPOSED : bool = false",
        "__private :: install :: < PlaceOrder >",
    ] {
        assert!(printed.contains(part), "no {part} in {printed}");
    }
}

#[test]
fn every_setting_is_printed() {
    let printed = expand(quote! {
        #[workflow(output = Result<Receipt, Vec<u8>>, version = 3, expose, kind = "checkout")]
        #[workflow(group = "media")]
        struct PlaceOrder;
    })
    .to_string();

    for part in [
        "type Output = Result < Receipt , Vec < u8 > >",
        "\"checkout\"",
        "VERSION : u32 = 3u32",
        "EXPOSED : bool = true",
        "const GROUP : & 'static str = \"media\"",
    ] {
        assert!(printed.contains(part), "no {part} in {printed}");
    }
}

#[test]
fn a_workflow_names_no_crate_but_its_own() {
    let printed = expand(tokens("struct PlaceOrder;")).to_string();

    assert!(!printed.contains("actor_core"), "{printed}");
}

#[test]
fn a_mistake_is_refused_and_says_what_to_write() {
    let cases = [
        (
            tokens("#[workflow(version = 0)] struct A;"),
            "out of bounds: write a number from 1 to 4294967295",
        ),
        (
            tokens("#[workflow(output)] struct A;"),
            "`output` has a value: write `output = Type`",
        ),
        (
            tokens("#[workflow(retries = 3)] struct A;"),
            "`retries` is not a setting: write one of `output = Type`, `version = 2`, `expose`, \
             `group = \"media\"`, `kind = \"wire-name\"`",
        ),
    ];
    for (item, expected) in cases {
        let printed = expand(item);

        assert!(
            printed.to_string().contains("Workflow for A"),
            "nothing else may fail: {printed}"
        );
        assert_eq!(messages(printed), [expected]);
    }
}
