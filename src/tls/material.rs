//! Certificate, key and anchors as they lie on disk, read together: either all of it is usable, or none of it is used.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

use super::authority::{Issuer, PrivateKey};
use super::certificate::{Leaf, NoIdentity, not_after, read_leaf};
use super::verify::{Anchors, Belief, Clients, Servers};
use crate::domain::principal::{Principal, RoleKind, TrustDomain};

/// Largest file of certificates, or key.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Most anchors of one role: two during a rollover, and room.
pub const ANCHORS_MAX: usize = 16;

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The own certificate, with what stands between it and its issuer: PEM, leaf first.
    pub certificate: PathBuf,
    /// Its key: PEM.
    pub key: PathBuf,
    /// Whoever signs controllers.
    pub ca_controllers: PathBuf,
    /// Whoever signs routers; only a controller verifies them.
    pub ca_routers: Option<PathBuf>,
    /// Whoever signs admins; only a controller verifies them.
    pub ca_admins: Option<PathBuf>,
    /// The routers' issuer and its key, where routers may be enrolled.
    pub router_issuer: Option<(PathBuf, PathBuf)>,
    /// The trust domain; when it is not given, that of the own certificate.
    pub trust_domain: Option<TrustDomain>,
    /// Whose certificate it has to be.
    pub expected: RoleKind,
}

impl Files {
    /// All paths, for whoever watches them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let required = [&self.certificate, &self.key, &self.ca_controllers];
        let issuer = self.router_issuer.iter().flat_map(|(certificate, key)| [certificate, key]);
        required.into_iter().chain(&self.ca_routers).chain(&self.ca_admins).chain(issuer).map(PathBuf::as_path)
    }
}

/// Why what lies on disk is not usable.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read a key.
    #[error("{} can be read by others (mode {mode:o}): chmod 600 it, or 640 if it is root's and read by its group", path.display())]
    OpenKey {
        /// Which one.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file says nothing that is needed.
    #[error("{} {reason}", path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The own certificate names nobody of ours.
    #[error("{}: the certificate {why}", path.display())]
    NoIdentity {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: NoIdentity,
    },
    /// The own certificate is for something else.
    #[error("{}: the certificate is {principal}'s, where {expected}{of} is needed", path.display())]
    OtherPrincipal {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        principal: Box<Principal>,
        /// Of which role it should be.
        expected: RoleKind,
        /// Of which trust domain it should be, in words.
        of: String,
    },
    /// Key and certificate do not belong together.
    #[error("{} is not the key of {}: issue both together", key.display(), certificate.display())]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
}

/// What an endpoint of ours presents, and whom it believes.
#[derive(Clone)]
pub struct Material {
    leaf: Leaf,
    chain: Vec<CertificateDer<'static>>,
    anchors: Anchors,
    anchor_certificates: Vec<CertificateDer<'static>>,
    ends: Vec<(&'static str, i64)>,
    router_issuer: Option<(String, zeroize::Zeroizing<String>)>,
    configs: Configs,
    #[cfg(test)]
    provider: Arc<CryptoProvider>,
}

/// What handshakes need: made once, since they are many.
#[derive(Clone)]
struct Configs {
    servers: [Arc<ServerConfig>; Door::ALL.len()],
    client: Arc<ClientConfig>,
    prober: Arc<ClientConfig>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// A port, as far as TLS is concerned: who has business there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Other controllers.
    Peer,
    /// Routers, and whoever wants to become one.
    Router,
    /// Operators, and controllers that forward.
    Admin,
    /// Probes and scrapers; actions need an admin certificate.
    Http,
}

impl Door {
    const ALL: [Self; 4] = [Self::Peer, Self::Router, Self::Admin, Self::Http];

    const fn roles(self) -> &'static [RoleKind] {
        match self {
            Self::Peer => &[RoleKind::Controller],
            Self::Router => &[RoleKind::Router, RoleKind::Admin, RoleKind::Controller],
            Self::Admin => &[RoleKind::Admin, RoleKind::Controller],
            Self::Http => &[RoleKind::Admin],
        }
    }

    const fn mandatory(self) -> bool {
        matches!(self, Self::Peer | Self::Admin)
    }

    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http => vec![b"http/1.1".to_vec()],
            Self::Peer | Self::Router | Self::Admin => vec![b"h2".to_vec()],
        }
    }
}

