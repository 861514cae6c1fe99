//! What the macros accept and refuse: one file for each rule.
//!
//! `TRYBUILD=overwrite cargo test -p actor-ui-tests` writes the messages anew; read the diff.

#[test]
fn the_macros_accept_and_refuse_what_they_say() {
    let cases = trybuild::TestCases::new();

    cases.pass("pass/*.rs");
    cases.compile_fail("fail/*.rs");
}
