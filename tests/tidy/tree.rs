//! The files that the rules look at: everything git tracks or would add.

use std::{fmt::Write, fs, path::Path, process::Command, sync::OnceLock};

use crate::blank::{Blanked, blank, without_tests};

/// One text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path from the top of the tree, with `/`.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
    /// For Rust: what is code in it; empty for other files.
    pub(crate) blanked: Blanked,
}

impl Source {
    /// Returns whether all of it is test code.
    pub(crate) fn is_test(&self) -> bool {
        let folders = self
            .path
            .split('/')
            .any(|part| matches!(part, "tests" | "benches"));
        folders || self.path.ends_with("/tests.rs")
    }

    /// Returns the Rust code that is compiled without tests.
    pub(crate) fn product_code(&self) -> String {
        if self.is_test() {
            String::new()
        } else {
            without_tests(&self.blanked.code)
        }
    }

    /// Returns the text that is compiled without tests, comments left out line by line.
    pub(crate) fn product_text(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        let said = |line: &&str| !line.trim_start().starts_with("//");
        self.text
            .lines()
            .filter(said)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Returns each line of `text`, a form of this file, that `is_wrong`, as `path:line`.
    pub(crate) fn lines(&self, text: &str, is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
        let lines = text.lines().enumerate().filter(|(_, line)| is_wrong(line));
        lines
            .map(|(index, _)| format!("{}:{}", self.path, index + 1))
            .collect()
    }
}

/// Returns every text file of the tree, read once.
pub(crate) fn all() -> &'static [Source] {
    static ALL: OnceLock<Vec<Source>> = OnceLock::new();
    ALL.get_or_init(|| {
        let top = top();
        let list = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(top)
            .output()
            .expect("git lists the files of the tree; install git and run this in a clone");
        assert!(
            list.status.success(),
            "git ls-files: {}",
            String::from_utf8_lossy(&list.stderr)
        );
        let paths = String::from_utf8(list.stdout).expect("file names are UTF-8");
        // A file that is not text, or was deleted and not yet committed, has no lines to look at.
        let read = |path: &str| Some(source(path, fs::read_to_string(top.join(path)).ok()?));
        paths.split_terminator('\0').filter_map(read).collect()
    })
}

/// Returns the Rust files.
pub(crate) fn rust() -> impl Iterator<Item = &'static Source> {
    all().iter().filter(|file| file.path.ends_with(".rs"))
}

/// Returns the file at `path`, if there is one.
pub(crate) fn file(path: &str) -> Option<&'static Source> {
    all().iter().find(|file| file.path == path)
}

/// Fails with `advice` and the places if there are any.
pub(crate) fn none(places: &[String], advice: &str) {
    let list = places.iter().fold(String::new(), |mut list, place| {
        let _ = writeln!(list, "  {place}");
        list
    });
    assert!(places.is_empty(), "{advice}:\n{list}");
}

fn source(path: &str, text: String) -> Source {
    let blanked = if path.ends_with(".rs") {
        blank(&text)
    } else {
        Blanked::default()
    };
    Source {
        path: path.to_owned(),
        text,
        blanked,
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are one folder below the top")
}
