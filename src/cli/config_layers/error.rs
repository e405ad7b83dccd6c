//! Why a configuration could not be read, in words that name the key, the value, the place and the remedy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::Figment;
use figment::error::Kind;
use figment::value::Value;

use super::nearest::nearest;
use super::{FILE_BYTES_MAX, Origin, Origins};
use crate::cli::render::value::toml_text;

/// Why a configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} has {size} bytes, the limit is {FILE_BYTES_MAX}", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {why}", .path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
    /// A variable's value cannot be read.
    #[error("the value of {variable} is not Unicode")]
    NotUnicode {
        /// The variable.
        variable: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key:?} ({origin})")]
    UnknownKey {
        /// Dotted.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// What was most likely meant.
        nearest: Option<String>,
        /// The keys that may stand there.
        allowed: Vec<String>,
    },
    /// A value that does not fit its key.
    #[error("{key} = {value} ({origin}): {reason}")]
    BadValue {
        /// Dotted.
        key: String,
        /// As TOML.
        value: String,
        /// Where it was written.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
}

impl LoadError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } => {
                "name the file with --config; `pilothouse controller example-config` and `pilothouse router example-config` print a start"
                    .into()
            }
            Self::TooLarge { .. } => "is this the configuration file?".into(),
            Self::NotToml { .. } => "correct that line; texts stand in quotes: name = \"controller-1\"".into(),
            Self::NotUnicode { variable } => format!("set {variable} again, or unset it"),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean {nearest:?}?"),
            Self::UnknownKey { allowed, .. } => format!("known keys there: {}", allowed.join(", ")),
            Self::BadValue { origin: Origin::Environment { variable }, .. } => format!(
                "a text that looks like something else is quoted, {variable}='\"123\"', and a list is {variable}='[\"a\", \"b\"]'"
            ),
            Self::BadValue { .. } => "`pilothouse config show --origin` shows where each value comes from".into(),
        }
    }
}

/// Puts figment's error into our words.
pub(super) fn explain(
    error: &figment::Error,
    merged: &Figment,
    origins: &Origins,
    known: &BTreeMap<String, Option<Value>>,
) -> LoadError {
    let path = error.path.join(".");
    if let Kind::UnknownField(name, allowed) = &error.kind {
        let key = match path.as_str() {
            "" => name.clone(),
            path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
            path => format!("{path}.{name}"),
        };
        let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
        let siblings: Vec<_> = allowed.iter().map(|name| dotted(parent, name)).collect();
        // Inside of a list only what stands beside it can be meant.
        let in_list = key.split('.').any(|part| part.parse::<usize>().is_ok());
        let anywhere = known.keys().filter(|_| !in_list);
        let nearest = nearest(&key, anywhere.chain(&siblings).map(String::as_str)).map(with_places);
        let allowed = siblings.iter().map(|key| with_places(key)).collect();
        return LoadError::UnknownKey { origin: origins.of(&key), nearest, allowed, key: with_places(&key) };
    }
    let value = merged.find_value(&path).ok().map_or_else(|| "?".into(), |value| toml_text(&value));
    let (origin, reason) = (origins.of(&path), error.kind.to_string());
    LoadError::BadValue { key: with_places(&path), value, origin, reason }
}

fn dotted(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// `members.0.name` as `members[0].name`.
fn with_places(key: &str) -> String {
    let mut shown = String::new();
    for part in key.split('.') {
        match part.parse::<usize>() {
            Ok(place) => shown.push_str(&format!("[{place}]")),
            Err(_) if shown.is_empty() => shown.push_str(part),
            Err(_) => shown.push_str(&format!(".{part}")),
        }
    }
    shown
}
