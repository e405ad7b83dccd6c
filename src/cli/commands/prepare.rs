//! `router prepare`: directories that belong to the user whom the router runs as, made where no shell can make them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use crate::cli::arguments::{Owner, RouterPrepare};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;

pub(super) fn prepare(asked: &RouterPrepare, console: Console) -> Result<ExitStatus, Failure> {
    for directory in &asked.directories {
        let place = directory.display();
        let given = give(directory, asked.owner).map_err(|why| {
            Failure::from(why)
                .doing(format!("cannot make {place} a directory of {}", asked.owner))
                .hint("run it as root, or with CAP_CHOWN, and name real directories, not links to them")
        })?;
        let what = if given { "belongs to" } else { "belonged already to" };
        console.note(&format!("{place} {what} {}", asked.owner));
    }
    Ok(ExitStatus::Done)
}

/// Whether it had to be given away. A link in its place is not followed: it could lead to what root alone may change.
/// Whoever owns the folders above it is trusted.
fn give(directory: &Path, to: Owner) -> io::Result<bool> {
    let Owner { uid, gid } = to;
    match fs::symlink_metadata(directory) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => fs::create_dir_all(directory)?,
        Err(why) => return Err(why),
        Ok(found) if !found.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
        Ok(found) if (found.uid(), found.gid()) == (uid, gid) => return Ok(false),
        Ok(_) => {}
    }
    lchown(directory, Some(uid), Some(gid))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use nix::unistd::{getegid, geteuid};

    use super::*;

    fn me() -> Owner {
        Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// Somebody else, where this user may give something away.
    fn receiver() -> Owner {
        if geteuid().is_root() { Owner { uid: 65_532, gid: 65_533 } } else { me() }
    }

    #[test]
    fn a_directory_is_made_and_given_away_once_and_keeps_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("new").join("router");
        assert!(give(&directory, receiver()).unwrap());
        let found = fs::metadata(&directory).unwrap();
        assert_eq!((found.uid(), found.gid()), (receiver().uid, receiver().gid));
        assert_eq!(fs::metadata(folder.path().join("new")).unwrap().uid(), me().uid, "only what was named");

        fs::write(directory.join("list.current"), "kept").unwrap();
        assert!(!give(&directory, receiver()).unwrap(), "nothing had to be done");
        assert_eq!(fs::read_to_string(directory.join("list.current")).unwrap(), "kept");
    }

    #[test]
    fn what_is_no_directory_is_refused_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link, file) = ["target", "link", "file"].map(|name| folder.path().join(name)).into();
        fs::create_dir(&target).unwrap();
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [&link, &file] {
            assert_eq!(give(path, receiver()).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        }
        assert_eq!(fs::metadata(&target).unwrap().uid(), me().uid);
    }

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!("65532:65533".parse(), Ok(Owner { uid: 65_532, gid: 65_533 }));
        for text in ["", "65532", "nobody:nobody", "1:2:3", "-1:0", ":"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
