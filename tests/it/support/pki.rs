//! A throw-away authority: issuers in memory, certificates in directories as `pilothouse pki issue` lays them out.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use pilothouse::domain::principal::{Principal, Role, RoleKind, TrustDomain};
use pilothouse::tls::authority::{
    Issuer, Leaf, Request, Validity, make_request, plural, write_certificates, write_key,
};
use pilothouse::tls::config::names;
use pilothouse::tls::{Files, Security, Store};
use tempfile::TempDir;

/// In which all of it is.
pub(crate) const TRUST_DOMAIN: &str = "test.example";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Issuers, and what they issued.
pub(crate) struct Pki {
    folder: TempDir,
    issuers: Mutex<Vec<Issuer>>,
    /// Trusted beside the issuers in use: the earlier ones during a rollover.
    earlier: Mutex<Vec<(RoleKind, String)>>,
}

fn validity(lasting: Duration) -> Validity {
    Validity::starting(SystemTime::now(), lasting)
}

fn new_issuer(kind: RoleKind) -> Issuer {
    Issuer::create(&TRUST_DOMAIN.parse::<TrustDomain>().unwrap(), kind, validity(30 * DAY)).unwrap()
}

/// `spiffe://…/ROLE/ID`.
pub(crate) fn principal(role: &str) -> Principal {
    format!("spiffe://{TRUST_DOMAIN}/{role}").parse().unwrap()
}

impl Pki {
    pub(crate) fn new() -> Self {
        let issuers = RoleKind::ALL.map(new_issuer).into();
        Self { folder: TempDir::new().unwrap(), issuers: Mutex::new(issuers), earlier: Mutex::default() }
    }

    /// The directory of somebody, as in `controller/1`; made and filled at the first time.
    pub(crate) fn directory(&self, role: &str) -> PathBuf {
        let directory = self.folder.path().join(role.replace('/', "-"));
        if !directory.exists() {
            std::fs::create_dir(&directory).unwrap();
            self.trust(&directory);
            self.issue(role);
        }
        directory
    }

    /// A new key and certificate for somebody, by the issuer in use.
    pub(crate) fn issue(&self, role: &str) {
        self.issue_for(role, 10 * DAY);
    }

    pub(crate) fn issue_for(&self, role: &str, lasting: Duration) {
        self.issue_valid(role, validity(lasting));
    }

    /// One that was issued a while ago.
    pub(crate) fn issue_aged(&self, role: &str, age: Duration, lasting: Duration) {
        self.issue_valid(role, Validity::starting(SystemTime::now() - age, lasting));
    }

    fn issue_valid(&self, role: &str, valid: Validity) {
        let principal = principal(role);
        let directory = self.folder.path().join(role.replace('/', "-"));
        let made = make_request(&principal).unwrap();
        let request = Request::from_der(&made.request_der).unwrap();
        let dns = if matches!(principal.role, Role::Controller(_)) { vec!["localhost".to_owned()] } else { Vec::new() };
        let kind = principal.role.kind();
        let leaf = Leaf { principal, dns, ips: Vec::new(), valid };
        let issuers = self.issuers.lock().unwrap();
        let issuer = issuers.iter().find(|issuer| issuer.kind() == kind).unwrap();
        write_key(&directory.join(names::KEY), &made.key).unwrap();
        write_certificates(&directory.join(names::CERTIFICATE), &issuer.sign(&request, &leaf).unwrap()).unwrap();
        if kind == RoleKind::Controller {
            let routers = issuers.iter().find(|issuer| issuer.kind() == RoleKind::Router).unwrap();
            write_key(&directory.join(names::ROUTER_ISSUER_KEY), &routers.key_pem()).unwrap();
            write_certificates(&directory.join(names::ROUTER_ISSUER), &routers.certificate_pem()).unwrap();
        }
    }

    /// What everybody trusts now, written into a directory.
    pub(crate) fn trust(&self, directory: &Path) {
        for kind in RoleKind::ALL {
            let text = self.trusted(kind);
            write_certificates(&directory.join(format!("ca-{}.pem", plural(kind))), &text).unwrap();
        }
    }

    fn trusted(&self, kind: RoleKind) -> String {
        let issuers = self.issuers.lock().unwrap();
        let now = issuers.iter().filter(|issuer| issuer.kind() == kind).map(Issuer::certificate_pem);
        let earlier = self.earlier.lock().unwrap();
        let earlier = earlier.iter().filter(|(of, _)| *of == kind).map(|(_, pem)| pem.clone());
        now.chain(earlier).collect()
    }

    /// Replaces an issuer; the earlier one stays trusted.
    pub(crate) fn replace_issuer(&self, kind: RoleKind) {
        let mut issuers = self.issuers.lock().unwrap();
        let issuer = issuers.iter_mut().find(|issuer| issuer.kind() == kind).unwrap();
        let earlier = std::mem::replace(issuer, new_issuer(kind));
        self.earlier.lock().unwrap().push((kind, earlier.certificate_pem()));
    }

    /// A controller signs routers with an issuer that nobody else trusts.
    pub(crate) fn estrange(&self, controller: &str) {
        let (stranger, directory) = (new_issuer(RoleKind::Router), self.directory(controller));
        let trusted = self.trusted(RoleKind::Router) + &stranger.certificate_pem();
        write_certificates(&directory.join(names::CA_ROUTERS), &trusted).unwrap();
        write_key(&directory.join(names::ROUTER_ISSUER_KEY), &stranger.key_pem()).unwrap();
        write_certificates(&directory.join(names::ROUTER_ISSUER), &stranger.certificate_pem()).unwrap();
    }

    /// Only the issuers in use are trusted from now on.
    pub(crate) fn drop_earlier(&self) {
        self.earlier.lock().unwrap().clear();
    }

    /// Every directory that was filled.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// How somebody speaks.
    pub(crate) fn security(&self, role: &str) -> Security {
        let directory = self.directory(role);
        let at = |name: &str| directory.join(name);
        Security::Tls(
            Store::open(Files {
                certificate: at(names::CERTIFICATE),
                key: at(names::KEY),
                ca_controllers: at(names::CA_CONTROLLERS),
                ca_routers: None,
                ca_admins: None,
                router_issuer: None,
                trust_domain: None,
                expected: principal(role).role.kind(),
            })
            .unwrap(),
        )
    }

    /// The issuers in a directory, as `pilothouse pki init` lays them out.
    pub(crate) fn authority(&self) -> PathBuf {
        let directory = self.folder.path().join("authority");
        std::fs::create_dir_all(&directory).unwrap();
        for issuer in self.issuers.lock().unwrap().iter() {
            let roles = plural(issuer.kind());
            write_key(&directory.join(format!("issuer-{roles}-key.pem")), &issuer.key_pem()).unwrap();
            write_certificates(&directory.join(format!("issuer-{roles}.pem")), &issuer.certificate_pem()).unwrap();
        }
        self.trust(&directory);
        directory
    }

    /// Whoever signs controllers: one certificate, PEM.
    pub(crate) fn controllers(&self) -> String {
        self.trusted(RoleKind::Controller)
    }
}
