//! Somebody who has no certificate yet: how it finds out whom to trust, and then verifies controllers like everybody
//! else.
//!
//! Two steps, on two connections. First whoever answers is asked for the issuers of controllers; nothing secret is said.
//! What comes back counts only where it has a fingerprint that came by another way, in a token. Then controllers are
//! verified with these issuers alone, and the secret is said.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, Error, RootCertStore};
use sha2::{Digest, Sha256};

use super::authority::joined;
use super::material::ANCHORS_MAX;
use super::verify::{Anchors, Belief, Servers};
use crate::domain::principal::TrustDomain;

/// A client without a certificate.
#[derive(Clone)]
pub struct Newcomer(pub(super) Arc<ClientConfig>);

impl fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Newcomer")
    }
}

/// Why nobody can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// Not certificates.
    #[error("the issuers that it sent are not readable")]
    Unreadable,
    /// None has a fingerprint of the token.
    #[error("none of the {sent} issuers that it sent is the token's: this is not the cluster that made the token")]
    NoFingerprint {
        /// How many there were.
        sent: usize,
    },
    /// The library refused.
    #[error("the issuers that it sent cannot be used ({0})")]
    Unusable(String),
}

impl Newcomer {
    /// Believes whoever answers: nothing secret may be said.
    ///
    /// # Errors
    /// [`NotTrusted::Unusable`].
    pub fn credulous() -> Result<Self, NotTrusted> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self::with(&provider, Belief::Anybody)
    }

    /// Believes controllers whose issuer is one of these (PEM) and has one of these fingerprints (SHA-256 of the
    /// certificate). Also returns these issuers, PEM.
    ///
    /// # Errors
    /// [`NotTrusted`].
    pub fn trusting(domain: TrustDomain, pem: &str, fingerprints: &[[u8; 32]]) -> Result<(Self, String), NotTrusted> {
        let sent: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(ANCHORS_MAX)
            .collect::<Result<_, _>>()
            .map_err(|_| NotTrusted::Unreadable)?;
        let known = |issuer: &CertificateDer<'_>| fingerprints.contains(&Sha256::digest(issuer).into());
        let count = sent.len();
        let trusted: Vec<_> = sent.into_iter().filter(known).collect();
        if trusted.is_empty() {
            return Err(NotTrusted::NoFingerprint { sent: count });
        }
        let unusable = |why: Error| NotTrusted::Unusable(why.to_string());
        let mut roots = RootCertStore::empty();
        trusted.iter().try_for_each(|issuer| roots.add(issuer.clone())).map_err(unusable)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anchors = Anchors::new(domain, &provider, roots, None, None).map_err(NotTrusted::Unusable)?;
        let texts: Vec<String> = trusted.iter().map(|issuer| super::authority::certificate_text(issuer)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let bundle = joined(&texts).map_err(|why| NotTrusted::Unusable(why.to_string()))?;
        Ok((Self::with(&provider, Belief::Controllers(anchors))?, bundle))
    }

    fn with(provider: &Arc<CryptoProvider>, belief: Belief) -> Result<Self, NotTrusted> {
        let servers = Servers { belief, algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|why| NotTrusted::Unusable(why.to_string()))?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(servers)).with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}
