//! An issuer: the self-signed certificate of one role in one trust domain, and its key.
//!
//! What it refuses is as much part of it as what it signs: another role, another trust domain, host names for anybody
//! but a controller, and anything at all when it has ended.

use std::fmt;
use std::net::IpAddr;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::described::{certificates, parsed, uris};
use super::{PrivateKey, Request, Validity, certificate_text, plural};
use crate::domain::principal::{Principal, Role, RoleKind, TrustDomain};

/// Longest common name in X.509 (RFC 5280, ub-common-name).
const COMMON_NAME_MAX: usize = 64;
/// Longest host name in DNS, in bytes.
const HOST_NAME_BYTES_MAX: usize = 253;
/// Longest part of a host name in DNS, in bytes.
const HOST_LABEL_BYTES_MAX: usize = 63;

/// The issuer of one role.
pub struct Issuer {
    signing: rcgen::Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    domain: TrustDomain,
    kind: RoleKind,
    until: OffsetDateTime,
}

/// Why an issuer cannot be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Not one certificate.
    #[error("an issuer's file holds exactly one certificate, this one holds {found}: give issuer-….pem, not a bundle")]
    NotOne {
        /// How many there are.
        found: usize,
    },
    /// Not readable.
    #[error("the issuer's certificate cannot be read: it was cut or changed, restore it from a copy")]
    Unreadable,
    /// Not an issuer.
    #[error("this is no issuer's certificate ({why}): make issuers with `pilothouse pki init`")]
    NotAnIssuer {
        /// What it lacks.
        why: &'static str,
    },
    /// The key is none.
    #[error("the issuer's key cannot be read: give an unencrypted PKCS#8 key, BEGIN PRIVATE KEY")]
    Key,
    /// The key is another one's.
    #[error("the issuer's key does not belong to its certificate: give the two files that were made together")]
    Mismatch,
    /// The library refused.
    #[error("the issuer cannot be made ({why}): see whether this system has randomness, and try again")]
    Making {
        /// What it answered.
        why: String,
    },
}

/// What a certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub principal: Principal,
    /// Host names, for a controller alone: whoever asks its HTTP port verifies these.
    pub dns: Vec<String>,
    /// Addresses, for a controller alone.
    pub ips: Vec<IpAddr>,
    /// From when until when; it never outlives the issuer.
    pub valid: Validity,
}

/// Why an issuer does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Another role.
    #[error("the issuer of {} signs no certificate for {principal}: use the issuer of {}", plural(*.issuer), plural(.principal.role.kind()))]
    Role {
        /// Whom this issuer is for.
        issuer: RoleKind,
        /// Who was asked for.
        principal: Box<Principal>,
    },
    /// Another trust domain.
    #[error("the issuer of trust domain {issuer} signs no certificate for {principal}: use that domain's own issuer")]
    Domain {
        /// What this issuer is for.
        issuer: TrustDomain,
        /// Who was asked for.
        principal: Box<Principal>,
    },
    /// Only controllers are reached by name.
    #[error("{principal} gets no host names or addresses, only controllers do: leave them out")]
    Names {
        /// Who was asked for.
        principal: Box<Principal>,
    },
    /// Not a host name.
    #[error("{name:?} is no host name: give letters, digits and hyphens with dots between, without wildcards")]
    HostName {
        /// What was given.
        name: String,
    },
    /// The issuer is no longer good.
    #[error("the issuer of {} ended at {until}: replace it, `pilothouse pki renew --issuer {}`", plural(*.issuer), plural(*.issuer))]
    Ended {
        /// Whom this issuer is for.
        issuer: RoleKind,
        /// When it ended.
        until: OffsetDateTime,
    },
    /// The library refused.
    #[error("the certificate cannot be made ({why}): have the request made again")]
    Making {
        /// What it answered.
        why: String,
    },
}

impl Issuer {
    /// Makes a new key and its self-signed certificate.
    ///
    /// # Errors
    /// [`IssuerError::Making`].
    pub fn create(domain: &TrustDomain, kind: RoleKind, valid: Validity) -> Result<Self, IssuerError> {
        let made = || {
            let key = KeyPair::generate()?;
            let mut says = CertificateParams::default();
            let name = format!("Pilothouse {} of {domain}", plural(kind));
            says.distinguished_name = subject(name.chars().take(COMMON_NAME_MAX).collect(), plural(kind));
            says.subject_alt_names = vec![SanType::URI(Ia5String::try_from(format!("spiffe://{domain}"))?)];
            says.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            says.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            says.serial_number = Some(serial());
            (says.not_before, says.not_after) = (valid.from, valid.until);
            Ok((certificate_text(says.self_signed(&key)?.der()), PrivateKey::from_pem(key.serialize_pem())))
        };
        let (certificate, key) =
            made().map_err(|error: rcgen::Error| IssuerError::Making { why: error.to_string() })?;
        Self::open(&certificate, &key)
    }

    /// Opens an issuer that was made before.
    ///
    /// # Errors
    /// [`IssuerError`], also when the certificate and the key do not belong together.
    pub fn open(certificate_pem: &str, key: &PrivateKey) -> Result<Self, IssuerError> {
        let certificate = only(certificate_pem)?;
        let read = parsed(&certificate).ok_or(IssuerError::Unreadable)?;
        let (domain, kind) = is_for(&read).map_err(|why| IssuerError::NotAnIssuer { why })?;
        let until = read.validity().not_after.to_datetime();
        // What a library says about a key that it could not read may contain a part of it, so it is not passed on.
        let key = KeyPair::from_pem(key.pem()).map_err(|_| IssuerError::Key)?;
        if key.subject_public_key_info() != read.public_key().raw {
            return Err(IssuerError::Mismatch);
        }
        let signing = rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(|_| IssuerError::Unreadable)?;
        Ok(Self { signing, certificate, domain, kind, until })
    }

