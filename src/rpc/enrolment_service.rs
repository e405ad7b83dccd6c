//! How somebody without a certificate gets one, and a router its next one: checks what comes in, and asks its
//! [`EnrolmentPlane`].

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::control_plane::NotServing;
use super::guard::caller;
use super::join_token::{SECRET_BYTES, Secret};
use crate::domain::ids::{InvalidId, RouterId, TokenId};
use crate::domain::principal::Role;
use crate::domain::token::TokenRefusal;
use crate::proto::enrolment::enrolment_server::{Enrolment, EnrolmentServer};
use crate::proto::enrolment::{
    EnrollRequest, EnrollResponse, RenewRequest, RenewResponse, TrustRequest, TrustResponse,
};

/// Largest certificate request, in bytes: a large RSA key has a request of about 2 KiB.
pub const CERTIFICATE_REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Largest message, in bytes.
pub const ENROLMENT_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Somebody asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Which token gives the right to it.
    pub token: TokenId,
    /// What proves that it has the token.
    pub secret: Secret,
    /// Who it says it is.
    pub router: RouterId,
    /// For which key: PKCS#10, DER.
    pub request: Vec<u8>,
}

/// A router asks for its next certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Who it is, as its present certificate says.
    pub router: RouterId,
    /// For which key: PKCS#10, DER.
    pub request: Vec<u8>,
}

/// What the service needs.
#[async_trait]
pub trait EnrolmentPlane: Send + Sync + 'static {
    /// Whom everybody trusts.
    ///
    /// # Errors
    /// [`EnrolmentError::NoTrust`].
    fn trust(&self) -> Result<TrustResponse, EnrolmentError>;

    /// A certificate for whoever has a token. Bounded in time.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    async fn enroll(&self, application: Application) -> Result<EnrollResponse, EnrolmentError>;

    /// The next certificate of a router that showed its present one.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    fn renew(&self, renewal: Renewal) -> Result<RenewResponse, EnrolmentError>;
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// A part of the request is unusable.
    #[error("{what} is unusable: {reason}")]
    Invalid {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The token is worth nothing. The words are for whoever presented it.
    #[error("{}", .0.public_words())]
    Refused(TokenRefusal),
    /// Too many attempts failed.
    #[error("{what}")]
    TooOften {
        /// What there was too much of.
        what: &'static str,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// This controller signs nothing.
    #[error("this controller issues no certificates")]
    NoIssuer,
    /// This controller speaks plain text.
    #[error("this controller has no certificates of its own, so there is nobody to trust")]
    NoTrust,
    /// This controller serves no routers.
    #[error(transparent)]
    NotServing(#[from] NotServing),
    /// Nobody led for as long as an enrolment waits.
    #[error("no leader confirmed the token within {waited_s} s")]
    NoLeader {
        /// How long it was tried.
        waited_s: u64,
    },
    /// The certificate could not be made.
    #[error("the certificate could not be made: {reason}")]
    NotSigned {
        /// Why.
        reason: String,
    },
}

impl EnrolmentError {
    /// Stable name, as metrics have it: the real one, whatever whoever asked is told. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Refused(refusal) => refusal.code(),
            Self::TooOften { .. } => "too_fast",
            Self::NoIssuer => "no_issuer",
            Self::NoTrust => "no_trust",
            Self::NotServing(_) => "not_serving",
            Self::NoLeader { .. } => "no_leader",
            Self::NotSigned { .. } => "not_signed",
        }
    }
}

impl From<InvalidId> for EnrolmentError {
    fn from(why: InvalidId) -> Self {
        Self::Invalid { what: "the router id", reason: why.to_string() }
    }
}

/// The service.
#[derive(Debug)]
pub struct EnrolmentService<P> {
    plane: Arc<P>,
}

impl<P: EnrolmentPlane> EnrolmentService<P> {
    /// The service, with its limits, in front of a plane.
    pub fn server(plane: Arc<P>) -> EnrolmentServer<Self> {
        EnrolmentServer::new(Self { plane }).max_decoding_message_size(ENROLMENT_MESSAGE_BYTES_MAX)
    }
}

#[async_trait]
impl<P: EnrolmentPlane> Enrolment for EnrolmentService<P> {
    async fn trust(&self, _: Request<TrustRequest>) -> Result<Response<TrustResponse>, Status> {
        Ok(Response::new(self.plane.trust()?))
    }

    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let application = checked(request.into_inner())?;
        Ok(Response::new(self.plane.enroll(application).await?))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        // Nothing but the verified certificate says whose the next one is; over plain text nobody showed any.
        let router = match caller(request.extensions()).role() {
            Some(Role::Router(router)) => router.clone(),
            _ => return Err(EnrolmentError::NoTrust.into()),
        };
        let request = sized(request.into_inner().request)?;
        Ok(Response::new(self.plane.renew(Renewal { router, request })?))
    }
}

/// A certificate request of a possible size.
fn sized(request: Vec<u8>) -> Result<Vec<u8>, EnrolmentError> {
    let size = request.len();
    if (1..=CERTIFICATE_REQUEST_BYTES_MAX).contains(&size) {
        return Ok(request);
    }
    let reason = format!("it has {size} bytes, the limit is {CERTIFICATE_REQUEST_BYTES_MAX}");
    Err(EnrolmentError::Invalid { what: "the certificate request", reason })
}

fn checked(request: EnrollRequest) -> Result<Application, EnrolmentError> {
    let invalid = |what, reason: String| EnrolmentError::Invalid { what, reason };
    let token = TokenId::from_slice(&request.token_id);
    let token = token.ok_or_else(|| invalid("the token id", "it has not 16 bytes".into()))?;
    let secret = request.secret.try_into();
    let secret = secret.map_err(|_| invalid("the secret", format!("it has not {SECRET_BYTES} bytes")))?;
    let router = RouterId::new(request.router_id)?;
    Ok(Application { token, secret: Secret::new(secret), router, request: sized(request.request)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unusable_is_named() {
        let sound = || EnrollRequest {
            token_id: vec![1; 16],
            secret: vec![2; SECRET_BYTES],
            router_id: "edge-7".into(),
            request: vec![3; CERTIFICATE_REQUEST_BYTES_MAX],
        };
        assert_eq!(checked(sound()).unwrap().router.as_str(), "edge-7");
        let named = |request| match checked(request) {
            Err(EnrolmentError::Invalid { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(EnrollRequest { token_id: vec![1; 15], ..sound() }), "the token id");
        assert_eq!(named(EnrollRequest { secret: vec![2; 33], ..sound() }), "the secret");
        assert_eq!(named(EnrollRequest { router_id: "a b".into(), ..sound() }), "the router id");
        assert_eq!(named(EnrollRequest { request: Vec::new(), ..sound() }), "the certificate request");
        let large = vec![3; CERTIFICATE_REQUEST_BYTES_MAX + 1];
        assert_eq!(named(EnrollRequest { request: large, ..sound() }), "the certificate request");
    }
}
