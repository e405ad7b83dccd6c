//! What the services need of whoever stands behind them: the boundary between gRPC and the controller.
//!
//! The controller implements these traits over Raft and its hub; tests implement them over plain values. Nothing here
//! knows how registrations are replicated or who leads.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tonic::async_trait;

use super::list_codec::Publication;
use super::session::{Farewell, LiveSession};
use crate::domain::command::{CommandRefusal, Registered, Registration, RegistrationRefusal};
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::{ClusterId, ControllerId, RouterId};
use crate::domain::membership;
use crate::domain::negotiation::Dialect;
use crate::domain::token::TokenRefusal;
use crate::domain::upgrade::Blocker;
use crate::proto::admin;
use crate::proto::router::{Conditions, EventReport};

/// The list that every session follows: latest wins, `None` until one is published.
pub type Published = watch::Receiver<Option<Arc<Publication>>>;

/// What the router service needs.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// Registers a router durably, wherever the leader is. Bounded in time.
    ///
    /// # Errors
    /// [`RegisterError`].
    async fn register(&self, registration: Registration) -> Result<(Registered, ClusterId), RegisterError>;

    /// Who speaks here and which dialects the whole cluster speaks, or why no router is served now.
    ///
    /// # Errors
    /// [`NotServing`].
    fn standing(&self) -> Result<Standing, NotServing>;

    /// Seats a session; the seat is free again when it is dropped. An older session of the same router ends.
    ///
    /// # Errors
    /// [`NotServing`].
    fn seat(&self, session: Arc<LiveSession>) -> Result<Seat, NotServing>;

    /// Seats a watcher, which has no session state, and may not say whose it is.
    ///
    /// # Errors
    /// [`NotServing`].
    fn seat_watcher(&self, router: Option<&RouterId>) -> Result<Seat, NotServing>;

    /// Returns once this router is banned.
    async fn banned(&self, router: &RouterId);

    /// Who leads, and how long ago that was last certain.
    fn leader(&self) -> LeaderSight;

    /// A number drawn uniformly over all of `u32`.
    fn random(&self) -> u32;

    /// Runs a task that belongs to one stream. When it panics, the process ends.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// A router refused a list.
    fn refused_by_router(&self, router: &RouterId, reason: &str, message: &str, late: bool);

    /// A router reported events. Up to which number they were taken; `None`: not now.
    fn told_by_router(&self, router: &RouterId, report: EventReport) -> Option<u64>;

    /// A router told all that lasts there now.
    fn lasts_on_router(&self, router: &RouterId, conditions: Conditions);
}

/// Who speaks here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which controller.
    pub me: ControllerId,
    /// What the whole cluster speaks.
    pub dialect: Dialect,
}

/// A place among the sessions of this controller.
#[derive(Debug)]
pub struct Seat {
    /// The list and every later one.
    pub lists: Published,
    /// Why all sessions end, once they have to.
    pub closing: watch::Receiver<Option<Farewell>>,
    /// Frees the place when dropped.
    pub guard: Box<dyn Held>,
}

/// Something that is given back when it is dropped.
pub trait Held: Send + Sync + std::fmt::Debug {}

/// Who leads, as this controller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderSight {
    /// The leader, when one is known.
    pub leader: Option<ControllerId>,
    /// How long ago this controller heard from it; `None`: never.
    pub contact_age: Option<Duration>,
}

impl LeaderSight {
    /// A leader that was not heard for longer than `patience` is not known any more, whatever Raft remembers: a
    /// controller that is cut off keeps its last vote, and with it the name of a leader that may be gone.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        let heard = self.contact_age.is_some_and(|age| age <= patience);
        Self { leader: self.leader.filter(|_| heard), ..self }
    }
}

/// Why no router is served now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotServing {
    /// It has not caught up with the cluster since it started, or knows no list yet.
    #[error("this controller has not caught up with its cluster yet")]
    NotReady,
    /// It is not a member (not yet, or not any more).
    #[error("this controller is not a member of a cluster")]
    NotMember,
    /// It is about to stop.
    #[error("this controller is stopping")]
    Draining,
    /// It has as many sessions as it takes.
    #[error("this controller has {limit} sessions, which is its limit")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// An operator banned the router.
    #[error("this router is banned from the cluster")]
    Banned,
    /// The router watches often enough.
    #[error("this router has {limit} watches on this controller, which is its limit")]
    WatchesEnough {
        /// The limit.
        limit: usize,
    },
}

