//! What the macros refuse: one file for each rule. What they accept is in `pass`, each file a test
//! target of its own, so that here nothing has to be linked.
//!
//! `TRYBUILD=overwrite cargo test -p actor-ui-tests` writes the messages anew; read the diff.

#[test]
fn the_macros_refuse_what_they_say_and_say_what_to_write() {
    let cases = trybuild::TestCases::new();

    cases.compile_fail("fail/*.rs");
}
