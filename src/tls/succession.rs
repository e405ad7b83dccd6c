//! The next certificate of somebody who has one: for the same identity and the same key, tried before it takes the place of
//! the present one.
//!
//! The key stays: certificate and key are two files, and a crash between two renames would leave a pair that no start can
//! use. Whoever wants a new key enrols again. Who signs is not known here.

use super::authority::{
    FileError, NotGranted, RequestError, StagedCertificates, granted, make_request_with, read_key, stage_certificates,
};
use super::material::{Files, Material, MaterialError};
use super::security::Security;
use super::store::Store;
use crate::domain::principal::Principal;

/// Why there is no next certificate.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No request can be made with the key.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is not what was asked for.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// It cannot be used with what else is there.
    #[error(transparent)]
    Unusable(#[from] MaterialError),
    /// Nothing would be won.
    #[error(
        "the certificate ends no later than the present one: its issuer ends soon, or the clocks of this host and of \
         that controller are far apart"
    )]
    NoLonger,
}

/// A certificate that is on disk and not in use yet. It is gone when it is dropped.
#[derive(Debug)]
pub struct Successor {
    files: Files,
    staged: StagedCertificates,
    security: Security,
}

impl Store {
    /// A request (PKCS#10, DER) for the present identity and the key that lies on disk. Reads the key.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn request(&self) -> Result<Vec<u8>, SuccessionError> {
        Ok(make_request_with(&self.principal(), &read_key(&self.files().key)?)?.request_der)
    }

    /// Puts what came back (PEM) beside the present certificate, if it is what this request asked for and fits the rest.
    ///
    /// # Errors
    /// [`SuccessionError`]; nothing of it stays.
    pub fn successor(&self, chain: &str, request_der: &[u8]) -> Result<Successor, SuccessionError> {
        granted(chain, &self.principal(), request_der)?;
        let staged = stage_certificates(&self.files().certificate, chain)?;
        let files = Files { certificate: staged.temporary().to_owned(), ..self.files().clone() };
        let store = Self::open(files.clone())?;
        if store.current().leaf().not_after <= self.current().leaf().not_after {
            return Err(SuccessionError::NoLonger);
        }
        Ok(Successor { files, staged, security: Security::Tls(store) })
    }

    /// Whose the present certificate is.
    fn principal(&self) -> Principal {
        self.current().leaf().principal.clone()
    }
}

impl Successor {
    /// How somebody connects who has it already.
    #[must_use]
    pub fn security(&self) -> Security {
        self.security.clone()
    }

    /// Puts it in the place of the present one, on disk: whoever follows the files takes it from there.
    ///
    /// # Errors
    /// [`SuccessionError`]; then the present one stays.
    pub fn replace(self) -> Result<(), SuccessionError> {
        // Somebody may have replaced the key while it was tried.
        Material::load(&self.files)?;
        Ok(self.staged.switch()?)
    }
}