/// Why a registration was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The cluster refuses it.
    #[error(transparent)]
    Refused(#[from] RegistrationRefusal),
    /// This controller takes none.
    #[error(transparent)]
    NotServing(#[from] NotServing),
    /// Nobody led for as long as a registration waits.
    #[error("no leader confirmed the registration within {} s", waited.as_secs())]
    NoLeader {
        /// How long it was tried.
        waited: Duration,
    },
    /// More registrations wait than the queue holds.
    #[error("{limit} registrations are waiting, which is the limit")]
    Overloaded {
        /// The limit.
        limit: usize,
    },
    /// The router registers more often than it may.
    #[error("router {router} registers too often")]
    TooFast {
        /// Whose.
        router: RouterId,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// Forwarded too often: the controllers disagree about who leads.
    #[error("the registration was forwarded {hops} times without reaching the leader")]
    TooManyHops {
        /// How often.
        hops: u32,
    },
    /// The leader refused it; passed on as it was said.
    #[error(transparent)]
    Passed(Passed),
}

/// A refusal of another controller, passed on as it was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Passed {
    /// The transport's code.
    pub code: tonic::Code,
    /// Stable name.
    pub reason: String,
    /// Words.
    pub message: String,
    /// What to do; empty when the words say it.
    pub hint: String,
}

impl RegisterError {
    /// What the leader said.
    #[must_use]
    pub fn passed(status: &tonic::Status) -> Self {
        Self::Passed(Passed::of(status))
    }
}

impl Passed {
    /// What another controller said.
    #[must_use]
    pub fn of(status: &tonic::Status) -> Self {
        let reason = super::status::reason_of(status).unwrap_or("refused").to_owned();
        let (message, hint) = super::status::words_and_hint(status.message(), super::status::hint_of(status));
        Self { code: status.code(), reason, message, hint }
    }
}

/// A stream of progress of a change.
pub type Progress = mpsc::Receiver<Result<admin::ChangeProgress, AdminError>>;

/// A stream of progress of a finalized upgrade.
pub type UpgradeProgress = mpsc::Receiver<Result<admin::UpgradeProgress, AdminError>>;

/// What the admin service needs. `hops` says how often a request was forwarded already.
#[async_trait]
pub trait AdminPlane: Send + Sync + 'static {
    /// The cluster and its members.
    async fn status(&self, hops: u32) -> Result<admin::StatusResponse, AdminError>;

    /// One change of membership.
    async fn change(&self, request: admin::ChangeRequest, hops: u32) -> Result<Progress, AdminError>;

    /// Hands leadership over; who leads then.
    async fn transfer(&self, to: Option<ControllerId>, hops: u32) -> Result<ControllerId, AdminError>;

    /// One page of routers.
    async fn list_routers(&self, page: RouterPage, hops: u32) -> Result<admin::ListRoutersResponse, AdminError>;

    /// Forgets a router, and bans it where that is asked for; whether there was one.
    async fn forget(&self, router: RouterId, ban: bool, hops: u32) -> Result<bool, AdminError>;

    /// What happened, and with `follow` whatever happens, on every controller that answers.
    fn events(&self, follow: bool) -> Result<mpsc::Receiver<admin::EventsResponse>, AdminError>;

    /// Makes a join token.
    async fn create_token(
        &self,
        request: admin::CreateTokenRequest,
        hops: u32,
    ) -> Result<admin::CreateTokenResponse, AdminError>;

    /// Which builds run, what the cluster may write, and what is in the way of more.
    async fn upgrade(&self, request: admin::UpgradeRequest, hops: u32) -> Result<admin::UpgradeResponse, AdminError>;

    /// Raises what the cluster may write.
    async fn finalize_upgrade(
        &self,
        request: admin::FinalizeUpgradeRequest,
        hops: u32,
    ) -> Result<UpgradeProgress, AdminError>;

    /// Lifts the ban of a router; whether there was one.
    async fn allow(&self, router: RouterId, hops: u32) -> Result<bool, AdminError>;
}

/// Which routers to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterPage {
    /// Router id after which the page begins.
    pub after: Option<RouterId>,
    /// How many at most.
    pub limit: usize,
    /// Just this one.
    pub only: Option<RouterId>,
}

/// Why an operator's request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The plan was refused; nothing was proposed.
    #[error(transparent)]
    Refused(#[from] membership::Refusal),
    /// The command was refused.
    #[error(transparent)]
    Command(#[from] CommandRefusal),
    /// No such token is made.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// The controllers have no certificates.
    #[error("the controllers speak plain text, so that a token could not say whom to trust")]
    NoTrust,
    /// The request itself is unusable.
    #[error("{what} is unusable: {reason}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Nobody leads, as far as this controller knows.
    #[error("the cluster has no leader at the moment")]
    NoLeader,
    /// This controller belongs to no cluster.
    #[error("this controller is not a member of a cluster")]
    NotMember,
    /// Forwarded too often: the controllers disagree about who leads.
    #[error("the request was forwarded {hops} times without reaching the leader")]
    TooManyHops {
        /// How often.
        hops: u32,
    },
    /// The leader could not be asked.
    #[error("controller {leader}, the last leader that this one knows of, could not be asked: {reason}")]
    LeaderUnreachable {
        /// Who leads, or led when it was last heard.
        leader: ControllerId,
        /// Why.
        reason: String,
    },
    /// The leader refused; passed on as it was said.
    #[error(transparent)]
    Passed(Passed),
    /// Another change runs on this leader.
    #[error("another membership change is under way")]
    ChangeInProgress,
    /// A controller that is to be added cannot be.
    #[error("the controller at {peer} cannot be added: {reason}")]
    NotAddable {
        /// Its address.
        peer: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A step of a plan did not succeed in time, or at all. Earlier steps stay done.
    #[error("{step} did not succeed: {reason}")]
    StepFailed {
        /// Which step.
        step: String,
        /// Why.
        reason: String,
    },
    /// Something is in the way of a feature level; nothing was proposed.
    #[error("the feature level is not raised to {level}: {}", listed(blockers))]
    UpgradeBlocked {
        /// What was asked for.
        level: FeatureLevel,
        /// All of it.
        blockers: Vec<Blocker>,
    },
    /// The leader's build knows nothing of this request.
    #[error("controller {leader}, which leads, runs a version that knows no upgrades yet")]
    LeaderTooOld {
        /// Who leads.
        leader: ControllerId,
    },
    /// Leadership was not handed over.
    #[error("leadership was not handed over: {reason}")]
    TransferFailed {
        /// Why.
        reason: String,
    },
}

fn listed(blockers: &[Blocker]) -> String {
    blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_was_not_heard_for_too_long_is_not_known() {
        let patience = Duration::from_secs(5);
        let known = |contact_age| LeaderSight { leader: ControllerId::new(2), contact_age }.within(patience).leader;
        assert_eq!(known(Some(patience)), ControllerId::new(2));
        assert_eq!(known(Some(patience + Duration::from_millis(1))), None);
        assert_eq!(known(None), None);
    }
}
