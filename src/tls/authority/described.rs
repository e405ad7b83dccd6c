//! What a certificate says. It is read as it stands: whether it is to be trusted is not decided here, except that
//! [`leaf_issued_by`] verifies one signature.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::parse_x509_certificate;

use super::certificate_text;
use crate::domain::principal::Principal;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Whose it is: its only URI, when that is an identity.
    pub principal: Option<Principal>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Common name of whoever signed it.
    pub issuer: String,
    /// Good from then.
    pub not_before: OffsetDateTime,
    /// Good until then.
    pub not_after: OffsetDateTime,
    /// Of the certificate, hexadecimal.
    pub sha256: String,
    /// Host names that it is good for.
    pub dns: Vec<String>,
    /// Addresses that it is good for.
    pub ips: Vec<IpAddr>,
}

/// Why certificates cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM.
    #[error("the certificates are not readable as PEM: the file was cut or changed, copy it again")]
    NotPem,
    /// Not X.509.
    #[error("certificate {number} of the file cannot be read: it was cut or changed, copy the file again")]
    Unreadable {
        /// Its place, from 1.
        number: usize,
    },
    /// Nothing there.
    #[error("there is no certificate in it: give a file with BEGIN CERTIFICATE")]
    None,
    /// From another authority.
    #[error(
        "the certificate is signed by none of the issuers that are trusted for its role: issue a new one, `pilothouse pki issue`"
    )]
    Stranger,
}

/// Every certificate of a text, in its order. Whatever else stands there is left out.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    found.map_err(|_| CertificateError::NotPem)
}

/// One certificate, whole: nothing follows it.
pub(super) fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// The URIs of a certificate; `None` when its names cannot be read.
pub(super) fn uris(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Some(
        names
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None })
            .collect(),
    )
}

/// What every certificate of a text says, in its order.
///
/// # Errors
/// [`CertificateError`]; no certificate at all is no error.
pub fn describe(pem: &str) -> Result<Vec<Described>, CertificateError> {
    let described =
        |(number, der): (usize, CertificateDer<'_>)| one(&der).ok_or(CertificateError::Unreadable { number });
    (1..).zip(certificates(pem)?).map(described).collect()
}

fn one(der: &[u8]) -> Option<Described> {
    let certificate = parsed(der)?;
    let (mut dns, mut ips) = (Vec::new(), Vec::new());
    let names = certificate.subject_alternative_name().ok()?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => ips.push(address(octets)?),
            _ => {}
        }
    }
    let uris = uris(&certificate)?;
    let principal = if let [uri] = uris.as_slice() { uri.parse().ok() } else { None };
    let issuer = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    Some(Described {
        principal,
        is_ca: certificate.is_ca(),
        issuer: issuer.unwrap_or_default().to_owned(),
        not_before: certificate.validity().not_before.to_datetime(),
        not_after: certificate.validity().not_after.to_datetime(),
        sha256: Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect(),
        dns,
        ips,
    })
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

/// What the first certificate of a chain says, when one of these anchors signed it. It may have expired: this is for
/// its renewal.
///
/// # Errors
/// [`CertificateError`].
pub fn leaf_issued_by(chain_pem: &str, anchors_pem: &str) -> Result<Described, CertificateError> {
    let chain = certificates(chain_pem)?;
    let leaf = chain.first().ok_or(CertificateError::None)?;
    let described = one(leaf).ok_or(CertificateError::Unreadable { number: 1 })?;
    let leaf = parsed(leaf).ok_or(CertificateError::Unreadable { number: 1 })?;
    let anchors = certificates(anchors_pem)?;
    let signed =
        |anchor: X509Certificate<'_>| anchor.is_ca() && leaf.verify_signature(Some(anchor.public_key())).is_ok();
    if anchors.iter().filter_map(|anchor| parsed(anchor)).any(signed) {
        Ok(described)
    } else {
        Err(CertificateError::Stranger)
    }
}

/// The certificates of several texts as one bundle, each once, in the order in which they first stand.
///
/// # Errors
/// [`CertificateError`].
pub fn joined(pems: &[&str]) -> Result<String, CertificateError> {
    let mut bundle: Vec<CertificateDer<'static>> = Vec::new();
    for pem in pems {
        for certificate in certificates(pem)? {
            if !bundle.contains(&certificate) {
                bundle.push(certificate);
            }
        }
    }
    Ok(bundle.iter().map(|certificate| certificate_text(certificate)).collect())
}
