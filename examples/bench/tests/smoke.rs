//! Each workload runs, for a moment, without an error.

use std::process::Command;

use serde_json::Value;

/// Runs `bench` with these arguments and returns its lines.
fn bench(arguments: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .output()
        .expect("the program answers in order");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("the program answers in order")
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_workload_ends_with_lines_without_errors() {
    let little = "--seconds 0.05 --warm-up 0 --concurrency 4 --entities 5 --count 40";
    for listed in bench(&["list"]) {
        let name = listed
            .split_whitespace()
            .next()
            .expect("the program answers in order");
        let arguments: Vec<_> = [name].into_iter().chain(little.split(' ')).collect();

        let lines = bench(&arguments);

        assert!(!lines.is_empty(), "{name} said nothing");
        for line in lines {
            let line: Value = serde_json::from_str(&line).expect("the program answers in order");
            assert_eq!(
                (&line["workload"], &line["errors"]),
                (&name.into(), &0.into()),
                "{line}"
            );
            assert!(line["ops"].as_u64() > Some(0), "{line}");
        }
    }
}

#[test]
fn a_wrong_argument_is_named_with_what_is_accepted() {
    for (arguments, said) in [
        (
            vec!["dance"],
            "workload is dance; accepted are list, ractor_call",
        ),
        (
            vec!["list", "--concurrency", "0"],
            "--concurrency is 0; accepted is 1 or more",
        ),
        (
            vec!["list", "--database-url", "mysql://x"],
            "--database-url is not accepted: cannot open \"mysql://x\"",
        ),
        (
            vec!["postgres", "--", "list", "--database-url", "sqlite://x"],
            "postgres starts a server; --database-url names another",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(&arguments)
            .output()
            .expect("the program answers in order");

        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr).expect("the program answers in order");
        assert!(text.starts_with(said), "{text}");
    }
}
