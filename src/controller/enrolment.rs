//! Certificates for whoever has a join token: any controller with an issuer gives them, once the leader has bound the
//! token to the key that asks. And the next one for a router that shows its present one.
//!
//! A token that is worth nothing, or was redeemed by the same key before, costs no log entry: the leader judges it first,
//! after a read barrier. Repeating is safe, since a token that was redeemed by a key stays redeemable by it. What a
//! certificate looks like is `tls`'s to know.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::async_trait;

use super::admin::BARRIER_WITHIN;
use super::backend::Backend;
use super::relay;
use crate::domain::command::{Change, Outcome};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{RouterId, TokenId};
use crate::domain::pace::TooOften;
use crate::domain::principal::{RoleKind, TrustDomain};
use crate::domain::retry::{Backoff, delay};
use crate::domain::token::{Redeemed, Redemption, Token, TokenRefusal};
use crate::ops::events::Event;
use crate::proto::admin;
use crate::proto::enrolment::{EnrollResponse, RenewResponse, TrustResponse};
use crate::rpc::control_plane::{AdminError, NotServing};
use crate::rpc::enrolment_service::{Application, EnrolmentError, EnrolmentPlane, Renewal};
use crate::rpc::join_token::{CONTROLLERS_IN_TOKEN_MAX, JoinToken, SECRET_BYTES, Secret};

/// How long a redemption waits for a leader to confirm it: several elections long.
pub const REDEMPTION_WITHIN: Duration = Duration::from_secs(10);
/// How often a redemption is forwarded: once to the leader, once more if it moved meanwhile.
pub const REDEMPTION_HOPS_MAX: u32 = 2;
/// Longest wait for one answer of a leader.
const FORWARD_WITHIN: Duration = Duration::from_secs(3);

/// What the cluster says of a token.
type Judgement = Result<Redeemed, TokenRefusal>;

#[async_trait]
impl EnrolmentPlane for Backend {
    fn trust(&self) -> Result<TrustResponse, EnrolmentError> {
        let trust = self.enrolling.trust.as_ref().ok_or(EnrolmentError::NoTrust)?;
        Ok(TrustResponse { ca_controllers: trust.ca_controllers(), trust_domain: trust.domain() })
    }

    async fn enroll(&self, application: Application) -> Result<EnrollResponse, EnrolmentError> {
        let router = application.router.clone();
        let answer = self.answer(application).await;
        match &answer {
            Ok(_) => {
                tracing::info!(%router, "issued a certificate for a join token");
                self.metrics.enrolment("enrolled");
            }
            Err(error) => {
                self.metrics.enrolment(error.code());
                self.tell(router, error);
            }
        }
        answer
    }

    fn renew(&self, renewal: Renewal) -> Result<RenewResponse, EnrolmentError> {
        let router = renewal.router.clone();
        let answer = self.renewed(renewal);
        match &answer {
            Ok(_) => tracing::info!(%router, "renewed a router's certificate"),
            Err(error) => self.tell(router, error),
        }
        self.metrics.enrolment(answer.as_ref().map_or_else(EnrolmentError::code, |_| "renewed"));
        answer
    }
}

impl Backend {
    /// The guard let no banned router come here, as far as this controller knows: it has to know what the leader does.
    fn renewed(&self, Renewal { router, request }: Renewal) -> Result<RenewResponse, EnrolmentError> {
        self.serves()?;
        if self.node().hears().is_none() {
            return Err(NotServing::NotReady.into());
        }
        let issuer = self.enrolling.issuer.as_ref().ok_or(EnrolmentError::NoIssuer)?;
        self.pacing.renewal(&router).map_err(|why| EnrolmentError::TooOften {
            what: "this router had its certificate renewed too often",
            retry_after_ms: why.retry_after_ms,
        })?;
        let invalid = |reason| EnrolmentError::Invalid { what: "the certificate request", reason };
        issuer.key_sha256(&request).map_err(invalid)?;
        let certificate = issuer.sign(&request, &router).map_err(|reason| EnrolmentError::NotSigned { reason })?;
        Ok(RenewResponse { certificate })
    }

    async fn answer(&self, application: Application) -> Result<EnrollResponse, EnrolmentError> {
        self.serves()?;
        let issuer = self.enrolling.issuer.as_ref().ok_or(EnrolmentError::NoIssuer)?;
        let ca_controllers = self.trust()?.ca_controllers;
        let Application { token, secret, router, request } = application;
        let too_often = |why: TooOften| EnrolmentError::TooOften {
            what: "too many attempts to enrol have failed",
            retry_after_ms: why.retry_after_ms,
        };
        let known = self.node().read(|state| state.tokens.contains_key(&token));
        self.pacing.enrolment(token, known).map_err(too_often)?;
        let invalid = |reason| EnrolmentError::Invalid { what: "the certificate request", reason };
        let key_sha256 = issuer.key_sha256(&request).map_err(|reason| {
            self.pacing.enrolment_did_not_fail(token, known);
            invalid(reason)
        })?;
        let secret_sha256 = Sha256::digest(secret.bytes()).into();
        let redeemed = self.redeem(Redemption { id: token, secret_sha256, subject: router.clone(), key_sha256 }).await;
        if !matches!(redeemed, Err(EnrolmentError::Refused(_))) {
            self.pacing.enrolment_did_not_fail(token, known);
        }
        redeemed?;
        let certificate = issuer.sign(&request, &router).map_err(|reason| EnrolmentError::NotSigned { reason })?;
        let controllers = self.router_endpoints(usize::MAX).iter().map(Endpoint::to_string).collect();
        Ok(EnrollResponse { certificate, ca_controllers, controllers })
    }

