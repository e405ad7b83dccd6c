//! A private key as text. Nothing prints it, and its memory is wiped when it is dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A private key, PEM (PKCS#8). It is checked where it is used.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<String>);

impl PrivateKey {
    /// From its text.
    #[must_use]
    pub fn from_pem(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Its text, to be written to a file or given to a library and nowhere else.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(not shown)")
    }
}
