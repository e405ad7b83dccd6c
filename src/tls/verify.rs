//! Whether a certificate is to be believed: rustls asks here, in both directions.
//!
//! The role in the leaf decides which anchors its chain must end in: each role has issuers of its own, so that whoever
//! holds the routers' issuer cannot make a controller. An identity is that of the leaf whose signature was checked, and
//! of nothing else in the chain. Names of hosts are not compared: addresses change, identities do not (SPIFFE, X.509-SVID).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::certificate::{NoIdentity, read_leaf};
use crate::domain::principal::{Principal, RoleKind, TrustDomain};

/// Most certificates between a leaf and its anchor. Nobody needs more than two.
pub const INTERMEDIATES_MAX: usize = 4;

/// Why a certificate is not believed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Disbelief {
    /// It names nobody of ours.
    #[error("the certificate {0}")]
    NoIdentity(#[from] NoIdentity),
    /// Of another trust domain.
    #[error("the certificate is {principal}'s, the trust domain here is {domain}")]
    OtherDomain {
        /// Whose it is.
        principal: Principal,
        /// The one that is trusted.
        domain: TrustDomain,
    },
    /// Of a role that has no business here.
    #[error("the certificate is {principal}'s: one of the role {wanted} is needed here")]
    OtherRole {
        /// Whose it is.
        principal: Principal,
        /// Which roles have.
        wanted: String,
    },
    /// A role for which nothing is trusted here.
    #[error("no issuer of {0} certificates is trusted here")]
    NoAnchor(RoleKind),
    /// Longer than [`INTERMEDIATES_MAX`].
    #[error("the certificate comes with {0} others, the limit is {INTERMEDIATES_MAX}")]
    LongChain(usize),
    /// The chain does not hold.
    #[error("the certificate of {principal} is not valid: {reason}")]
    Chain {
        /// Whose it claims to be.
        principal: Principal,
        /// Why not.
        reason: Error,
    },
}

impl From<Disbelief> for Error {
    fn from(why: Disbelief) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// Which issuers are trusted for which role.
#[derive(Debug, Clone)]
pub struct Anchors {
    domain: TrustDomain,
    controllers: Arc<RootCertStore>,
    routers: Option<Arc<dyn ClientCertVerifier>>,
    admins: Option<Arc<dyn ClientCertVerifier>>,
    controllers_as_clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Anchors {
    /// Controllers are always verified; routers and admins only by whoever serves them.
    ///
    /// # Errors
    /// As rustls says, for a store without an anchor.
    pub(super) fn new(
        domain: TrustDomain,
        provider: &Arc<CryptoProvider>,
        controllers: RootCertStore,
        routers: Option<RootCertStore>,
        admins: Option<RootCertStore>,
    ) -> Result<Self, String> {
        let as_clients = |roots: Arc<RootCertStore>| {
            let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            builder.build().map_err(|error| error.to_string())
        };
        let controllers = Arc::new(controllers);
        Ok(Self {
            domain,
            routers: routers.map(|roots| as_clients(Arc::new(roots))).transpose()?,
            admins: admins.map(|roots| as_clients(Arc::new(roots))).transpose()?,
            controllers_as_clients: as_clients(Arc::clone(&controllers))?,
            controllers,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// The trust domain.
    pub(super) const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Whoever a chain claims to be, once everything but its signatures is in order.
    fn claimed(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        wanted: &[RoleKind],
    ) -> Result<Principal, Disbelief> {
        if intermediates.len() > INTERMEDIATES_MAX {
            return Err(Disbelief::LongChain(intermediates.len()));
        }
        let principal = read_leaf(leaf)?.principal;
        if principal.domain != self.domain {
            return Err(Disbelief::OtherDomain { principal, domain: self.domain.clone() });
        }
        if !wanted.contains(&principal.role.kind()) {
            let wanted = wanted.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or ");
            return Err(Disbelief::OtherRole { principal, wanted });
        }
        Ok(principal)
    }

    /// Verifies a client: its leaf, with what it sent beside it.
    fn client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        wanted: &[RoleKind],
    ) -> Result<ClientCertVerified, Disbelief> {
        let principal = self.claimed(leaf, intermediates, wanted)?;
        let kind = principal.role.kind();
        let verifier = match kind {
            RoleKind::Controller => Some(&self.controllers_as_clients),
            RoleKind::Router => self.routers.as_ref(),
            RoleKind::Admin => self.admins.as_ref(),
        };
        let verifier = verifier.ok_or(Disbelief::NoAnchor(kind))?;
        let verified = verifier.verify_client_cert(leaf, intermediates, now);
        verified.map_err(|reason| Disbelief::Chain { principal, reason })
    }

    /// Verifies a server, which is always a controller.
    fn server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Disbelief> {
        let principal = self.claimed(leaf, intermediates, &[RoleKind::Controller])?;
        let chain = |reason| Disbelief::Chain { principal: principal.clone(), reason };
        let parsed = ParsedCertificate::try_from(leaf).map_err(chain)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.controllers, intermediates, now, algorithms)
            .map_err(chain)
    }
}

/// What a listener asks of its clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) anchors: Anchors,
    /// Which roles have business there.
    pub(super) roles: &'static [RoleKind],
    /// Whether nobody gets in without a certificate.
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// Without hints a client presents what it has, also when its issuer was replaced a moment ago.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(self.anchors.client(leaf, intermediates, now, self.roles)?)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.anchors.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.anchors.algorithms.supported_schemes()
    }
}

/// Whom a client believes.
#[derive(Debug)]
pub(super) enum Belief {
    /// Whoever has the key of what it presents: nothing secret may be said.
    Anybody,
    /// Controllers of these issuers.
    Controllers(Anchors),
}

/// What a client asks of a server.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) belief: Belief,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Belief::Controllers(anchors) = &self.belief {
            anchors.server(leaf, intermediates, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".into())
}
