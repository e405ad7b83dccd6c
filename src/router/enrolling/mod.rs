//! How a router without a certificate gets one, with a join token: asks the token's controllers one after the other,
//! until one of them gives it or says that the token is worth nothing.
//!
//! ```text
//! connection 1, whoever answers ── Trust ──> issuers, of which those count that the token names
//! connection 2, a controller of these issuers ── Enroll: secret, request ──> certificate
//! ```
//!
//! Nothing secret is said on the first one. `first_list` is what comes after; what lies on disk is `tls::identity`'s.

pub mod first_list;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::sessions::{Connector, MESSAGE_BYTES_MAX, TcpConnector};
use crate::domain::endpoint::Endpoint;
use crate::domain::principal::{Principal, Role, RoleKind};
use crate::proto::enrolment::enrolment_client::EnrolmentClient;
use crate::proto::enrolment::{EnrollRequest, TrustRequest};
use crate::rpc::join_token::JoinToken;
use crate::rpc::status::{hint_of, reason_of, words_and_hint};
use crate::tls::authority::{describe, granted, joined};
use crate::tls::material::ANCHORS_MAX;
use crate::tls::{Newcomer, Security};

/// A connection stands within this time, or the next controller is asked.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Whom to trust is said within this time.
const TRUST_WITHIN: Duration = Duration::from_secs(3);
/// A controller waits 10 s for a leader to confirm a token, and says so then.
const ENROLL_WITHIN: Duration = Duration::from_secs(12);

/// What a controller gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The certificate: PEM, leaf first. It was compared with the request.
    pub certificate: String,
    /// Whoever signs controllers: PEM.
    pub ca_controllers: String,
    /// Router ports of the cluster, as it says.
    pub controllers: Vec<Endpoint>,
    /// Who gave it.
    pub from: Endpoint,
}

/// A controller that did not help, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub at: Endpoint,
    /// In words.
    pub why: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.why)
    }
}

/// Why there is no certificate. None of these says anything secret.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// A token for somebody else.
    #[error("the token is for a {0}, not for a router: have one made with `pilothouse token create --role router`")]
    Role(RoleKind),
    /// It names nobody to trust.
    #[error("the token names no issuer of controllers, so nobody can be trusted: have a new one made")]
    NoFingerprint,
    /// The token is worth nothing, or the request cannot be used.
    #[error("{at} refused: {message} ({reason}); {hint}")]
    Refused {
        /// Who said so.
        at: Endpoint,
        /// Stable name.
        reason: String,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Nobody gave a certificate.
    #[error("no controller gave a certificate: {}; repeat the command, the same token is good for the same key", told(.0))]
    Nobody(Vec<Attempt>),
}

fn told(attempts: &[Attempt]) -> String {
    attempts.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; ")
}

/// What became of one attempt.
enum Failed {
    /// Another controller may help.
    Here(String),
    /// Nobody will.
    Everywhere { reason: String, message: String, hint: String },
}

/// Whose certificate a token is for.
///
/// # Errors
/// [`EnrollError::Role`].
pub fn principal(token: &JoinToken) -> Result<Principal, EnrollError> {
    match token.role {
        RoleKind::Router => {
            Ok(Principal { domain: token.trust_domain.clone(), role: Role::Router(token.router.clone()) })
        }
        other => Err(EnrollError::Role(other)),
    }
}

/// Gets a certificate for the key of a request (DER), within this time. `random` says in which order controllers are
/// asked.
///
/// # Errors
/// [`EnrollError`].
pub async fn enroll(
    token: &JoinToken,
    request_der: &[u8],
    within: Duration,
    random: impl Fn() -> u32,
) -> Result<Granted, EnrollError> {
    let asking = Asking { principal: &principal(token)?, token, request_der };
    if token.ca_sha256.is_empty() {
        return Err(EnrollError::NoFingerprint);
    }
    let mut controllers: Vec<_> = token.controllers.iter().map(|controller| (random(), controller)).collect();
    controllers.sort_by_key(|(drawn, _)| *drawn);
    let deadline = Instant::now() + within;
    let mut attempts = Vec::new();
    for (_, at) in controllers {
        let asked = tokio::time::timeout_at(deadline, asking.ask(at)).await;
        let over = || Failed::Here(format!("not done within the {} s for all of it", within.as_secs()));
        match asked.unwrap_or_else(|_| Err(over())) {
            Ok(granted) => return Ok(granted),
            Err(Failed::Everywhere { reason, message, hint }) => {
                return Err(EnrollError::Refused { at: at.clone(), reason, message, hint });
            }
            Err(Failed::Here(why)) => attempts.push(Attempt { at: at.clone(), why }),
        }
    }
    Err(EnrollError::Nobody(attempts))
}

struct Asking<'a> {
    token: &'a JoinToken,
    principal: &'a Principal,
    request_der: &'a [u8],
}

