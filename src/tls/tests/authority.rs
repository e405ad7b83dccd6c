//! Certificates for tests, also such as the product's own authority refuses to make.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::domain::principal::RoleKind;
use crate::tls::Files;

/// An issuer, or something between one and a leaf.
pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

pub(super) fn intermediate(name: &str, by: &Authority) -> Authority {
    CertifiedIssuer::signed_by(ca_params(name), KeyPair::generate().unwrap(), by).unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// What a leaf says.
pub(super) struct Wanted {
    pub(super) uris: Vec<String>,
    pub(super) dns: Vec<String>,
    pub(super) ca: bool,
    pub(super) from_days: i64,
    pub(super) until_days: i64,
    pub(super) usages: Vec<ExtendedKeyUsagePurpose>,
}

pub(super) fn wanted(uri: &str) -> Wanted {
    Wanted {
        uris: vec![uri.to_owned()],
        dns: Vec::new(),
        ca: false,
        from_days: -1,
        until_days: 1,
        usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
    }
}

/// A certificate and its key, PEM.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) key: String,
}

pub(super) fn issue(wanted: &Wanted, by: &Authority) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { pem: issue_for(wanted, &key, by), key: key.serialize_pem() }
}

/// A certificate for a key that is there.
pub(super) fn issue_for(wanted: &Wanted, key: &KeyPair, by: &Authority) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = if wanted.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.subject_alt_names = wanted.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
    let names = wanted.dns.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap()));
    params.subject_alt_names.extend(names);
    let now = OffsetDateTime::now_utc();
    params.not_before = now + Duration::days(wanted.from_days);
    params.not_after = now + Duration::days(wanted.until_days);
    params.extended_key_usages.clone_from(&wanted.usages);
    params.signed_by(key, by).unwrap().pem()
}

/// The three issuers that everybody in a test trusts, and where files go.
pub(super) struct Trust {
    pub(super) folder: tempfile::TempDir,
    pub(super) controllers: Authority,
    pub(super) routers: Authority,
    pub(super) admins: Authority,
}

impl Trust {
    pub(super) fn new() -> Self {
        let [controllers, routers, admins] = ["controllers", "routers", "admins"].map(authority);
        let trust = Self { folder: tempfile::tempdir().unwrap(), controllers, routers, admins };
        trust.write("ca-controllers.pem", &trust.controllers.pem());
        trust.write("ca-routers.pem", &trust.routers.pem());
        trust.write("ca-admins.pem", &trust.admins.pem());
        trust
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        write_private(&self.path(name), text);
    }

    /// Files of somebody with a chain: certificate, key, and whom he trusts.
    pub(super) fn files(&self, name: &str, expected: RoleKind, chain: &str, key: &str) -> Files {
        let (certificate, key_file) = (format!("{name}.pem"), format!("{name}-key.pem"));
        self.write(&certificate, chain);
        self.write(&key_file, key);
        let verifies = expected == RoleKind::Controller;
        let for_clients = |name: &str| verifies.then(|| self.path(name));
        Files {
            certificate: self.path(&certificate),
            key: self.path(&key_file),
            ca_controllers: self.path("ca-controllers.pem"),
            ca_routers: for_clients("ca-routers.pem"),
            ca_admins: for_clients("ca-admins.pem"),
            router_issuer: None,
            trust_domain: None,
            expected,
        }
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    // Replaced as `pilothouse pki` does it: whoever reads meanwhile sees one or the other.
    let made = path.with_extension("new");
    let _ = std::fs::remove_file(&made);
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&made).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(made, path).unwrap();
}
