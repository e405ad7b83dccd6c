//! A daemon's configuration in layers: defaults < TOML file < `PILOTHOUSE_…` < flags, and where each value came from.
//!
//! Generic over the written types: what keys there are is known from serde alone, so there is no second schema. It
//! does not know what a value means; that is the daemons' own `validate`.

mod environment;
mod error;
mod nearest;
mod toml_lines;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use environment::variables;
pub use error::LoadError;

/// Largest configuration file.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What may be written in a configuration: every key has a serialized form, and `defaults` fills what has a default.
pub trait Written: Serialize + DeserializeOwned {
    /// The lowest layer.
    fn defaults() -> Self;
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// A line of the file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// From 1; `None` when it is not known.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag.
    Flag {
        /// As typed, with its hyphens.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// A value given on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagValue {
    /// The dotted key that it sets.
    pub key: String,
    /// As typed, with its hyphens.
    pub flag: String,
    /// The value.
    pub value: Value,
}

impl FlagValue {
    /// A flag that sets `key`.
    pub fn new(key: &str, flag: &str, value: impl Into<Value>) -> Self {
        Self { key: key.into(), flag: flag.into(), value: value.into() }
    }
}

/// Everything that was written, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Variables that begin with `PILOTHOUSE_`, with their values.
    pub environment: Vec<(String, String)>,
    /// Flags.
    pub flags: Vec<FlagValue>,
}

/// One resulting value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// The value; `None` when it is not set and has no default.
    pub value: Option<Value>,
    /// Where it came from.
    pub origin: Origin,
}

/// The resulting configuration.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// As written, defaults filled in.
    pub written: T,
    /// Every key, ordered.
    pub settings: Vec<Setting>,
    /// Where everything was written.
    pub origins: Origins,
}

/// Reads and merges all layers.
///
/// # Errors
/// [`LoadError`], which names the key, the value, and where it was written.
pub fn load<T: Written>(layers: &Layers) -> Result<Loaded<T>, LoadError> {
    let mut origins = Origins::default();
    let mut figment = Figment::from(Serialized::defaults(T::defaults()));
    if let Some(path) = &layers.file {
        let text = read(path)?;
        let lines = toml_lines::lines(&text).map_err(|why| LoadError::NotToml { path: path.clone(), why })?;
        for (key, line) in lines {
            origins.0.insert(key, Origin::File { path: path.clone(), line: Some(line) });
        }
        figment = figment.merge(Toml::string(&text));
    }
    for (variable, text) in &layers.environment {
        let Some(key) = environment::key(variable) else { continue };
        let value = environment::value(text);
        figment = overlay(figment, &mut origins, &key, value, Origin::Environment { variable: variable.clone() });
    }
    for flag in &layers.flags {
        let origin = Origin::Flag { flag: flag.flag.clone() };
        figment = overlay(figment, &mut origins, &flag.key, flag.value.clone(), origin);
    }
    let known = flatten(&serialized(&T::defaults()));
    let written: T = figment.extract().map_err(|why| error::explain(&why, &figment, &origins, &known))?;
    let settings = flatten(&serialized(&written));
    let settings = settings.into_iter().map(|(key, value)| {
        let origin = origins.0.get(&key).cloned().unwrap_or(Origin::Default);
        Setting { key, value, origin }
    });
    Ok(Loaded { settings: settings.collect(), written, origins })
}

/// Dotted key -> who wrote it last.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of `key`, which may be as in `members[2].name`, or what is around or under it, was written.
    #[must_use]
    pub fn of(&self, key: &str) -> Origin {
        let key = key.replace('[', ".").replace(']', "");
        let mut around = Some(key.as_str());
        while let Some(key) = around {
            if let Some(origin) = self.0.get(key) {
                return origin.clone();
            }
            around = key.rsplit_once('.').map(|(parent, _)| parent);
        }
        let under = self.0.iter().find(|(written, _)| written.starts_with(&format!("{key}.")));
        under.map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.into(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(LoadError::TooLarge { path: path.into(), size });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn overlay(figment: Figment, origins: &mut Origins, key: &str, value: Value, origin: Origin) -> Figment {
    if !matches!(value, Value::Dict(..)) {
        // The value replaces all of a lower layer's, so the places inside of that one mean nothing any more.
        origins.0.retain(|written, _| !written.starts_with(&format!("{key}.")));
    }
    for (inner, _) in flatten(&value) {
        let full = if inner.is_empty() { key.to_owned() } else { format!("{key}.{inner}") };
        origins.0.insert(full, origin.clone());
    }
    figment.merge(Serialized::from(nested(key, value), Profile::Default))
}

/// `a.b` and a value as `{a: {b: value}}`.
fn nested(key: &str, value: Value) -> Value {
    key.rsplit('.').fold(value, |inner, part| Value::from(Dict::from([(part.to_owned(), inner)])))
}

fn serialized<T: Serialize>(written: &T) -> Value {
    Value::serialize(written).expect("configuration types are plain data")
}

/// Every leaf under its dotted key; a list is a leaf, nothing is `None`.
fn flatten(value: &Value) -> BTreeMap<String, Option<Value>> {
    fn walk(prefix: &str, value: &Value, leaves: &mut BTreeMap<String, Option<Value>>) {
        match value {
            Value::Dict(_, dict) => {
                for (key, value) in dict {
                    let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&full, value, leaves);
                }
            }
            Value::Empty(..) => drop(leaves.insert(prefix.into(), None)),
            leaf => drop(leaves.insert(prefix.into(), Some(leaf.clone()))),
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

/// A string as TOML writes it: JSON's escapes are TOML's too.
pub(crate) fn quoted(text: impl AsRef<str>) -> String {
    serde_json::Value::from(text.as_ref()).to_string()
}

#[cfg(test)]
mod tests;
