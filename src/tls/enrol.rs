//! What enrolment needs of an authority: who signs routers' certificates, and whom everybody trusts. A seam, so that
//! tests bring their own.
//!
//! Tokens, and who may have a certificate, are not known here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::authority::{Issuer, Leaf, PrivateKey, Request, Validity, certificate_text};
use super::security::Security;
use super::store::Store;
use crate::domain::ids::RouterId;
use crate::domain::principal::{Principal, Role};

/// How long the certificate of an enrolled router lasts: 90 days.
pub const ENROLLED_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Signs routers' certificates.
pub trait RouterIssuer: Send + Sync {
    /// A certificate for the key of a request (PKCS#10, DER), as a PEM chain, leaf first. Nothing but the key is taken
    /// from the request.
    ///
    /// # Errors
    /// Why not, in words.
    fn sign(&self, request_der: &[u8], router: &RouterId) -> Result<String, String>;

    /// SHA-256 of the public key that a request is for, once it has proved that it owns it.
    ///
    /// # Errors
    /// What is wrong with the request, in words.
    fn key_sha256(&self, request_der: &[u8]) -> Result<[u8; 32], String>;
}

/// Whom everybody trusts.
pub trait Trust: Send + Sync {
    /// The trust domain.
    fn domain(&self) -> String;

    /// The certificates that controllers' certificates go back to, as PEM.
    fn ca_controllers(&self) -> String;

    /// SHA-256 of each of these certificates, as DER.
    fn ca_sha256(&self) -> Vec<[u8; 32]>;
}

/// What a controller enrols routers with.
#[derive(Clone, Default)]
pub struct Enrolling {
    /// `None`: this controller signs nothing.
    pub issuer: Option<Arc<dyn RouterIssuer>>,
    /// `None`: this controller speaks plain text.
    pub trust: Option<Arc<dyn Trust>>,
}

impl Enrolling {
    /// With the certificates in use, whichever they are at that moment.
    #[must_use]
    pub fn of(security: &Security) -> Self {
        let Some(store) = security.store() else { return Self::default() };
        let issues = store.files().router_issuer.is_some();
        Self { issuer: issues.then(|| Arc::new(store.clone()) as _), trust: Some(Arc::new(store.clone())) }
    }
}

impl RouterIssuer for Store {
    fn sign(&self, request_der: &[u8], router: &RouterId) -> Result<String, String> {
        let material = self.current();
        let (certificate, key) = material.router_issuer().ok_or("this controller has no issuer of routers any more")?;
        let issuer = Issuer::open(certificate, &PrivateKey::from_pem(key.to_owned())).map_err(in_words)?;
        let principal = Principal { domain: material.domain().clone(), role: Role::Router(router.clone()) };
        let request = Request::from_der(request_der).map_err(in_words)?;
        let valid = Validity::starting(SystemTime::now(), ENROLLED_FOR);
        let leaf = Leaf { principal, dns: Vec::new(), ips: Vec::new(), valid };
        issuer.sign(&request, &leaf).map_err(in_words)
    }

    fn key_sha256(&self, request_der: &[u8]) -> Result<[u8; 32], String> {
        Request::from_der(request_der).map(|request| request.public_key_sha256()).map_err(in_words)
    }
}

impl Trust for Store {
    fn domain(&self) -> String {
        self.current().domain().to_string()
    }

    fn ca_controllers(&self) -> String {
        self.current().controller_anchors().map(certificate_text).collect()
    }

    fn ca_sha256(&self) -> Vec<[u8; 32]> {
        self.current().controller_anchors().map(|der| Sha256::digest(der).into()).collect()
    }
}

fn in_words(why: impl fmt::Display) -> String {
    why.to_string()
}

impl fmt::Debug for Enrolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (issuer, trust) = (self.issuer.is_some(), self.trust.is_some());
        f.debug_struct("Enrolling").field("issuer", &issuer).field("trust", &trust).finish()
    }
}
