//! Whether what came back is what was asked for: a certificate for this identity, and for the key of the request.
//!
//! Who signed it is not known here: whoever asked trusts whom it asked.

use sha2::{Digest, Sha256};

use super::described::{CertificateError, certificates, describe, parsed};
use super::{Request, RequestError};
use crate::domain::principal::Principal;

/// Why a certificate is not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CertificateError),
    /// The own request cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is for somebody else.
    #[error("the certificate is for {found}, and {asked} was asked for: report this")]
    OtherIdentity {
        /// Whom it is for, in words.
        found: String,
        /// Whom it should be for.
        asked: Box<Principal>,
    },
    /// It is for another key.
    #[error("the certificate is for another key than the request: report this")]
    OtherKey,
    /// It signs others.
    #[error("the certificate may sign others, which nobody asked for: report this")]
    Issuer,
}

/// What the leaf of a chain (PEM) says, when it is for this identity and for the key of this request (DER).
///
/// # Errors
/// [`NotGranted`].
pub fn granted(chain_pem: &str, principal: &Principal, request_der: &[u8]) -> Result<super::Described, NotGranted> {
    let asked = Request::from_der(request_der)?.public_key_sha256();
    let described = describe(chain_pem)?.into_iter().next().ok_or(CertificateError::None)?;
    if described.principal.as_ref() != Some(principal) {
        let found = described.principal.map_or_else(|| "nobody".to_owned(), |principal| principal.to_string());
        return Err(NotGranted::OtherIdentity { found, asked: Box::new(principal.clone()) });
    }
    if described.is_ca {
        return Err(NotGranted::Issuer);
    }
    let chain = certificates(chain_pem)?;
    let leaf = chain.first().and_then(|leaf| parsed(leaf)).ok_or(CertificateError::Unreadable { number: 1 })?;
    let key: [u8; 32] = Sha256::digest(leaf.public_key().raw).into();
    if key == asked { Ok(described) } else { Err(NotGranted::OtherKey) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::domain::principal::RoleKind;
    use crate::tls::authority::{Issuer, Leaf, Validity, make_request, make_request_with};

    #[test]
    fn only_the_certificate_of_this_identity_and_this_key_is_taken() {
        let router = |id: &str| -> Principal { format!("spiffe://example.org/router/{id}").parse().unwrap() };
        let valid = || Validity::starting(SystemTime::now(), Duration::from_secs(3600));
        let issuer = Issuer::create(&router("a").domain, RoleKind::Router, valid()).unwrap();
        let sign = |request_der: &[u8], principal: Principal| {
            let leaf = Leaf { principal, dns: Vec::new(), ips: Vec::new(), valid: valid() };
            issuer.sign(&Request::from_der(request_der).unwrap(), &leaf).unwrap()
        };
        let made = make_request(&router("a")).unwrap();
        let chain = sign(&made.request_der, router("a"));
        let described = granted(&chain, &router("a"), &made.request_der).unwrap();
        assert_eq!(described.principal, Some(router("a")));
        let again = make_request_with(&router("a"), &made.key).unwrap();
        assert!(granted(&chain, &router("a"), &again.request_der).is_ok(), "the key is the same");

        let refused = |chain: &str| granted(chain, &router("a"), &made.request_der).unwrap_err();
        let other = refused(&sign(&made.request_der, router("b"))).to_string();
        assert!(other.contains("router/b, and spiffe://example.org/router/a"), "{other}");
        let stranger = make_request(&router("a")).unwrap();
        assert_eq!(refused(&sign(&stranger.request_der, router("a"))), NotGranted::OtherKey);
        assert!(matches!(refused(&issuer.certificate_pem()), NotGranted::OtherIdentity { .. }));
        assert_eq!(refused(""), NotGranted::Unreadable(CertificateError::None));
        let garbage = super::super::PrivateKey::from_pem("no key".into());
        assert_eq!(make_request_with(&router("a"), &garbage).unwrap_err(), RequestError::OwnKey);
    }
}
