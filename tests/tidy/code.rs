//! Rules about words in Rust code. Comments and literals do not count.

use crate::{
    blank::{item_length, without_tests},
    files::BANNED,
    tree::{Source, none, rust},
};

#[test]
fn no_test_is_skipped_or_expects_a_panic() {
    let attribute = |line: &str| {
        ["#[ignore", "#[should_panic"]
            .iter()
            .any(|attribute| line.contains(attribute))
    };

    none(
        &in_code(attribute),
        "run the test and assert on the error, or delete it",
    );
}

#[test]
fn nothing_is_left_to_do_in_code() {
    let unfinished = |line: &str| {
        ["todo!(", "unimplemented!(", "dbg!("]
            .iter()
            .any(|word| line.contains(word))
    };

    none(&in_code(unfinished), "finish these or return a typed error");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let found: Vec<_> = rust()
        .flat_map(|file| file.lines(&file.product_code(), |line| line.contains(".unwrap()")))
        .collect();

    none(
        &found,
        "return the error, or `expect(\"why it cannot fail\")`",
    );
}

#[test]
fn lints_are_silenced_with_a_reason() {
    let allows = |line: &str| line.contains("#[allow(") || line.contains("#![allow(");

    // What the macros print must compile without warnings whether or not the lint would speak.
    let written = rust().filter(|file| !file.path.contains("/macros/"));
    let found: Vec<_> = written
        .flat_map(|file| file.lines(&file.blanked.code, allows))
        .collect();

    none(
        &found,
        "write `#[expect(lint, reason = \"...\")]`, which also says when it is not needed",
    );
}

#[test]
fn tests_wait_for_signals_and_never_sleep() {
    let sleeps = |line: &str| {
        line.match_indices("sleep(").any(|(at, _)| {
            let before = &line[..at];
            let word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            // A saga's durable sleep is what some tests are about.
            // A limit that ends a hung test is no wait.
            let limit = line.contains("=> panic!");
            !word
                && !limit
                && !before.ends_with("saga.")
                && !before.ends_with("fn ")
                && before.trim() != "."
        })
    };
    // In a simulation time is virtual: a handler that takes long costs nothing.
    let tests = rust().filter(|file| file.is_test() && !file.path.starts_with("tests/sim/"));
    let found: Vec<_> = tests
        .flat_map(|file| file.lines(&file.blanked.code, sleeps))
        .collect();

    none(
        &found,
        "advance the simulator's clock, or await a signal (`Log::find`, `Deadline::poll`)",
    );
}

#[test]
fn no_type_or_module_has_a_name_that_says_nothing() {
    let found: Vec<_> = rust()
        .flat_map(|file| {
            file.lines(&file.blanked.code, |line| {
                declared(line).is_some_and(says_nothing)
            })
        })
        .collect();

    none(
        &found,
        "name these after what they are; see the vocabulary in ARCHITECTURE.md",
    );
}

#[test]
fn the_root_of_a_crate_is_a_tour_without_logic() {
    let roots = rust().filter(|file| file.path.ends_with("src/lib.rs"));
    let found: Vec<_> = roots.flat_map(logic).collect();

    none(
        &found,
        "move this out of lib.rs, which holds only the tour, `mod` and `use`",
    );
}

/// Returns the lines of code in the tree that `is_wrong`.
fn in_code(is_wrong: impl Fn(&str) -> bool + Copy) -> Vec<String> {
    rust()
        .flat_map(|file| file.lines(&file.blanked.code, is_wrong))
        .collect()
}

/// Returns the name that a line declares, if it declares a type or module.
fn declared(line: &str) -> Option<&str> {
    let mut words = line
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty());
    let keywords = ["struct", "enum", "trait", "type", "union", "mod"];
    words.by_ref().find(|word| keywords.contains(word))?;
    words.next()
}

fn says_nothing(name: &str) -> bool {
    let start = name
        .rfind(|c: char| c.is_uppercase() || c == '_')
        .unwrap_or_default();
    let last = name[start..].trim_start_matches('_').to_lowercase();
    last == "impl" || BANNED.contains(&last.as_str())
}

/// Returns the items of a crate root that are more than declarations, each as `path: item`.
fn logic(file: &Source) -> Vec<String> {
    let code = without_tests(&file.blanked.code);
    logic_in(&code)
        .into_iter()
        .map(|item| format!("{}: {item}", file.path))
        .collect()
}

fn logic_in(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while !rest.is_empty() {
        let (attributes, item) = split_attributes(rest);
        let length = item_length(item);
        let (item, after) = item.split_at(length);
        if !is_declaration(attributes, item) {
            found.push(item.lines().next().unwrap_or_default().to_owned());
        }
        rest = after.trim_start();
    }
    found
}

/// Splits the attributes off the front of an item.
fn split_attributes(code: &str) -> (&str, &str) {
    let mut at = 0;
    while code[at..].starts_with("#[") || code[at..].starts_with("#![") {
        let mut depth = 0_usize;
        let closing = code[at..].char_indices().find(|(_, char)| {
            depth = depth + usize::from(*char == '[') - usize::from(*char == ']');
            *char == ']' && depth == 0
        });
        at += closing.map_or(code.len() - at, |(index, _)| index + 1);
        at += code[at..].len() - code[at..].trim_start().len();
    }
    code.split_at(at)
}

fn is_declaration(attributes: &str, item: &str) -> bool {
    let words = item.trim_start_matches("pub").trim_start();
    let words = words.strip_prefix("(crate)").unwrap_or(words).trim_start();
    // A macro's entry point must stand here; it hands over in one expression.
    let entry = attributes.contains("#[proc_macro");
    let body = item
        .split_once('{')
        .map_or("", |(_, body)| body.trim_end().trim_end_matches('}'));
    match words.split_whitespace().next() {
        // A lone `;` ends the `use` whose braces came before it.
        Some("use" | "extern" | ";") | None => true,
        Some("mod") => logic_in(body).is_empty(),
        _ => entry && !body.contains(';') && !body.contains('{'),
    }
}

#[test]
fn logic_in_a_root_is_told_from_declarations() {
    let cases = [
        (
            "//! Tour.\n#![forbid(unsafe_code)]\nmod a;\npub mod b;\npub use a::{C, D};",
            true,
        ),
        ("#[doc(hidden)]\npub mod inner { pub use serde; }", true),
        (
            "#[proc_macro_derive(A)]\npub fn f(i: T) -> T { g::h(i.into()) }",
            true,
        ),
        ("#[proc_macro]\npub fn f(i: T) -> T { let x = i; x }", false),
        ("pub fn f() {}", false),
        ("pub mod inner { const A: u8 = 1; }", false),
        ("macro_rules! a { () => {} }", false),
    ];

    for (text, allowed) in cases {
        assert_eq!(
            logic_in(&crate::blank::blank(text).code).is_empty(),
            allowed,
            "{text}"
        );
    }
}

#[test]
fn a_name_is_judged_by_its_last_word() {
    for (line, wrong) in [
        ("pub struct LaneManager;", true),
        ("trait StoreImpl {", true),
        ("mod test_utils;", true),
        ("struct Utility;", false),
        ("pub enum DataKind {", false),
        ("let data = 1;", false),
    ] {
        assert_eq!(declared(line).is_some_and(says_nothing), wrong, "{line}");
    }
}