impl Material {
    /// Reads everything and checks that it fits together. An expired certificate is used all the same: what it is good
    /// for, the other side decides.
    ///
    /// # Errors
    /// [`MaterialError`], which names the file.
    pub fn load(files: &Files) -> Result<Self, MaterialError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&files.certificate)?;
        let at = || files.certificate.clone();
        let leaf = read_leaf(&chain[0]).map_err(|why| MaterialError::NoIdentity { path: at(), why })?;
        let domain = files.trust_domain.clone().unwrap_or_else(|| leaf.principal.domain.clone());
        if leaf.principal.role.kind() != files.expected || leaf.principal.domain != domain {
            let of = files.trust_domain.as_ref().map_or_else(String::new, |domain| format!(" of {domain}"));
            let principal = Box::new(leaf.principal.clone());
            return Err(MaterialError::OtherPrincipal { path: at(), principal, expected: files.expected, of });
        }
        let key = key(&files.key)?;
        let mismatch = || MaterialError::Mismatch { key: files.key.clone(), certificate: at() };
        let key = CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|_| mismatch())?;
        key.keys_match().map_err(|_| mismatch())?;

        let controllers = anchors(&files.ca_controllers)?;
        let roots = |path: &Option<PathBuf>| path.as_deref().map(|path| store(path, &anchors(path)?)).transpose();
        let (routers, admins) = (roots(&files.ca_routers)?, roots(&files.ca_admins)?);
        let trusted = store(&files.ca_controllers, &controllers)?;
        let anchors = Anchors::new(domain.clone(), &provider, trusted, routers, admins)
            .map_err(|reason| MaterialError::Content { path: files.ca_controllers.clone(), reason })?;
        let router_issuer =
            files.router_issuer.as_ref().map(|paths| router_issuer(paths, &domain, files)).transpose()?;
        let ends = ends(files, &leaf)?;
        let configs = Configs::new(&provider, &anchors, &Arc::new(key))
            .map_err(|why| MaterialError::Content { path: at(), reason: format!("cannot be used ({why})") })?;
        Ok(Self {
            leaf,
            chain,
            anchors,
            anchor_certificates: controllers,
            ends,
            router_issuer,
            configs,
            #[cfg(test)]
            provider,
        })
    }

    /// Whose the own certificate is, and how long.
    #[must_use]
    pub const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The own certificate, then whatever stands between it and its issuer: DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(AsRef::as_ref)
    }

    /// Within which identities mean something.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        self.anchors.domain()
    }

    /// Whoever signs controllers: DER each.
    pub fn controller_anchors(&self) -> impl Iterator<Item = &[u8]> {
        self.anchor_certificates.iter().map(AsRef::as_ref)
    }

    /// When the certificates of each file end, the first of each: seconds since 1970.
    #[must_use]
    pub fn ends(&self) -> &[(&'static str, i64)] {
        &self.ends
    }

    /// The routers' issuer: certificate and key, PEM.
    #[must_use]
    pub fn router_issuer(&self) -> Option<(&str, &str)> {
        self.router_issuer.as_ref().map(|(certificate, key)| (certificate.as_str(), key.as_str()))
    }

    /// What a listener needs.
    pub(super) fn server(&self, door: Door) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.servers[door as usize])
    }

    /// What a client needs.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.configs.client)
    }

    /// What somebody needs who asks an HTTP port, where probes are answered whoever asks.
    pub(super) fn prober(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.configs.prober)
    }
}

impl Configs {
    fn new(provider: &Arc<CryptoProvider>, anchors: &Anchors, key: &Arc<CertifiedKey>) -> Result<Self, rustls::Error> {
        let server = |door| server_config(provider, anchors, key, door);
        let [peer, router, admin, http] = Door::ALL.map(server);
        let client = client_config(provider, anchors, key)?;
        let prober = Arc::new(prober_config(&client));
        Ok(Self { servers: [peer?, router?, admin?, http?], client, prober })
    }
}

/// Without tickets: a resumed session would not verify its client again.
fn server_config(
    provider: &Arc<CryptoProvider>,
    anchors: &Anchors,
    key: &Arc<CertifiedKey>,
    door: Door,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let clients = Clients { anchors: anchors.clone(), roles: door.roles(), mandatory: door.mandatory() };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(key))));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = door.protocols();
    Ok(Arc::new(config))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    anchors: &Anchors,
    key: &Arc<CertifiedKey>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let algorithms = provider.signature_verification_algorithms;
    let servers = Servers { belief: Belief::Controllers(anchors.clone()), algorithms };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(key))));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Believes the same controllers, speaks HTTP/1.1, and shows nobody's certificate: that of a controller opens no HTTP port.
