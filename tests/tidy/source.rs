//! The sources, as the rules see them: each file with its path, its text, and its code without comments and literals.
//!
//! A lexer of sixty lines, not a parser: it only has to know what is code and what is not.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// From the root of the project, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// The same lines with comments, texts and characters blanked out.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code before the first `#[cfg(test)]` that opens a module (nothing, in a file of tests).
    pub(crate) fn product(&self) -> &str {
        if self.is_test() { "" } else { &self.code[..self.tests_begin()] }
    }

    /// The rest.
    pub(crate) fn tests(&self) -> &str {
        if self.is_test() { &self.code } else { &self.code[self.tests_begin()..] }
    }

    fn tests_begin(&self) -> usize {
        let opens = |(at, attribute): &(usize, &str)| {
            let next = self.code[at + attribute.len()..].trim_start();
            next.starts_with("mod ") || next.starts_with("pub(crate) mod ")
        };
        self.code.match_indices("#[cfg(test)]").find(opens).map_or(self.code.len(), |(at, _)| at)
    }

    /// The module right under `src/` that the file belongs to, as in `raft`; `None` outside of `src/`.
    pub(crate) fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
    }

    /// Line number of a byte offset, from 1.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }
}

/// Where a word stands on its own in a piece of code.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// Every Rust file of the project, in order of its path.
pub(crate) fn all() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "proto"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Files of these folders that are text, and of which `wanted` is true, in order of their paths.
pub(crate) fn texts(folders: &[&str], wanted: fn(&str) -> bool) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut paths);
    }
    paths.retain(|path| fs::read_to_string(path).is_ok_and(|text| wanted(&text)));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    Source::new(path.strip_prefix(root()).unwrap().to_str().unwrap(), &text)
}

/// A file of the project that is not Rust.
pub(crate) fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Blanks comments, texts and characters out; line breaks stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, 1),
            'r' | 'b' | 'c' if !ends_in_word(&out) => prefixed(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

fn ends_in_word(out: &str) -> bool {
    out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// A text whose opening quote ends at `from`, with escapes.
fn quoted(rest: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, c) in rest[from..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return from + at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, or 0 when it is none of these.
fn prefixed(rest: &str) -> usize {
    let letters = rest.len() - rest.trim_start_matches(['r', 'b', 'c']).len();
    let hashes = rest[letters..].len() - rest[letters..].trim_start_matches('#').len();
    if letters > 2 || !rest[letters + hashes..].starts_with('"') {
        return 0;
    }
    let from = letters + hashes + 1;
    if !rest[..letters].contains('r') {
        return if hashes == 0 { quoted(rest, from) } else { 0 };
    }
    let end = format!("\"{}", "#".repeat(hashes));
    rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len())
}

/// `'x'` or `'\n'`, or 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |at| at + 4),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}
