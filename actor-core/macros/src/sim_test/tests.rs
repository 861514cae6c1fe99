//! What the attribute prints and refuses.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;
use crate::checking::{messages, tokens};

#[test]
fn a_test_runs_its_body_with_the_settings() {
    let settings = quote!(nodes = 3, host(Cart, Checkout), seeds = 64);
    let printed = expand(
        settings,
        &tokens("async fn holds(sim: Sim) -> Result<()> { Ok(()) }"),
    );
    let text = printed.to_string();

    syn::parse2::<syn::ItemFn>(printed).expect("one function");
    for part in [
        ":: test] fn holds ()",
        "async fn __body (sim : Sim) -> Result < () >",
        "nodes : 3 , seeds : 64 ,",
        "\"holds\"",
        "< (Cart , Checkout ,) as :: actor_cluster :: sim :: __private :: Component > :: install",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn a_test_without_settings_is_one_node_that_hosts_nothing() {
    let printed = expand(quote!(), &tokens("async fn holds(_: Sim) {}")).to_string();

    assert!(printed.contains("nodes : 1 , seeds : 1 ,"), "{printed}");
    assert!(printed.contains("< () as"), "{printed}");
}

#[test]
fn a_wrong_setting_is_refused_and_the_function_kept() {
    let cases = [
        (
            quote!(nodes = 0),
            "out of bounds: write a number from 1 to 64",
        ),
        (
            quote!(nodes = 65),
            "out of bounds: write a number from 1 to 64",
        ),
        (
            quote!(seeds = 100_001),
            "out of bounds: write a number from 1 to 100000",
        ),
        (
            quote!(host = Cart),
            "the hosted kinds stand in parentheses: write `host(Cart, Checkout)`",
        ),
        (
            quote!(seed = 7),
            "`seed` is not a setting: write one of `nodes = 3`, `host(Cart, Checkout)`, `seeds = 64`",
        ),
    ];
    for (settings, expected) in cases {
        let printed = expand(settings, &tokens("async fn holds(sim: Sim) {}"));

        assert!(
            printed.to_string().contains("async fn holds (sim : Sim)"),
            "{printed}"
        );
        assert_eq!(messages(printed), [expected]);
    }
}

#[test]
fn a_function_of_another_shape_is_refused() {
    let one = "a simulation is handed to the test: write one argument, `sim: Sim`";
    let cases: [(TokenStream, &[&str]); 4] = [
        (
            tokens("fn holds(sim: Sim) {}"),
            &["a simulation awaits: write `async fn`"],
        ),
        (tokens("async fn holds() {}"), &[one]),
        (tokens("async fn holds(sim: Sim, nodes: u8) {}"), &[one]),
        (
            tokens("async fn holds<T>(sim: T) {}"),
            &["a test has no generics: remove them"],
        ),
    ];
    for (function, expected) in cases {
        assert_eq!(messages(expand(quote!(), &function)), expected);
    }
}
