//! Configurations that a command writes for a daemon that has not run yet: never over one that is there.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;

/// A path as it is written into a configuration: it means the same wherever the daemon is started.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path).map_err(|why| Failure::from(why).doing("cannot tell where this is"))?;
    if absolute.to_str().is_none() {
        return Err(Failure::usage(format!("{} is no text", path.display())).hint("use a path of UTF-8"));
    }
    Ok(absolute)
}

/// A path beside another one.
pub(super) fn beside(path: &Path, name: &str) -> Result<PathBuf, Failure> {
    let parent = path.parent().ok_or_else(|| {
        Failure::usage(format!("{} has nothing beside it", path.display())).hint("name a directory below it")
    })?;
    Ok(parent.join(name))
}

/// Refuses to write over a configuration.
pub(super) fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} is there already, and nothing is overwritten", path.display()))
            .hint("name another file with --config-out, or move that one away"));
    }
    Ok(())
}

/// Writes a configuration that was not there.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    refuse_existing(path)?;
    let written = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a configuration helps nobody.
            let _ = fs::remove_file(path);
        }
        written
    };
    written().map_err(|why| {
        Failure::from(why)
            .doing(format!("cannot write the configuration {}", path.display()))
            .hint("name a file that can be written with --config-out; what was done before stays done")
    })
}
