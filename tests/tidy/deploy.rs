//! What operators copy must be true: settings, metrics and manifests name what exists.

use std::collections::BTreeSet;

use actor_cluster::Settings;

use crate::tree::{Source, all, file, none, rust};

/// Chapters that name settings and metrics for operators.
const CHAPTERS: [&str; 4] = [
    "README.md",
    "actor-cluster/src/docs/cluster.md",
    "actor-cluster/src/docs/failure_model.md",
    "actor-cluster/src/docs/operating.md",
];

/// The pod's grace period must leave this much beyond what we ask for, in seconds.
const GRACE_SPARE: u64 = 10;

#[test]
fn settings_that_operators_are_told_of_exist() {
    let settings = file("actor-cluster/src/node/config.rs").expect("the settings");
    let known: BTreeSet<&str> = settings
        .text
        .split("env = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let unknown = |file: &'static Source| {
        let named = words(&file.text, |c| c.is_ascii_uppercase() || c == '_');
        let ours = named.filter(|(_, word)| word.starts_with("ACTOR_") && !word.ends_with('_'));
        let unknown = ours.filter(|(_, word)| !known.contains(word));
        unknown.map(|(line, word)| format!("{}:{line}: {word}", file.path))
    };

    let found: Vec<_> = told().flat_map(unknown).collect();
    assert!(known.contains("ACTOR_NODE_NAME"), "{known:?}");
    none(
        &found,
        "no such setting: correct the name, or add it to actor-cluster/src/node/config.rs",
    );
}

#[test]
fn metrics_that_operators_are_told_of_exist() {
    let code: Vec<_> = rust().map(Source::product_text).collect();
    let emitted = |word: &str| {
        code.iter()
            .any(|text| text.contains(&format!("\"{word}\"")))
    };
    let letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let unknown = |file: &'static Source| {
        let named = words(&file.text, letter);
        let ours = named.filter(|(_, word)| word.starts_with("actor_") && !is_crate(word));
        let unknown = ours.filter(|(_, word)| !emitted(word));
        unknown.map(|(line, word)| format!("{}:{line}: {word}", file.path))
    };

    let found: Vec<_> = told().flat_map(unknown).collect();
    assert!(emitted("actor_fenced_total"), "the search finds nothing");
    none(&found, "no such metric: correct the name, or emit it");
}

#[test]
fn operators_are_told_of_every_metric() {
    let guide = file("actor-cluster/src/docs/operating.md").expect("the chapter");
    let letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let told: BTreeSet<&str> = words(&guide.text, letter).map(|(_, word)| word).collect();
    let untold = |source: &'static Source| {
        let text = source.product_text();
        let names = text.split("\"actor_").skip(1);
        let names = names.filter_map(|rest| Some(format!("actor_{}", rest.split_once('"')?.0)));
        let ours = names.filter(|name| name.chars().all(letter) && !is_crate(name));
        let untold = ours.filter(|name| !told.contains(name.as_str()));
        untold
            .map(|name| format!("{}: {name}", source.path))
            .collect::<Vec<_>>()
    };

    let found: Vec<_> = rust().flat_map(untold).collect();
    none(
        &found,
        "say in actor-cluster/src/docs/operating.md what it counts",
    );
}

#[test]
fn manifests_are_well_formed() {
    let manifests = all().iter().filter(|file| file.path.ends_with(".yaml"));
    let manifests: Vec<_> = manifests
        .filter(|file| file.path.starts_with("deploy/"))
        .collect();
    let found: Vec<_> = manifests.iter().flat_map(|file| malformed(file)).collect();

    assert!(!manifests.is_empty(), "there are manifests");
    none(
        &found,
        "write `key: value`, `- item` or `key:`, two spaces in",
    );
}

#[test]
fn a_pod_has_time_to_drain() {
    let manifest = file("deploy/kubernetes/shop.yaml").expect("the manifest");
    let after = |key: &str| -> u64 {
        let (_, rest) = manifest.text.split_once(key).expect(key);
        let digits = rest.chars().skip_while(|c| !c.is_ascii_digit());
        let digits: String = digits.take_while(char::is_ascii_digit).collect();
        digits.parse().expect(key)
    };

    let grace = after("terminationGracePeriodSeconds:");
    let asked = after("[\"sleep\",") + after("name: ACTOR_DRAIN_TIMEOUT");

    assert!(asked + GRACE_SPARE <= grace, "{asked} s of {grace} s");
}

#[test]
fn nobody_runs_with_the_secrets_of_the_manifests() {
    let manifest = file("deploy/kubernetes/secret.yaml").expect("the manifest");
    for name in ["cluster-secret", "admin-token"] {
        let (_, rest) = manifest.text.split_once(&format!("{name}: ")).expect(name);
        let value = rest.lines().next().expect("a value");

        let refused = Settings::from_arguments([&format!("--{name}"), value]);

        let error = refused.expect_err("a placeholder is refused").to_string();
        assert!(error.contains("accepted is at least"), "{name}: {error}");
    }
}

#[test]
fn manifests_name_a_release_of_an_image() {
    let manifest = file("deploy/kubernetes/shop.yaml").expect("the manifest");
    let images = manifest
        .text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "));
    let tags: Vec<_> = images
        .map(|image| image.rsplit_once(':').map(|(_, tag)| tag))
        .collect();

    let released = |tag: &Option<&str>| tag.is_some_and(|tag| tag != "latest");
    assert!(!tags.is_empty() && tags.iter().all(released), "{tags:?}");
}

/// Returns what operators read.
fn told() -> impl Iterator<Item = &'static Source> {
    all()
        .iter()
        .filter(|file| file.path.starts_with("deploy/") || CHAPTERS.contains(&file.path.as_str()))
}

/// Returns the words of these letters, with their lines, counted from 1.
fn words(text: &str, letter: impl Fn(char) -> bool + Copy) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().zip(1..);
    lines.flat_map(move |(line, number)| {
        let words = line.split(move |c: char| !letter(c));
        words.map(move |word| (number, word))
    })
}

/// Says whether a word is the name of one of our crates, which metrics resemble.
fn is_crate(word: &str) -> bool {
    file(&format!("{}/Cargo.toml", word.replace('_', "-"))).is_some()
}

/// Returns the lines that no mapping, list or comment can hold, and documents without a kind.
fn malformed(source: &Source) -> Vec<String> {
    let mut found = source.lines(&source.text, |line| {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let item = text.trim_start_matches("- ");
        let pair = item.split_once(':').is_some_and(|(key, value)| {
            let word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            key.chars().all(word) && (value.is_empty() || value.starts_with(' '))
        });
        let scalar = text.starts_with("- ") && !item.contains(": ");
        let fits = text.is_empty() || text.starts_with('#') || line == "---" || pair || scalar;
        !fits || indent % 2 == 1 || line.contains('\t') || line.ends_with(' ')
    });
    for (document, number) in source.text.split("\n---\n").zip(1..) {
        let lacks = ["apiVersion:", "kind:"]
            .iter()
            .any(|key| !document.lines().any(|line| line.starts_with(key)));
        if lacks {
            found.push(format!("{}: document {number} has no kind", source.path));
        }
    }
    found
}