    /// What came of it, with the real reason, for the operator of this controller.
    fn tell(&self, router: RouterId, error: &EnrolmentError) {
        match error {
            EnrolmentError::Refused(refusal) => self.events.raise(Event::EnrolmentRefused {
                router: router.to_string(),
                reason: refusal.code(),
                message: refusal.to_string(),
                hint: refusal.hint(),
            }),
            EnrolmentError::NotSigned { .. } => tracing::error!(%router, %error, "a router got no certificate"),
            error => tracing::debug!(%router, reason = error.code(), %error, "no certificate was issued"),
        }
    }

    /// Redeems a token that was presented to this controller.
    async fn redeem(&self, redemption: Redemption) -> Result<Redeemed, EnrolmentError> {
        let deadline = Instant::now() + REDEMPTION_WITHIN;
        let mut status = self.node().status();
        for attempt in 0.. {
            status.mark_unchanged();
            match tokio::time::timeout_at(deadline, self.redeem_once(&redemption, 0)).await {
                Ok(Some(judgement)) => return judgement.map_err(EnrolmentError::Refused),
                Ok(None) => {}
                Err(_) => break,
            }
            let pause = delay(Backoff::PEER, attempt, self.node().random());
            if Instant::now() + pause >= deadline {
                break;
            }
            // At once when Raft says something new, and now and then in any case.
            let leader = status.borrow_and_update().leader;
            let moved = status.wait_for(|raft| raft.leader.is_some() && raft.leader != leader);
            let _ = tokio::time::timeout(pause, moved).await;
        }
        Err(EnrolmentError::NoLeader { waited_s: REDEMPTION_WITHIN.as_secs() })
    }

    /// Redeems a token here, or passes it on to the leader. `None`: nobody could judge it; it may have been redeemed all
    /// the same.
    pub(super) async fn redeem_once(&self, redemption: &Redemption, hops: u32) -> Option<Judgement> {
        let (leads, leader) = {
            let status = self.node().status();
            let status = status.borrow();
            (status.leads(), status.leader)
        };
        match leader {
            _ if leads => self.redeem_here(redemption).await,
            Some(leader) if hops < REDEMPTION_HOPS_MAX => {
                relay::redeem_token(self.node(), leader, redemption, hops + 1, FORWARD_WITHIN).await
            }
            _ => None,
        }
    }

    async fn redeem_here(&self, redemption: &Redemption) -> Option<Judgement> {
        self.node().read_barrier(BARRIER_WITHIN).await.ok()?;
        let clock_ms = self.node().clock_ms();
        match self.node().read(|state| state.judge_redemption(redemption, state.time_ms.max(clock_ms))) {
            Ok(Redeemed::First) => {}
            judged => return Some(judged),
        }
        match self.node().propose(Change::RedeemToken(redemption.clone())).await {
            Ok((_, Outcome::TokenRedeemed(judgement))) => Some(judgement),
            Ok((at, outcome)) => {
                tracing::error!(?at, %outcome, "a redemption came back with the outcome of something else: report this");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "a redemption was not written; it is tried again");
                None
            }
        }
    }

    /// Makes a token, on the leader.
    pub(super) async fn create_token_here(
        &self,
        request: admin::CreateTokenRequest,
    ) -> Result<admin::CreateTokenResponse, AdminError> {
        let invalid = |what, why: &dyn std::fmt::Display| AdminError::Invalid { what, reason: why.to_string() };
        let role: RoleKind = request.role.parse().map_err(|why| invalid("the role", &why))?;
        let subject = RouterId::new(request.id).map_err(|why| invalid("the id", &why))?;
        let trust = self.enrolling.trust.as_ref().ok_or(AdminError::NoTrust)?;
        let trust_domain = TrustDomain::new(trust.domain()).map_err(|why| invalid("the trust domain", &why))?;
        let controllers = self.router_endpoints(CONTROLLERS_IN_TOKEN_MAX);
        if controllers.is_empty() {
            return Err(AdminError::NoLeader);
        }
        // Not from the injected source, which may repeat itself: this is a secret.
        let secret: [u8; SECRET_BYTES] = rand::random();
        let id = TokenId::from_u128(rand::random::<u128>().max(1));
        let secret_sha256 = Sha256::digest(secret).into();
        let token = Token { id, secret_sha256, role, subject: subject.clone(), ttl_ms: request.ttl_ms };
        self.barrier().await?;
        let clock_ms = self.node().clock_ms();
        self.node().read(|state| state.judge_token(&token, state.time_ms.max(clock_ms)))?;
        let expires_ms = self.write_token(token).await?;
        let secret = Secret::new(secret);
        let ca_sha256 = trust.ca_sha256();
        let token = JoinToken { role, router: subject, trust_domain, ca_sha256, controllers, id, secret };
        Ok(admin::CreateTokenResponse { token: token.to_string(), expires_ms })
    }

    /// Where routers reach the members of the published list: one endpoint of each, then the others.
    fn router_endpoints(&self, count_max: usize) -> Vec<Endpoint> {
        let Some(newest) = self.hub().newest() else { return Vec::new() };
        let controllers = newest.held().list.controllers();
        let first = controllers.iter().filter_map(|controller| controller.endpoints.first());
        let others = controllers.iter().flat_map(|controller| controller.endpoints.iter().skip(1));
        first.chain(others).take(count_max).cloned().collect()
    }
}
