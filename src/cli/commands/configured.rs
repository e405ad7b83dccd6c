//! From a daemon's command line to what was meant: layers, then the daemon's own validation, with origins in errors.

use std::path::PathBuf;

use crate::cli::config_layers::{FlagValue, Layers, Loaded, Origin, Origins, Written, load, variables};
use crate::cli::failure::Failure;
use crate::ops::config::{InvalidConfig, Problem};

/// A daemon's written configuration, and its meaning.
pub(super) trait Daemon: Written {
    /// What was meant.
    type Meant;

    /// All relations checked.
    fn meant(self) -> Result<Self::Meant, InvalidConfig>;
}

/// Reads all layers of this process.
pub(super) fn layered<T: Written>(file: Option<PathBuf>, flags: Vec<FlagValue>) -> Result<Loaded<T>, Failure> {
    Ok(load(&Layers { file, environment: variables()?, flags })?)
}

/// Reads all layers and validates the result.
pub(super) fn configured<T: Daemon>(file: Option<PathBuf>, flags: Vec<FlagValue>) -> Result<T::Meant, Failure> {
    validated(layered::<T>(file, flags)?)
}

/// What was meant by what was read.
pub(super) fn validated<T: Daemon>(loaded: Loaded<T>) -> Result<T::Meant, Failure> {
    let Loaded { written, origins, .. } = loaded;
    written.meant().map_err(|invalid| refused(&invalid.problems, &origins))
}

fn refused(problems: &[Problem], origins: &Origins) -> Failure {
    let mut message = String::from("the configuration cannot be used");
    for Problem { key, reason, remedy } in problems {
        let place = match origins.of(key) {
            Origin::Default => String::new(),
            written => format!(" ({written})"),
        };
        message.push_str(&format!("\n  {key}{place}: {reason}\n    {remedy}"));
    }
    Failure::new(message).hint("`pilothouse config show --origin` prints every value and where it came from")
}

#[cfg(test)]
pub(super) mod tests {
    use serde::Serialize;

    use super::*;
    use crate::cli::config_layers::LoadError;

    /// The example can be read as it is; with every commented key set it has each key there is, and no other.
    pub(in crate::cli::commands) fn the_example_is_whole<T: Daemon + Serialize>(example: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.toml");
        let read = |text: &str| -> Result<Loaded<T>, LoadError> {
            std::fs::write(&path, text).unwrap();
            load(&Layers { file: Some(path.clone()), ..Layers::default() })
        };
        let meant = read(example).unwrap().written.meant();
        assert!(meant.is_ok(), "{:?}", meant.err());

        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
        let every: Vec<_> = example.lines().map(|line| if is_key(&line) { &line[1..] } else { line }).collect();
        let loaded = read(&every.join("\n")).unwrap();
        for setting in &loaded.settings {
            let written = loaded.origins.of(&setting.key).to_string();
            assert!(written.contains("example.toml:"), "the example lacks {}", setting.key);
        }
    }
}
