//! Rules about the workspace: which crate may know which, and that lists written by hand are whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    blank::without_tests,
    tree::{Source, all, file, none, rust},
};

/// What each crate of the framework may depend on. An arrow that is not here is a new edge: ask
/// first.
const MAY_KNOW: [(&str, &[&str]); 5] = [
    ("actor-core-macros", &[]),
    ("actor-core", &["actor-core-macros"]),
    ("actor-cluster", &["actor-core-macros", "actor-core"]),
    ("actor-workflow", &["actor-core-macros", "actor-core"]),
    (
        "actor-gateway",
        &[
            "actor-core-macros",
            "actor-core",
            "actor-cluster",
            "actor-workflow",
        ],
    ),
];

#[test]
fn crates_know_only_crates_below_them() {
    let allowed = BTreeMap::from(MAY_KNOW);
    let mut wrong = Vec::new();
    for manifest in manifests() {
        let Some(allowed) = allowed.get(manifest.name.as_str()) else {
            continue;
        };
        let ours = manifest
            .of(&["dependencies", "build-dependencies"])
            .into_iter();
        let unknown = ours.filter(|name| is_ours(name) && !allowed.contains(&name.as_str()));
        wrong.extend(unknown.map(|name| format!("{} -> {name}", manifest.name)));
    }

    none(
        &wrong,
        "macros <- core <- cluster <- gateway and core <- workflow <- gateway are the only edges",
    );
}

#[test]
fn nothing_of_the_framework_knows_the_examples_or_the_tests() {
    let below: BTreeSet<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    let above: BTreeSet<String> = manifests()
        .map(|manifest| manifest.name)
        .filter(|name| !below.contains(name.as_str()))
        .collect();
    let mut wrong = Vec::new();
    for manifest in manifests().filter(|manifest| below.contains(manifest.name.as_str())) {
        let sections = ["dependencies", "build-dependencies", "dev-dependencies"];
        let up = manifest
            .of(&sections)
            .into_iter()
            .filter(|name| above.contains(name));
        wrong.extend(up.map(|name| format!("{} -> {name}", manifest.name)));
    }

    none(
        &wrong,
        "examples and tests are built on the framework, not the other way round",
    );
}

#[test]
fn versions_are_written_once_for_the_workspace() {
    let mut wrong = Vec::new();
    for manifest in manifests() {
        let own = manifest.lines.iter().filter(|(section, line)| {
            let depends = section.ends_with("dependencies") && !section.starts_with("workspace");
            depends && !line.contains("workspace = true")
        });
        wrong.extend(own.map(|(_, line)| format!("{}: {line}", manifest.path)));
    }

    none(
        &wrong,
        "put the version into [workspace.dependencies] and write `name.workspace = true`",
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    // The ui cases are users' programs, under the lints they name themselves.
    let ours = manifests().filter(|manifest| manifest.path != "tests/ui/Cargo.toml");
    let without = ours.filter(|manifest| {
        !manifest
            .lines
            .iter()
            .any(|(section, line)| section == "lints" && line == "workspace = true")
    });

    let without: Vec<_> = without.map(|manifest| manifest.path).collect();
    none(&without, "add `[lints]` with `workspace = true`");
}

#[test]
fn the_map_of_the_code_names_every_module() {
    let Some(map) = file("ARCHITECTURE.md").map(|file| file.text.as_str()) else {
        println!("warning: there is no ARCHITECTURE.md yet");
        return;
    };
    let roots = rust().filter(|file| {
        file.path.ends_with("src/lib.rs")
            && !file.path.contains("/macros/")
            && file.path.starts_with("actor-")
    });
    let modules = roots.flat_map(|root| {
        let names = modules(root)
            .into_iter()
            .filter(|name| !names_module(map, name));
        names.map(|name| format!("{}: {name}", root.path))
    });

    none(
        &modules.collect::<Vec<_>>(),
        "give these a line in the code map of ARCHITECTURE.md",
    );
}

#[test]
fn the_changelog_is_open_for_the_next_change() {
    let open = file("CHANGELOG.md").is_some_and(|file| file.text.contains("\n## Unreleased\n"));

    assert!(
        open,
        "write CHANGELOG.md by hand, for users, under `## Unreleased`"
    );
}

/// The lines of one Cargo.toml, each with its section.
struct Manifest {
    path: String,
    name: String,
    lines: Vec<(String, String)>,
}

impl Manifest {
    /// Returns the keys in some sections, without what follows a dot.
    fn of(&self, sections: &[&str]) -> BTreeSet<String> {
        let lines = self
            .lines
            .iter()
            .filter(|(section, _)| sections.contains(&section.as_str()));
        lines
            .filter_map(|(_, line)| Some(line.split(['.', '=', ' ']).next()?.to_owned()))
            .collect()
    }
}

/// Says whether the package is a workspace of its own: nobody builds it with the others.
fn is_apart(file: &Source) -> bool {
    file.text.lines().any(|line| line.trim() == "[workspace]")
}

/// Returns every package's manifest; the root has no package.
fn manifests() -> impl Iterator<Item = Manifest> {
    all()
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && !is_apart(file))
        .map(|file| {
            let mut section = String::new();
            let mut lines = Vec::new();
            for line in file.text.lines().map(str::trim) {
                if let Some(name) = line.strip_prefix('[') {
                    section = name.trim_matches(['[', ']']).to_owned();
                } else if !line.is_empty() && !line.starts_with('#') {
                    lines.push((section.clone(), line.to_owned()));
                }
            }
            let name = lines.iter().find_map(|(section, line)| {
                (section == "package")
                    .then(|| line.strip_prefix("name = "))
                    .flatten()
            });
            let name = name.unwrap_or_default().trim_matches('"').to_owned();
            Manifest {
                path: file.path.clone(),
                name,
                lines,
            }
        })
}

fn is_ours(name: &str) -> bool {
    all().iter().any(|file| {
        file.path.ends_with("/Cargo.toml") && file.text.contains(&format!("name = \"{name}\""))
    })
}

/// Returns the modules a crate root declares with files of their own.
fn modules(root: &Source) -> Vec<String> {
    let code = without_tests(&root.blanked.code);
    let lines = code.lines().filter(|line| line.trim_end().ends_with(';'));
    let names = lines.filter_map(|line| {
        let (before, name) = line.trim().trim_end_matches(';').split_once("mod ")?;
        matches!(before.trim(), "" | "pub" | "pub(crate)").then(|| name.trim().to_owned())
    });
    names.filter(|name| !name.starts_with('_')).collect()
}

/// Returns whether `map` says `name.rs` or `` `name` ``.
fn names_module(map: &str, name: &str) -> bool {
    let file = format!("{name}.rs");
    let starts = map
        .match_indices(&file)
        .map(|(at, _)| map[..at].chars().last());
    let as_file = starts
        .into_iter()
        .any(|c| c.is_none_or(|c| !c.is_alphanumeric() && c != '_'));
    as_file || map.contains(&format!("`{name}`"))
}
