//! What the configurations of all daemons have in common: the log, and what is wrong with a value.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The log, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogFile {
    /// `text` or `json`.
    pub format: Option<String>,
    /// A filter, as in `info` or `pilothouse=debug`.
    pub level: Option<String>,
}

/// The log on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines are written.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFile {
    /// What was meant. A format that is none is a problem.
    pub fn meant(self, problems: &mut Problems) -> Log {
        let format = match self.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                problems.add("log.format", format!("is {other:?}"), "choose \"text\" or \"json\"");
                LogFormat::Text
            }
        };
        Log { format, level: self.level.unwrap_or_else(|| "info".into()) }
    }
}

/// What is wrong with one key, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in `listen.peer`.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.reason, self.remedy)
    }
}

/// Collects problems, so that an operator sees all of them at the first attempt.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// One more.
    pub fn add(&mut self, key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem { key: key.into(), reason: reason.into(), remedy: remedy.into() });
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as the reason why a configuration cannot be used.
    #[must_use]
    pub fn into_invalid(self) -> InvalidConfig {
        InvalidConfig { problems: self.0 }
    }
}

/// Everything that is wrong with a configuration, all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConfig {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for InvalidConfig {}
