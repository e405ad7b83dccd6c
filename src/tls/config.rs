//! The `[tls]` table, the same in the configurations of controllers, routers and operators.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::material::{Files, MaterialError};
use super::security::Security;
use super::store::Store;
use crate::domain::endpoint::{Endpoint, Scheme};
use crate::domain::principal::{RoleKind, TrustDomain};
use crate::ops::config::Problems;

/// Names of the files in `tls.dir`, as `pilothouse pki issue` writes them.
pub mod names {
    /// The own certificate.
    pub const CERTIFICATE: &str = "certificate.pem";
    /// Its key.
    pub const KEY: &str = "key.pem";
    /// Whoever signs controllers.
    pub const CA_CONTROLLERS: &str = "ca-controllers.pem";
    /// Whoever signs routers.
    pub const CA_ROUTERS: &str = "ca-routers.pem";
    /// Whoever signs admins.
    pub const CA_ADMINS: &str = "ca-admins.pem";
    /// The routers' issuer.
    pub const ROUTER_ISSUER: &str = "router-issuer.pem";
    /// Its key.
    pub const ROUTER_ISSUER_KEY: &str = "router-issuer-key.pem";
}

/// As written for routers and operators. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFile {
    /// A directory with everything under its usual names; each of the keys below overrides one of them.
    pub dir: Option<PathBuf>,
    /// The own certificate, PEM, leaf first.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM, readable by nobody else.
    pub key: Option<PathBuf>,
    /// Whoever signs controllers, PEM.
    pub ca_controllers: Option<PathBuf>,
    /// The trust domain, when it should be checked: that of the certificate is used otherwise.
    pub trust_domain: Option<String>,
    /// Plain text instead of TLS, on this host only.
    pub insecure: Option<bool>,
    /// Plain text to and from other hosts too.
    pub insecure_off_loopback: Option<bool>,
}

/// As written for controllers, which also verify routers and admins. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerTlsFile {
    /// A directory with everything under its usual names; each of the keys below overrides one of them.
    pub dir: Option<PathBuf>,
    /// The own certificate, PEM, leaf first.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM, readable by nobody else.
    pub key: Option<PathBuf>,
    /// Whoever signs controllers, PEM.
    pub ca_controllers: Option<PathBuf>,
    /// Whoever signs routers, PEM.
    pub ca_routers: Option<PathBuf>,
    /// Whoever signs admins, PEM.
    pub ca_admins: Option<PathBuf>,
    /// The routers' issuer, PEM, where routers may be enrolled.
    pub router_issuer: Option<PathBuf>,
    /// Its key, PEM.
    pub router_issuer_key: Option<PathBuf>,
    /// The trust domain, when it should be checked: that of the certificate is used otherwise.
    pub trust_domain: Option<String>,
    /// Plain text instead of TLS, on this host only.
    pub insecure: Option<bool>,
    /// Plain text to and from other hosts too.
    pub insecure_off_loopback: Option<bool>,
}

/// As meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// Plain text.
    Insecure {
        /// To and from other hosts too.
        off_loopback: bool,
    },
    /// TLS with these files.
    Files(Box<Files>),
}

impl TlsConfig {
    /// Reads the files, if there are any.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn open(&self) -> Result<Security, MaterialError> {
        match self {
            Self::Insecure { off_loopback } => Ok(Security::Plain { off_loopback: *off_loopback }),
            Self::Files(files) => Store::open((**files).clone()).map(Security::Tls),
        }
    }

    /// The same for a process that goes on running, with patience for files that are being replaced.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub async fn open_patiently(&self) -> Result<Security, MaterialError> {
        match self {
            Self::Insecure { .. } => self.open(),
            Self::Files(files) => Store::open_patiently((**files).clone()).await.map(Security::Tls),
        }
    }

    /// How addresses are written.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Insecure { .. } => Scheme::Plain,
            Self::Files(_) => Scheme::Tls,
        }
    }

    /// Adds a problem for an address that is written in the wrong way.
    pub fn check(&self, key: &str, endpoint: &Endpoint, problems: &mut Problems) {
        match (self.scheme(), endpoint.scheme()) {
            (Scheme::Tls, Scheme::Plain) => problems.add(
                key,
                format!("{endpoint} is plain text"),
                "write https://HOST:PORT; http:// works only with tls.insecure = true",
            ),
            (Scheme::Plain, Scheme::Tls) => problems.add(
                key,
                format!("{endpoint} asks for TLS, and tls.insecure is set"),
                "write http://HOST:PORT, or remove tls.insecure and set tls.dir",
            ),
            _ => {}
        }
    }
}

