//! Rules about files as such: their names, sizes and first lines, and words that no file may hold.

use std::collections::BTreeSet;

use crate::tree::{Source, all, none, rust};

/// Characters in a line.
const WIDTH_MAX: usize = 100;
/// Lines in a Rust file.
const LINES_MAX: usize = 600;
/// Lines after which a file should be split soon.
const LINES_WARN: usize = 400;
/// Words that say nothing, or mean something else here (see the vocabulary in ARCHITECTURE.md).
pub(crate) const BANNED: &[&str] = &[
    "manager", "managers", "helper", "helpers", "util", "utils", "common", "misc", "worker",
    "workers", "process", "service", "data", "info",
];

#[test]
fn lines_of_rust_are_at_most_100_characters_wide() {
    let wide = |file: &Source| {
        let lines = file.text.lines().enumerate();
        // Addresses, table rows and texts cannot be wrapped; a raw string is somebody's bytes.
        let wide = lines.filter(|(index, line)| {
            let table = line.trim_start().starts_with("/// |");
            let text = line.trim_start().starts_with(['"', '\'']) || line.contains(" = \"");
            let excused = line.contains("://") || table || text || file.blanked.raw.contains(index);
            line.chars().count() > WIDTH_MAX && !excused
        });
        wide.map(|(index, _)| format!("{}:{}", file.path, index + 1))
            .collect::<Vec<_>>()
    };

    none(
        &rust().flat_map(wide).collect::<Vec<_>>(),
        "wrap these lines at 100 characters",
    );
}

#[test]
fn files_of_rust_have_at_most_600_lines() {
    let sizes = rust().map(|file| (file.text.lines().count(), &file.path));
    let (long, rest): (Vec<_>, Vec<_>) = sizes.partition(|(lines, _)| *lines > LINES_MAX);

    for (lines, path) in rest.iter().filter(|(lines, _)| *lines > LINES_WARN) {
        println!("warning: {path} has {lines} lines; think of the names of its halves");
    }

    let long: Vec<_> = long
        .iter()
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    none(
        &long,
        "split these where the halves have names you would say aloud",
    );
}

#[test]
fn every_file_of_rust_opens_with_what_it_is_for() {
    let silent: Vec<_> = rust()
        .filter(|file| !file.text.starts_with("//! "))
        .collect();

    let silent: Vec<_> = silent.iter().map(|file| file.path.clone()).collect();
    none(
        &silent,
        "open these with `//!`: what the file is for, and what it is not for",
    );
}

#[test]
fn no_file_or_folder_has_a_name_that_says_nothing() {
    let bad = |path: &&str| {
        let words = path.split(['/', '.', '_', '-']).map(str::to_lowercase);
        words
            .into_iter()
            .any(|word| BANNED.contains(&word.as_str()))
    };
    let paths: BTreeSet<&str> = all()
        .iter()
        .map(|file| file.path.as_str())
        .filter(bad)
        .collect();

    let paths: Vec<_> = paths.into_iter().map(str::to_owned).collect();
    none(&paths, "name these after what is in them");
}

#[test]
fn modules_lie_beside_their_folder() {
    let inside = rust().filter(|file| file.path.ends_with("/mod.rs"));

    let inside: Vec<_> = inside.map(|file| file.path.clone()).collect();
    none(&inside, "rename `foo/mod.rs` to `foo.rs`");
}

#[test]
fn examples_in_docs_compile() {
    let skipped = |line: &str| {
        let line = line
            .trim_start()
            .trim_start_matches(['/', '!'])
            .trim_start();
        let attributes = line.strip_prefix("```").unwrap_or_default();
        attributes.split([',', ' ']).any(|word| word == "ignore")
    };
    let documents = all()
        .iter()
        .filter(|file| file.path.ends_with(".rs") || file.path.ends_with(".md"));
    let found: Vec<_> = documents
        .flat_map(|file| file.lines(&file.text, skipped))
        .collect();

    none(
        &found,
        "let these examples compile: `no_run` or `compile_fail` instead of `ignore`, or `text`",
    );
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    let folders = ["work", "tmp", "root", "home"].map(|folder| format!("/{folder}/"));
    let machine = |line: &str| {
        folders.iter().any(|folder| {
            let starts = line
                .match_indices(folder.as_str())
                .map(|(at, _)| line[..at].chars().last());
            // Inside a longer path or an address it is some other folder.
            starts
                .into_iter()
                .any(|before| before.is_none_or(|c| !c.is_alphanumeric() && !"/.}-_*".contains(c)))
        })
    };
    let found: Vec<_> = all()
        .iter()
        .flat_map(|file| file.lines(&file.text, machine))
        .collect();

    none(
        &found,
        "write these so that they hold on every machine: relative paths, `mktemp -d`, `tempfile`",
    );
}

#[test]
fn migrations_are_the_same_in_both_dialects() {
    let of = |dialect: &str| -> BTreeSet<&str> {
        let folder = format!("migrations/{dialect}/");
        all()
            .iter()
            .filter_map(|file| file.path.strip_prefix(&folder))
            .collect()
    };
    let (postgres, sqlite) = (of("postgres"), of("sqlite"));
    let differing = postgres
        .symmetric_difference(&sqlite)
        .map(|name| (*name).to_owned());
    let differing: Vec<_> = if postgres.is_empty() {
        Vec::new()
    } else {
        differing.collect()
    };

    none(
        &differing,
        "a migration has the same file name in migrations/postgres and migrations/sqlite",
    );
}

#[test]
fn every_migration_opens_with_what_it_allows() {
    let migrations = all()
        .iter()
        .filter(|file| file.path.starts_with("migrations/"));
    let silent =
        migrations.filter(|file| file.path.ends_with(".sql") && !file.text.starts_with("-- "));

    let silent: Vec<_> = silent.map(|file| file.path.clone()).collect();
    none(
        &silent,
        "open these with a comment: what the migration allows, and what old nodes make of it",
    );
}
