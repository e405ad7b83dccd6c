//! Key, certificate and issuers of somebody who is being enrolled, in one directory under their usual names.
//!
//! The key is there first: whoever asks again with the same token has to have the same key. The certificate comes last:
//! where there is one, everything is there. It does not know who signs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::domain::principal::Principal;
use crate::tls::authority::{
    CertificateError, FileError, Made, RequestError, describe, make_request, make_request_with, read_certificates,
    read_key, write_certificates, write_key,
};
use crate::tls::config::names;

/// Only its owner.
const DIR_MODE: u32 = 0o700;

/// What a directory holds.
#[derive(Debug)]
pub enum Identity {
    /// No certificate yet. The key is on disk.
    Asking(Made),
    /// A certificate of this identity.
    Complete,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory itself.
    #[error("cannot make the directory {}: check the path, and who may write there", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key that is there.
    #[error("cannot use {}: {why}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: RequestError,
    },
    /// Others may have read it.
    #[error("{} can be read by others (mode {mode:o}): remove it, and a new key is made", path.display())]
    OpenKey {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A certificate that cannot be read.
    #[error("{} is there already, and cannot be read: {why}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: CertificateError,
    },
    /// A certificate of somebody else.
    #[error("{} is there already, and is {found}'s, not {asked}'s: choose another directory with --tls-dir", path.display())]
    Other {
        /// Which file.
        path: PathBuf,
        /// Whose it is, in words.
        found: String,
        /// Whose it should be.
        asked: Box<Principal>,
    },
}

/// Where the certificate is.
#[must_use]
pub fn certificate(dir: &Path) -> PathBuf {
    dir.join(names::CERTIFICATE)
}

/// Looks what a directory holds; where there is no certificate and no key, makes the key.
///
/// # Errors
/// [`IdentityError`]; nothing is written over.
pub fn prepare(dir: &Path, principal: &Principal) -> Result<Identity, IdentityError> {
    if let Some(found) = holder(dir)? {
        if found.as_ref() == Some(principal) {
            return Ok(Identity::Complete);
        }
        let found = found.map_or_else(|| "nobody".to_owned(), |found| found.to_string());
        return Err(IdentityError::Other { path: certificate(dir), found, asked: Box::new(principal.clone()) });
    }
    let directory = |source| IdentityError::Directory { path: dir.into(), source };
    make_private(dir).map_err(directory)?;
    let path = dir.join(names::KEY);
    let unusable = |why| IdentityError::Key { path: path.clone(), why };
    match fs::metadata(&path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(IdentityError::OpenKey { path, mode });
            }
            Ok(Identity::Asking(make_request_with(principal, &read_key(&path)?).map_err(unusable)?))
        }
        Err(_) => {
            let made = make_request(principal).map_err(unusable)?;
            write_key(&path, &made.key)?;
            Ok(Identity::Asking(made))
        }
    }
}

/// Completes a directory with what a controller gave.
///
/// # Errors
/// [`FileError`].
pub fn complete(dir: &Path, certificate_pem: &str, ca_controllers_pem: &str) -> Result<(), FileError> {
    write_certificates(&dir.join(names::CA_CONTROLLERS), ca_controllers_pem)?;
    write_certificates(&certificate(dir), certificate_pem)
}

/// Whose certificate is there: `None` when there is none, `Some(None)` when it is nobody's of ours.
///
/// # Errors
/// [`IdentityError`], when it cannot be read.
pub fn holder(dir: &Path) -> Result<Option<Option<Principal>>, IdentityError> {
    let path = certificate(dir);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let described = describe(&read_certificates(&path)?).map_err(|why| IdentityError::Certificate { path, why })?;
    Ok(Some(described.into_iter().next().and_then(|leaf| leaf.principal)))
}

/// One that is there and in use keeps its mode: others may have business in it.
fn make_private(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    if fs::read_dir(dir)?.next().is_none() {
        fs::set_permissions(dir, fs::Permissions::from_mode(DIR_MODE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(id: &str) -> Principal {
        format!("spiffe://example.org/router/{id}").parse().unwrap()
    }

    #[test]
    fn a_key_is_kept_until_there_is_a_certificate_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new").join("tls");
        let asking = || match prepare(&dir, &router("a")) {
            Ok(Identity::Asking(made)) => made.key.pem().to_owned(),
            other => panic!("{other:?}"),
        };
        let key = asking();
        assert_eq!(asking(), key, "the answer may have been lost");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(names::KEY))), (0o700, 0o600));

        fs::set_permissions(dir.join(names::KEY), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(prepare(&dir, &router("a")), Err(IdentityError::OpenKey { .. })));
        fs::write(dir.join(names::KEY), "no key").unwrap();
        fs::set_permissions(dir.join(names::KEY), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(prepare(&dir, &router("a")), Err(IdentityError::Key { .. })));

        fs::write(certificate(&dir), "no certificate").unwrap();
        let error = prepare(&dir, &router("a")).unwrap_err().to_string();
        assert!(error.contains("certificate.pem is there already"), "{error}");
        assert_eq!(fs::read_to_string(dir.join(names::KEY)).unwrap(), "no key");
    }
}