impl TlsFile {
    /// Plain text on this host.
    #[must_use]
    pub fn plain() -> Self {
        Self { insecure: Some(true), ..Self::default() }
    }

    /// What was meant by a router or an admin; `None` when something is wrong, which is told.
    pub fn meant(self, expected: RoleKind, problems: &mut Problems) -> Option<TlsConfig> {
        let Self { dir, certificate, key, ca_controllers, trust_domain, insecure, insecure_off_loopback } = self;
        let written = ControllerTlsFile {
            dir,
            certificate,
            key,
            ca_controllers,
            trust_domain,
            insecure,
            insecure_off_loopback,
            ..ControllerTlsFile::default()
        };
        written.meant_by(expected, problems)
    }
}

impl ControllerTlsFile {
    /// Plain text on this host.
    #[must_use]
    pub fn plain() -> Self {
        Self { insecure: Some(true), ..Self::default() }
    }

    /// What was meant; `None` when something is wrong, which is told.
    pub fn meant(self, problems: &mut Problems) -> Option<TlsConfig> {
        self.meant_by(RoleKind::Controller, problems)
    }

    fn meant_by(self, expected: RoleKind, problems: &mut Problems) -> Option<TlsConfig> {
        let insecure = self.insecure.unwrap_or(false);
        let off_loopback = self.insecure_off_loopback.unwrap_or(false);
        if off_loopback && !insecure {
            let key = "tls.insecure_off_loopback";
            problems.add(key, "is set without tls.insecure", "remove it, or set tls.insecure too");
            return None;
        }
        match (insecure, self.names_files()) {
            (true, true) => {
                problems.add("tls.insecure", "is set beside certificates", "choose one: plain text, or TLS");
                None
            }
            (true, false) => Some(TlsConfig::Insecure { off_loopback }),
            (false, false) => {
                problems.add(
                    "tls",
                    "names no certificate",
                    "set tls.dir to what `pilothouse pki issue` wrote; or tls.insecure = true for plain text on this host",
                );
                None
            }
            (false, true) => self.files(expected, problems).map(|files| TlsConfig::Files(Box::new(files))),
        }
    }

    fn names_files(&self) -> bool {
        let others = [&self.ca_routers, &self.ca_admins, &self.router_issuer, &self.router_issuer_key];
        let own = [&self.dir, &self.certificate, &self.key, &self.ca_controllers];
        own.into_iter().chain(others).any(Option::is_some)
    }

    fn files(self, expected: RoleKind, problems: &mut Problems) -> Option<Files> {
        let usual = |name: &str| self.dir.as_ref().map(|dir| dir.join(name));
        let mut needed = |key: &str, written: &Option<PathBuf>, name: &str| {
            let path = written.clone().or_else(|| usual(name));
            if path.is_none() {
                problems.add(key, "is missing", format!("name the file, or set tls.dir, where it is {name}"));
            }
            path
        };
        let certificate = needed("tls.certificate", &self.certificate, names::CERTIFICATE);
        let key = needed("tls.key", &self.key, names::KEY);
        let ca_controllers = needed("tls.ca_controllers", &self.ca_controllers, names::CA_CONTROLLERS);
        let (mut ca_routers, mut ca_admins, mut router_issuer) = (None, None, None);
        if expected == RoleKind::Controller {
            ca_routers = Some(needed("tls.ca_routers", &self.ca_routers, names::CA_ROUTERS)?);
            ca_admins = Some(needed("tls.ca_admins", &self.ca_admins, names::CA_ADMINS)?);
            router_issuer = self.issuer(problems)?;
        }
        let trust_domain = self.trust_domain.clone().map(TrustDomain::new).transpose();
        let trust_domain = trust_domain
            .map_err(|why| problems.add("tls.trust_domain", why.to_string(), "write it as in \"example.org\""))
            .ok()?;
        Some(Files {
            certificate: certificate?,
            key: key?,
            ca_controllers: ca_controllers?,
            ca_routers,
            ca_admins,
            router_issuer,
            trust_domain,
            expected,
        })
    }

    /// The routers' issuer, where there is one: it need not lie in the directory.
    fn issuer(&self, problems: &mut Problems) -> Option<Option<(PathBuf, PathBuf)>> {
        let usual = |name: &str| self.dir.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists());
        let certificate = self.router_issuer.clone().or_else(|| usual(names::ROUTER_ISSUER));
        let key = self.router_issuer_key.clone().or_else(|| usual(names::ROUTER_ISSUER_KEY));
        if certificate.is_some() != key.is_some() {
            problems.add(
                "tls.router_issuer",
                "and tls.router_issuer_key belong together",
                "give both, or neither: then other controllers enrol routers",
            );
            return None;
        }
        Some(certificate.zip(key))
    }
}
