//! Which older binary an upgrade begins with, and what it says of itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::failure::Failure;

/// Where `.ci/compat.sh` puts the newest older binary, from the folder of build profiles.
const NEWEST: &str = "compat/newest/pilothouse";

/// The one that was named, or the one that a checkout has built.
///
/// # Errors
/// When there is none, with how to get one.
pub(crate) fn find(named: Option<&Path>, own: &Path) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        let found = named.canonicalize();
        return found.map_err(|why| {
            Failure::usage(format!("{} cannot be run: {why}", named.display()))
                .hint("name an older `pilothouse` with --older")
        });
    }
    let built = own.parent().and_then(Path::parent).map(|target| target.join(NEWEST));
    built.filter(|built| built.exists()).ok_or_else(|| {
        Failure::usage("there is no older binary to begin with")
            .hint("name one with --older, or let `.ci/compat.sh` build one in a checkout")
    })
}

/// The version that a binary prints.
///
/// # Errors
/// When it is no `pilothouse`.
pub(crate) fn version(program: &Path) -> Result<String, Failure> {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let said = asked.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    said.trim().strip_prefix("pilothouse ").map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("{} is no pilothouse: it does not say which version it is", program.display()))
            .hint("name an older `pilothouse` with --older")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_binary_is_the_named_one_or_that_of_the_checkout_or_none() {
        let target = tempfile::tempdir().unwrap();
        let own = target.path().join("release").join("pilothouse");
        let none = find(None, &own).unwrap_err();
        assert!(none.into_error().to_string().contains(".ci/compat.sh"));
        let built = target.path().join(NEWEST);
        std::fs::create_dir_all(built.parent().unwrap()).unwrap();
        std::fs::write(&built, "").unwrap();
        assert_eq!(find(None, &own).unwrap(), built);
        let named = target.path().join("named");
        assert!(find(Some(&named), &own).is_err());
        std::fs::write(&named, "").unwrap();
        assert_eq!(find(Some(&named), &own).unwrap(), named.canonicalize().unwrap());
    }

    #[test]
    fn what_says_no_version_is_no_older_build() {
        assert!(version(Path::new("/bin/true")).is_err());
        assert!(version(Path::new("/nowhere")).is_err());
    }
}