impl Asking<'_> {
    async fn ask(&self, at: &Endpoint) -> Result<Granted, Failed> {
        let credulous = Newcomer::credulous().map_err(here)?;
        let mut client = client(Security::Newcomer(credulous), at).await?;
        let trust = in_time("say whom to trust", TRUST_WITHIN, client.trust(TrustRequest {})).await?;
        let (domain, fingerprints) = (self.token.trust_domain.clone(), &self.token.ca_sha256);
        let (trusting, _) = Newcomer::trusting(domain, &trust.ca_controllers, fingerprints).map_err(here)?;
        // From here on who answers was verified, and may hear the secret.
        let mut client = self::client(Security::Newcomer(trusting), at).await?;
        let request = EnrollRequest {
            token_id: self.token.id.to_bytes().into(),
            secret: self.token.secret.bytes().to_vec(),
            router_id: self.token.router.to_string(),
            request: self.request_der.to_vec(),
        };
        let answer = in_time("give a certificate", ENROLL_WITHIN, client.enroll(request)).await?;
        granted(&answer.certificate, self.principal, self.request_der).map_err(here)?;
        // It came from a verified controller: also issuers that the token does not know are to be trusted by now.
        let ca_controllers = joined(&[&answer.ca_controllers]).map_err(here)?;
        match describe(&ca_controllers).map_err(here)?.len() {
            1..=ANCHORS_MAX => {}
            count => return Err(Failed::Here(format!("it named {count} issuers of controllers"))),
        }
        // One that this build cannot read is no reason to have no certificate.
        let controllers = answer.controllers.iter().filter_map(|text| text.parse().ok()).collect();
        Ok(Granted { certificate: answer.certificate, ca_controllers, controllers, from: at.clone() })
    }
}

async fn client(security: Security, at: &Endpoint) -> Result<EnrolmentClient<Channel>, Failed> {
    let connected = TcpConnector(security).connect(at.clone(), CONNECT_WITHIN).await.map_err(here)?;
    Ok(EnrolmentClient::new(connected.channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

async fn in_time<T>(
    what: &str,
    within: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(judged(&status)),
        Err(_) => Err(Failed::Here(format!("it did not {what} within {} s", within.as_secs()))),
    }
}

fn here(why: impl fmt::Display) -> Failed {
    Failed::Here(why.to_string())
}

/// Whether another controller would say the same: it would of a token and of a request.
fn judged(status: &Status) -> Failed {
    let (message, hint) = words_and_hint(status.message(), hint_of(status));
    let everywhere = |code, reason: &str| match code {
        Code::PermissionDenied => reason.starts_with("token_") || reason == "banned",
        code => code == Code::InvalidArgument,
    };
    match (status.code(), reason_of(status)) {
        (code, Some(reason)) if everywhere(code, reason) => {
            let otherwise = || "compare the version of this build with that of the controllers".to_owned();
            let hint = if hint.is_empty() { otherwise() } else { hint };
            Failed::Everywhere { reason: reason.to_owned(), message, hint }
        }
        (Code::Unimplemented, _) => Failed::Here("it enrols nobody: is it the router port of a controller?".into()),
        (_, Some(reason)) => Failed::Here(format!("{message} ({reason})")),
        (code, None) => Failed::Here(format!("{code:?}: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::TokenRefusal;
    use crate::rpc::control_plane::NotServing;
    use crate::rpc::enrolment_service::EnrolmentError;

    #[test]
    fn only_what_is_said_of_the_token_itself_stops_the_search() {
        let everywhere = |error: EnrolmentError| match judged(&error.into()) {
            Failed::Everywhere { reason, hint, .. } => Some((reason, hint)),
            Failed::Here(_) => None,
        };
        for refusal in [TokenRefusal::Unknown, TokenRefusal::Used, TokenRefusal::Expired, TokenRefusal::Banned] {
            let (reason, hint) = everywhere(EnrolmentError::Refused(refusal)).expect("it stops");
            assert_eq!((reason.as_str(), hint.as_str()), (refusal.public_code(), refusal.hint()));
        }
        for passing in [
            EnrolmentError::NoIssuer,
            EnrolmentError::NoTrust,
            EnrolmentError::NotServing(NotServing::NotReady),
            EnrolmentError::NoLeader { waited_s: 10 },
            EnrolmentError::NotSigned { reason: "full".into() },
            EnrolmentError::TooOften { what: "too often", retry_after_ms: 5 },
        ] {
            assert!(everywhere(passing.clone()).is_none(), "{passing}");
        }
        let unusable = EnrolmentError::Invalid { what: "the certificate request", reason: "it is garbage".into() };
        assert!(everywhere(unusable).is_some_and(|(reason, hint)| reason == "invalid" && !hint.is_empty()));
        for passing in [Status::unavailable("gone"), Status::permission_denied("a proxy says no")] {
            assert!(matches!(judged(&passing), Failed::Here(_)), "{passing}");
        }
    }
}