fn prober_config(client: &ClientConfig) -> ClientConfig {
    let mut config = client.clone();
    config.client_auth_cert_resolver = Arc::new(Nameless);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Has no certificate.
#[derive(Debug)]
struct Nameless;

impl ResolvesClientCert for Nameless {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[cfg(test)]
impl Material {
    /// The same, presenting what could not be loaded from files.
    pub(super) fn presenting(&self, chain: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(|one| one.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let key = self.provider.key_provider.load_private_key(key).expect("a key");
        let key = Arc::new(CertifiedKey::new(chain, key));
        Self { configs: Configs::new(&self.provider, &self.anchors, &key).expect("usable"), ..self.clone() }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, MaterialError> {
    let failed = |source| MaterialError::Read { path: path.to_path_buf(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        let reason = format!("has {length} bytes, the limit is {FILE_BYTES_MAX}: is it the right file?");
        return Err(MaterialError::Content { path: path.to_path_buf(), reason });
    }
    std::fs::read(path).map_err(failed)
}

fn read_key(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, MaterialError> {
    let failed = |source| MaterialError::Read { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if is_open(mode, metadata.uid(), geteuid().as_raw()) {
        return Err(MaterialError::OpenKey { path: path.to_path_buf(), mode });
    }
    read(path).map(zeroize::Zeroizing::new)
}

/// Whether others can read a key. Where it belongs to root, and this process is somebody else, it is by its group that the
/// process reads it: so Kubernetes mounts a Secret into a pod that is not root, and so PostgreSQL takes keys too.
const fn is_open(mode: u32, owner: u32, own: u32) -> bool {
    let by_group = owner == 0 && own != 0;
    mode & if by_group { 0o037 } else { 0o077 } != 0
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let bytes = read(path)?;
    let content = |reason: String| MaterialError::Content { path: path.to_path_buf(), reason };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|why| content(format!("is not readable PEM ({why})")))?;
    if certificates.is_empty() {
        return Err(content("has no certificate in it: PEM is needed, BEGIN CERTIFICATE".into()));
    }
    Ok(certificates)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let bytes = read_key(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| MaterialError::Content {
        path: path.to_path_buf(),
        reason: "has no private key in it: PEM is needed, BEGIN PRIVATE KEY, not encrypted".into(),
    })
}

/// The routers' issuer, certificate and key, once it is one of this trust domain.
fn router_issuer(
    (certificate, key): &(PathBuf, PathBuf),
    domain: &TrustDomain,
    files: &Files,
) -> Result<(String, zeroize::Zeroizing<String>), MaterialError> {
    let content = |reason: String| MaterialError::Content { path: certificate.clone(), reason };
    let pem = String::from_utf8_lossy(&read(certificate)?).into_owned();
    let key = zeroize::Zeroizing::new(String::from_utf8_lossy(&read_key(key)?).into_owned());
    let issuer = Issuer::open(&pem, &PrivateKey::from_pem((*key).clone()))
        .map_err(|why| content(format!("is no issuer that can be used: {why}")))?;
    if issuer.kind() != RoleKind::Router || issuer.trust_domain() != domain {
        let (kind, other) = (issuer.kind(), issuer.trust_domain());
        return Err(content(format!(
            "signs {kind} certificates of {other}: the issuer of routers of {domain} is needed"
        )));
    }
    let trusted = files.ca_routers.as_deref().map(anchors).transpose()?.unwrap_or_default();
    if !certificates(certificate)?.iter().any(|own| trusted.contains(own)) {
        return Err(content("is not among ca_routers: what it signs would be refused; trust it there too".to_owned()));
    }
    Ok((pem, key))
}

/// When what every file says ends, by the file's usual name; of several certificates the first.
fn ends(files: &Files, leaf: &Leaf) -> Result<Vec<(&'static str, i64)>, MaterialError> {
    let mut ends = vec![("certificate", leaf.not_after)];
    let others = [
        ("ca-controllers", Some(&files.ca_controllers)),
        ("ca-routers", files.ca_routers.as_ref()),
        ("ca-admins", files.ca_admins.as_ref()),
        ("router-issuer", files.router_issuer.as_ref().map(|(certificate, _)| certificate)),
    ];
    for (name, path) in others.into_iter().filter_map(|(name, path)| Some((name, path?))) {
        ends.extend(certificates(path)?.iter().filter_map(|one| not_after(one)).min().map(|end| (name, end)));
    }
    Ok(ends)
}

/// Issuers of the world outside: a system's bundle has a hundred and more, so only its size is bounded. What cannot be
/// trusted is passed over: such bundles have old ones.
pub(super) fn trusted(path: &Path) -> Result<RootCertStore, MaterialError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        let reason = "has no certificate that can be trusted".to_owned();
        return Err(MaterialError::Content { path: path.to_path_buf(), reason });
    }
    Ok(store)
}

fn anchors(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let anchors = certificates(path)?;
    if anchors.len() > ANCHORS_MAX {
        let reason = format!("has {} certificates, the limit is {ANCHORS_MAX}", anchors.len());
        return Err(MaterialError::Content { path: path.to_path_buf(), reason });
    }
    Ok(anchors)
}

fn store(path: &Path, anchors: &[CertificateDer<'static>]) -> Result<RootCertStore, MaterialError> {
    let mut store = RootCertStore::empty();
    for anchor in anchors {
        store.add(anchor.clone()).map_err(|why| MaterialError::Content {
            path: path.to_path_buf(),
            reason: format!("has a certificate that cannot be trusted ({why})"),
        })?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn a_key_is_its_users_alone_or_roots_and_then_its_groups() {
        for (mode, owner, own, open) in [
            (0o600, 1000, 1000, false),
            (0o400, 1000, 1000, false),
            (0o640, 1000, 1000, true),
            (0o604, 1000, 1000, true),
            (0o440, 0, 65_532, false),
            (0o640, 0, 65_532, false),
            (0o444, 0, 65_532, true),
            (0o460, 0, 65_532, true),
            (0o450, 0, 65_532, true),
            (0o440, 1000, 65_532, true),
            (0o640, 0, 0, true),
        ] {
            assert_eq!(is_open(mode, owner, own), open, "{mode:o} of {owner}, read by {own}");
        }
    }
}
