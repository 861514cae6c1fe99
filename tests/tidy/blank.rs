//! Blanks out what is not code, so that a rule can look for words in the rest.
//!
//! Lines and columns stay where they are. This knows just enough of Rust's tokens: comments,
//! strings, raw strings, characters and lifetimes.

use std::collections::BTreeSet;

/// A Rust text without what is not code.
#[derive(Debug, Default)]
pub(crate) struct Blanked {
    /// The text with comments and the insides of literals as spaces.
    pub(crate) code: String,
    /// The lines, counted from 0, on which a raw string begins, goes on or ends.
    pub(crate) raw: BTreeSet<usize>,
}

/// Blanks `text`.
pub(crate) fn blank(text: &str) -> Blanked {
    let mut reader = Reader {
        chars: text.chars().collect(),
        at: 0,
        line: 0,
        out: Blanked::default(),
    };
    while let Some(char) = reader.peek(0) {
        match (char, reader.peek(1)) {
            ('/', Some('/')) => reader.line_comment(),
            ('/', Some('*')) => reader.block_comment(),
            ('"', _) => reader.string(),
            ('\'', _) => reader.character_or_lifetime(),
            ('r', Some('"' | '#')) if !reader.inside_word() => reader.raw_string_or_word(),
            _ => reader.keep(),
        }
    }
    reader.out
}

/// Returns `code` without what is compiled only for tests inside the file.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = start + item_length(&out[start..]);
        let spaces = out[start..end]
            .chars()
            .map(|char| if char == '\n' { '\n' } else { ' ' });
        out.replace_range(start..end, &spaces.collect::<String>());
    }
    out
}

/// Returns how far the first item of `code` reaches: to its `;` or its closing brace.
pub(crate) fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (index, char) in code.char_indices() {
        match char {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(char, ';' | '}') {
            return index + 1;
        }
    }
    code.len()
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Blanked,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn inside_word(&self) -> bool {
        // `br"` and `cr"` are raw too: their first letter stands alone before the `r`.
        let word = |char: &char| char.is_alphanumeric() || *char == '_';
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.chars.get(at));
        match before(1) {
            Some('b' | 'c') => before(2).is_some_and(word),
            other => other.is_some_and(word),
        }
    }

    fn keep(&mut self) {
        if let Some(char) = self.peek(0) {
            self.push(char);
        }
    }

    fn drop(&mut self, count: usize) {
        for _ in 0..count {
            match self.peek(0) {
                Some('\n') => self.push('\n'),
                Some(_) => self.push(' '),
                None => {}
            }
        }
    }

    fn push(&mut self, char: char) {
        self.line += usize::from(char == '\n');
        self.out.code.push(char);
        self.at += 1;
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|char| char != '\n') {
            self.drop(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.drop(1);
                    continue;
                }
            }
            self.drop(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep();
        while let Some(char) = self.peek(0) {
            match char {
                '"' => return self.keep(),
                '\\' => self.drop(2),
                _ => self.drop(1),
            }
        }
    }

    fn character_or_lifetime(&mut self) {
        match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                self.drop(3);
                while self.peek(0).is_some_and(|char| char != '\'') {
                    self.drop(1);
                }
                self.drop(1);
            }
            (_, Some('\'')) => self.drop(3),
            _ => self.keep(),
        }
    }

    fn raw_string_or_word(&mut self) {
        let hashes = (1..)
            .take_while(|ahead| self.peek(*ahead) == Some('#'))
            .count();
        self.keep();
        if self.peek(hashes) != Some('"') {
            // A raw identifier such as `r#type`.
            return;
        }
        self.drop(hashes + 1);
        loop {
            self.out.raw.insert(self.line);
            let closes = (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            match self.peek(0) {
                Some('"') if closes => return self.drop(hashes + 1),
                Some(_) => self.drop(1),
                None => return,
            }
        }
    }
}

#[test]
fn comments_and_literals_are_blanked_and_code_stays_in_its_place() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x \" y")"#, r#"f("      ")"#),
        ("f('x', '\\'', '\\u{e}')", "f(   ,     ,        )"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("r#type br##\"a\"#\"##;", "r#type br         ;"),
        ("for r in b", "for r in b"),
    ];

    for (text, code) in cases {
        assert_eq!(blank(text).code, code, "of {text}");
    }
}

#[test]
fn the_lines_of_a_raw_string_are_known() {
    let blanked = blank("a\nb(r#\"c\nd\ne\"#)\nf");

    assert_eq!(blanked.raw.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn what_is_compiled_for_tests_only_is_taken_out() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}\n";

    let rest = without_tests(code);

    assert!(
        rest.contains("fn a") && rest.contains("fn c") && !rest.contains("fn b"),
        "{rest}"
    );
}
