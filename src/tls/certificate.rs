//! What a certificate says of its owner. Whether it is to be believed is [`super::verify`]'s concern.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::domain::principal::{InvalidPrincipal, Principal};

/// Most URIs of a certificate that are named in an error.
const URIS_SHOWN_MAX: usize = 3;

/// Why a certificate names nobody of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// Not an X.509 certificate.
    #[error("is not a readable X.509 certificate")]
    Unreadable,
    /// A certificate that may sign others is nobody's identity.
    #[error("is a CA certificate: a leaf is needed")]
    Authority,
    /// An identity is exactly one URI.
    #[error("has {count} URI names ({shown}): exactly one is needed, spiffe://TRUST-DOMAIN/ROLE/ID")]
    Uris {
        /// How many.
        count: usize,
        /// The first ones.
        shown: String,
    },
    /// The URI is no identity of ours.
    #[error("has the URI name {uri:?}, which {why}")]
    Foreign {
        /// Cut to a printable length.
        uri: String,
        /// Why not.
        why: InvalidPrincipal,
    },
}

/// Who and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub principal: Principal,
    /// Seconds since 1970 from which it is valid.
    pub not_before: i64,
    /// Seconds since 1970 after which it is not valid any more.
    pub not_after: i64,
}

/// Reads a leaf: DER in, nothing verified.
///
/// # Errors
/// [`NoIdentity`].
pub fn read_leaf(der: &[u8]) -> Result<Leaf, NoIdentity> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| NoIdentity::Unreadable)?;
    if !rest.is_empty() {
        return Err(NoIdentity::Unreadable);
    }
    // An extension that cannot be read could be one that makes it a CA.
    let constraints = certificate.basic_constraints().map_err(|_| NoIdentity::Unreadable)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(NoIdentity::Authority);
    }
    let names = certificate.subject_alternative_name().map_err(|_| NoIdentity::Unreadable)?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let uris: Vec<&str> =
        names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect();
    let [uri] = uris[..] else {
        let shown: Vec<String> = uris.iter().take(URIS_SHOWN_MAX).map(|uri| excerpt(uri)).collect();
        return Err(NoIdentity::Uris { count: uris.len(), shown: shown.join(", ") });
    };
    let principal = uri.parse().map_err(|why| NoIdentity::Foreign { uri: excerpt(uri), why })?;
    let validity = certificate.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(Leaf { principal, not_before, not_after })
}

/// Seconds since 1970 after which any certificate is not valid any more.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<i64> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}

fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}
