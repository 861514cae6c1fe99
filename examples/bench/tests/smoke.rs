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

/// A little of everything.
const LITTLE: &str = "--seconds 0.05 --warm-up 0 --concurrency 4 --entities 30 --count 40";

/// Workloads of several nodes.
const OF_CLUSTERS: [&str; 3] = ["entity_call_remote", "failover", "handoff"];

/// Its rival is a program of its own, which takes minutes to build: it is not built for a test.
const BUILT_APART: &str = "ractor_cluster_call";

/// Runs a workload and looks at what it says; returns its lines.
fn without_errors(workload: &str, arguments: &[&str]) -> Vec<Value> {
    let lines: Vec<Value> = bench(arguments)
        .iter()
        .map(|line| serde_json::from_str(line).expect("the program answers in order"))
        .collect();
    assert!(!lines.is_empty(), "{workload} said nothing");
    for line in &lines {
        assert_eq!(
            (&line["workload"], &line["errors"]),
            (&workload.into(), &0.into()),
            "{line}"
        );
        assert!(line["ops"].as_u64() > Some(0), "{line}");
    }
    lines
}

#[test]
fn every_workload_ends_with_lines_without_errors() {
    for listed in bench(&["list"]) {
        let name = listed
            .split_whitespace()
            .next()
            .expect("the program answers in order");
        if name == BUILT_APART || OF_CLUSTERS.contains(&name) {
            continue;
        }
        let arguments: Vec<_> = [name].into_iter().chain(LITTLE.split(' ')).collect();

        without_errors(name, &arguments);
    }
}

#[test]
fn nodes_that_are_killed_frozen_and_drained_lose_nothing() {
    // Few shards come to rest soon; a short lease makes a freeze short.
    let few = "--shards 12 --lease-ttl 5 --faults 2";
    for workload in OF_CLUSTERS {
        let mut arguments = vec!["postgres", "--", workload];
        arguments.extend(LITTLE.split(' ').chain(few.split(' ')));

        let lines = without_errors(workload, &arguments);

        for line in &lines {
            if workload != "entity_call_remote" {
                assert_eq!(line["acknowledged_lost"], 0, "{line}");
                assert_eq!(line["counted_twice"], 0, "{line}");
            }
        }
        let whats: Vec<_> = lines
            .iter()
            .filter_map(|line| line["what"].as_str())
            .collect();
        match workload {
            "failover" => assert_eq!(whats, ["kill", "freeze"]),
            "entity_call_remote" => assert_eq!(whats, ["half load"]),
            _ => assert_eq!(lines.len(), 1),
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
        (
            vec!["entity_call", "--nodes", "3"],
            "the number of nodes of entity_call is 3; accepted are 1 to 1",
        ),
        (
            vec!["durable_call@3"],
            "durable_call with 3 nodes needs PostgreSQL: `bench postgres -- durable_call@3`",
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