    /// Its certificate: the anchor that is to be trusted.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        certificate_text(&self.certificate)
    }

    /// Its key.
    #[must_use]
    pub fn key_pem(&self) -> PrivateKey {
        PrivateKey::from_pem(self.signing.key().serialize_pem())
    }

    /// Whose certificates it signs.
    #[must_use]
    pub fn kind(&self) -> RoleKind {
        self.kind
    }

    /// Within which.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.until
    }

    /// Signs a certificate for the key of a request: the leaf as PEM, and after it the issuer's own certificate.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, request: &Request, leaf: &Leaf) -> Result<String, SignError> {
        self.check(leaf)?;
        let made = || {
            let mut says = CertificateParams::default();
            let id = match &leaf.principal.role {
                Role::Controller(id) => id.to_string(),
                Role::Router(id) => id.to_string(),
                Role::Admin(id) => id.to_string(),
            };
            says.distinguished_name = subject(id, self.kind.as_str());
            says.subject_alt_names = vec![SanType::URI(Ia5String::try_from(leaf.principal.to_string())?)];
            for name in &leaf.dns {
                says.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
            }
            says.subject_alt_names.extend(leaf.ips.iter().copied().map(SanType::IpAddress));
            says.is_ca = IsCa::ExplicitNoCa;
            says.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            says.extended_key_usages = usages(self.kind);
            // After a rollover two issuers have the same name: this says which one signed.
            says.use_authority_key_identifier_extension = true;
            says.serial_number = Some(serial());
            (says.not_before, says.not_after) = (leaf.valid.from, leaf.valid.until.min(self.until));
            Ok(certificate_text(says.signed_by(&request.key, &self.signing)?.der()))
        };
        let leaf = made().map_err(|error: rcgen::Error| SignError::Making { why: error.to_string() })?;
        Ok(leaf + &self.certificate_pem())
    }

    fn check(&self, leaf: &Leaf) -> Result<(), SignError> {
        let principal = || Box::new(leaf.principal.clone());
        if leaf.principal.role.kind() != self.kind {
            return Err(SignError::Role { issuer: self.kind, principal: principal() });
        }
        if leaf.principal.domain != self.domain {
            return Err(SignError::Domain { issuer: self.domain.clone(), principal: principal() });
        }
        if self.kind != RoleKind::Controller && !(leaf.dns.is_empty() && leaf.ips.is_empty()) {
            return Err(SignError::Names { principal: principal() });
        }
        if let Some(name) = leaf.dns.iter().find(|name| !is_host_name(name)) {
            return Err(SignError::HostName { name: name.clone() });
        }
        // The beginning is back-dated, so now is a little later.
        if leaf.valid.from + super::CLOCK_SKEW >= self.until {
            return Err(SignError::Ended { issuer: self.kind, until: self.until });
        }
        Ok(())
    }
}

/// Its key is not shown.
impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("domain", &self.domain).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What an issuer is for, according to its certificate: its key may be lost.
///
/// # Errors
/// [`IssuerError`].
pub fn issuer_is_for(certificate_pem: &str) -> Result<(TrustDomain, RoleKind), IssuerError> {
    let certificate = only(certificate_pem)?;
    let read = parsed(&certificate).ok_or(IssuerError::Unreadable)?;
    is_for(&read).map_err(|why| IssuerError::NotAnIssuer { why })
}

/// The only certificate of a text.
fn only(certificate_pem: &str) -> Result<CertificateDer<'static>, IssuerError> {
    let mut found = certificates(certificate_pem).map_err(|_| IssuerError::Unreadable)?;
    match (found.len(), found.pop()) {
        (1, Some(certificate)) => Ok(certificate),
        (found, _) => Err(IssuerError::NotOne { found }),
    }
}

/// A controller answers and asks, the others only ask.
fn usages(kind: RoleKind) -> Vec<ExtendedKeyUsagePurpose> {
    match kind {
        RoleKind::Controller => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        RoleKind::Router | RoleKind::Admin => vec![ExtendedKeyUsagePurpose::ClientAuth],
    }
}

fn subject(name: String, unit: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationalUnitName, unit);
    subject.push(DnType::CommonName, name);
    subject
}

/// 128 random bits.
fn serial() -> SerialNumber {
    SerialNumber::from_slice(&rand::random::<[u8; 16]>())
}

/// What an issuer's certificate says it is for, or why it is no issuer's.
fn is_for(certificate: &X509Certificate<'_>) -> Result<(TrustDomain, RoleKind), &'static str> {
    if !certificate.is_ca() {
        return Err("it may not sign others");
    }
    let usage = certificate.key_usage().ok().flatten();
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err("its key may not sign certificates");
    }
    certificate.verify_signature(None).map_err(|_| "it is not signed with its own key")?;
    let units: Vec<_> = certificate.subject().iter_organizational_unit().collect();
    let [unit] = units.as_slice() else { return Err("it does not name one role") };
    let kind = RoleKind::ALL.into_iter().find(|kind| unit.as_str().is_ok_and(|unit| unit == plural(*kind)));
    let uris = uris(certificate).unwrap_or_default();
    let [uri] = uris.as_slice() else { return Err("it does not name one trust domain") };
    let domain = uri.strip_prefix("spiffe://").and_then(|domain| TrustDomain::new(domain).ok());
    Ok((domain.ok_or("it names no trust domain")?, kind.ok_or("it names no role of ours")?))
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=HOST_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= HOST_NAME_BYTES_MAX && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}
