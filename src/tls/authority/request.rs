//! Requests for certificates (PKCS#10). Who signs one decides the names: what a request asks for is ignored, except
//! that an identity in it is shown, so that a request which somebody else made for itself can be refused.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::PrivateKey;
use crate::domain::principal::Principal;

/// Largest request, in bytes. One with an ECDSA key and a few names has less than 1 KiB.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// A request whose maker holds the key.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) key: SubjectPublicKeyInfo,
    uris: Vec<String>,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than [`REQUEST_BYTES_MAX`].
    #[error(
        "the certificate request has {bytes} bytes, the limit is {REQUEST_BYTES_MAX}: make one for a single identity"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// Not a request.
    #[error("this is no certificate request ({why}): give a PKCS#10 request, BEGIN CERTIFICATE REQUEST")]
    Unreadable {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Whoever made it does not hold the key, or it was changed on its way.
    #[error("the certificate request is not signed with its own key: have it made again where the key is")]
    Signature,
    /// A kind of key that nobody here verifies.
    #[error("the certificate request has a key of a kind that is not taken here: make an ECDSA P-256 key")]
    Key,
    /// The key that a request is to be made for is none.
    #[error("this is no private key that a request can be made with: remove it, and a new one is made")]
    OwnKey,
    /// Keys are made from the system's randomness, which did not answer.
    #[error("a new key cannot be made ({why}): see whether this system has randomness, and try again")]
    Making {
        /// What the library answered.
        why: String,
    },
}

impl Request {
    /// Reads and verifies a request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn from_pem(text: &str) -> Result<Self, RequestError> {
        // Text is a third larger than what it encodes, and has two lines more.
        if text.len() > 2 * REQUEST_BYTES_MAX {
            return Err(RequestError::TooLarge { bytes: text.len() });
        }
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
            .map_err(|_| RequestError::Unreadable { why: "it has no such section" })?;
        Self::from_der(&der)
    }

    /// Reads and verifies a request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLarge { bytes: der.len() });
        }
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|_| RequestError::Unreadable { why: "it is not the encoding of one" })?;
        if !rest.is_empty() {
            return Err(RequestError::Unreadable { why: "something follows it" });
        }
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
            .map_err(|_| RequestError::Key)?;
        let taken = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !taken.contains(&key.algorithm()) {
            return Err(RequestError::Key);
        }
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        let mut uris = Vec::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                uris.extend(names.general_names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                }));
            }
        }
        Ok(Self { key, uris })
    }

    /// The identities that it asks for, as they stand in it: nobody has checked them.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// The first identity that it asks for and that is not this one.
    #[must_use]
    pub fn asks_for_another_than(&self, principal: &Principal) -> Option<&str> {
        let own = principal.to_string();
        self.uris.iter().map(String::as_str).find(|uri| *uri != own)
    }

    /// SHA-256 of the public key, as it stands in the certificate (SubjectPublicKeyInfo).
    #[must_use]
    pub fn public_key_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.key.subject_public_key_info()).into()
    }
}

/// A new key, and the request for its certificate.
#[derive(Debug, Clone)]
pub struct Made {
    /// To be kept where it was made.
    pub key: PrivateKey,
    /// To be signed, DER.
    pub request_der: Vec<u8>,
    /// The same, PEM.
    pub request_pem: String,
}

/// Makes an ECDSA P-256 key, and a request for an identity.
///
/// # Errors
/// [`RequestError::Making`].
pub fn make_request(principal: &Principal) -> Result<Made, RequestError> {
    made(principal, KeyPair::generate().map_err(not_made)?)
}

/// Makes a request for an identity with a key that was made before.
///
/// # Errors
/// [`RequestError::OwnKey`], [`RequestError::Making`].
pub fn make_request_with(principal: &Principal, key: &PrivateKey) -> Result<Made, RequestError> {
    made(principal, KeyPair::from_pem(key.pem()).map_err(|_| RequestError::OwnKey)?)
}

fn made(principal: &Principal, key: KeyPair) -> Result<Made, RequestError> {
    let mut asked = CertificateParams::default();
    asked.distinguished_name = DistinguishedName::new();
    let uri = Ia5String::try_from(principal.to_string()).map_err(not_made)?;
    asked.subject_alt_names = vec![SanType::URI(uri)];
    let request = asked.serialize_request(&key).map_err(not_made)?;
    Ok(Made {
        key: PrivateKey::from_pem(key.serialize_pem()),
        request_pem: request.pem().map_err(not_made)?,
        request_der: request.der().to_vec(),
    })
}

fn not_made(why: rcgen::Error) -> RequestError {
    RequestError::Making { why: why.to_string() }
}
