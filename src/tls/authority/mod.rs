//! A small certificate authority: one self-signed issuer for each role, requests, and the certificates that are made
//! of them.
//!
//! | module | what it is |
//! |---|---|
//! | `issuer` | makes, opens and uses an issuer: what it refuses to sign is decided here |
//! | `request` | a PKCS#10 request, as it comes from somebody else or as it is made here |
//! | `key` | a private key as text, which is never printed and is wiped when it is dropped |
//! | `described` | what a certificate says, for people and for its renewal |
//! | `granted` | whether a certificate that came back is the one that was asked for |
//! | `files` | keys and certificates on disk: modes, and replacement that a crash cannot tear |
//!
//! A role's certificates are trusted from that role's issuer alone, so whoever holds the issuer key of routers can make
//! no controller. It knows no network, and no clock: whoever asks brings the time.

mod described;
mod files;
mod granted;
mod issuer;
mod key;
mod request;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use crate::domain::principal::RoleKind;

pub use described::{CertificateError, Described, describe, joined, leaf_issued_by};
pub use files::{
    FileError, StagedCertificates, read_certificates, read_key, stage_certificates, write_certificates, write_key,
    write_pair,
};
pub use granted::{NotGranted, granted};
pub use issuer::{Issuer, IssuerError, Leaf, SignError, issuer_is_for};
pub use key::PrivateKey;
pub use request::{Made, REQUEST_BYTES_MAX, Request, RequestError, make_request, make_request_with};

/// How far the clock of whoever verifies may be behind the clock of whoever signs.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Validity {
    /// From now, back-dated by [`CLOCK_SKEW`].
    #[must_use]
    pub fn starting(now: SystemTime, lasting: Duration) -> Self {
        let now = OffsetDateTime::from(now);
        let lasting = time::Duration::try_from(lasting).unwrap_or(time::Duration::MAX);
        Self { from: now - CLOCK_SKEW, until: now.saturating_add(lasting) }
    }
}

/// A role's name for all who have it: in file names, and in its issuer's certificate.
#[must_use]
pub const fn plural(kind: RoleKind) -> &'static str {
    match kind {
        RoleKind::Controller => "controllers",
        RoleKind::Router => "routers",
        RoleKind::Admin => "admins",
    }
}

/// A certificate as PEM. Made anew, so that nothing else that stood in a file comes along.
pub(super) fn certificate_text(der: &[u8]) -> String {
    const LINE: usize = 64;
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + "-----END CERTIFICATE-----\n"
}
