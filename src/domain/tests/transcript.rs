//! Runs the transcripts of `tests/data/transcripts`: what is asked above `----`, what is answered below it.
//!
//! After a change of behaviour that is meant, `PILOTHOUSE_TRANSCRIPTS=write cargo test --lib transcript` writes the new
//! answers, and the difference in version control is what a reviewer reads.

use std::fmt::Write as _;
use std::path::PathBuf;

/// One question: a name, its arguments, and the indented lines below it.
#[derive(Debug, Default, Clone)]
pub(super) struct Question {
    pub(super) name: String,
    words: Vec<String>,
    pub(super) lines: Vec<String>,
}

impl Question {
    /// Arguments without `=`.
    pub(super) fn plain(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str).filter(|word| !word.contains('='))
    }

    /// The nth argument without `=`.
    pub(super) fn nth(&self, n: usize) -> &str {
        self.plain().nth(n).unwrap_or_else(|| panic!("{} needs {} arguments", self.name, n + 1))
    }

    /// The value of `key=value`.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The number behind `key=`, or another one.
    pub(super) fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{key}={text} is no number")))
    }

    /// The numbers behind `key=`, separated by commas; `4-7` is four of them.
    pub(super) fn numbers(&self, key: &str) -> Vec<u64> {
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{key}: {text} is no number"));
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            number(first)..=number(last)
        };
        self.get(key)
            .filter(|text| *text != "none")
            .into_iter()
            .flat_map(|text| text.split(',').flat_map(range))
            .collect()
    }
}

/// Answers every question of a transcript, and demands what stands there.
pub(super) fn check(name: &str, mut answer: impl FnMut(&Question) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rewritten = String::new();
    let (mut question, mut asked_at, mut expected) = (Question::default(), 0, None::<String>);
    let mut questions = 0;
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if let Some(answer) = expected.as_mut().filter(|_| !line.is_empty()) {
            writeln!(answer, "{line}").unwrap();
            continue;
        }
        if let Some(expected) = expected.take() {
            let actual = answer(&question);
            assert!(!actual.contains("\n\n"), "{name}:{asked_at}: an answer has no empty lines:\n{actual}");
            rewritten += &actual;
            questions += 1;
            if !writing() {
                assert_eq!(actual, expected, "{name}:{asked_at}: {question:?}");
            }
            question = Question::default();
        } else if line == "----" {
            assert!(!question.name.is_empty(), "{name}:{number}: an answer to no question");
            expected = Some(String::new());
        } else if let Some(indented) = line.strip_prefix("  ") {
            question.lines.push(indented.trim().to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            assert!(question.name.is_empty(), "{name}:{number}: {} was not answered", question.name);
            let mut words = line.split_whitespace().map(ToOwned::to_owned);
            question.name = words.next().unwrap_or_default();
            question.words = words.collect();
            asked_at = number;
        }
        rewritten += line;
        rewritten.push('\n');
    }
    assert!(questions > 0 && question.name.is_empty(), "{name}: the last question has no answer");
    if writing() {
        std::fs::write(&path, rewritten.trim_end().to_owned() + "\n").unwrap();
    }
}

fn writing() -> bool {
    std::env::var_os("PILOTHOUSE_TRANSCRIPTS").is_some_and(|value| value == "write")
}
