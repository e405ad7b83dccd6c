//! What stands behind the services: Raft, the hub and the registrar, joined into one [`ControlPlane`].
//!
//! Here meet the two halves that do not know each other: `rpc`, which speaks to routers, and `raft`, which agrees.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::async_trait;

use super::bans::follow_bans;
use super::happenings::{FOLLOWERS_MAX, Happenings};
use super::hub::Hub;
use super::metrics::Metrics;
use super::pacing::Pacing;
use super::registrar::Registrar;
use super::rivals::{follow_registrations, is_outdated};
use super::tasks::Tasks;
use super::{relay, upgrade};
use crate::domain::command::{Registered, Registration};
use crate::domain::controller_list::ListState;
use crate::domain::ids::{ClusterId, ControllerId, RouterId};
use crate::domain::negotiation::Dialect;
use crate::domain::retry::{Backoff, delay};
use crate::ops::events::{Event, Events};
use crate::proto::router::{Conditions, EventReport};
use crate::raft::Node;
use crate::rpc::control_plane::{ControlPlane, LeaderSight, NotServing, Published, RegisterError, Seat, Standing};
use crate::rpc::convert::events::CAPABILITY;
use crate::rpc::session::{Farewell, LiveSession};
use crate::tls::Security;
use crate::tls::enrol::Enrolling;

/// A leader that was not heard for this long is not named any more: several elections. No sooner than a follower begins
/// to doubt its leader.
pub(super) const LEADER_HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How often the leader is looked at again for the metrics, when Raft says nothing new.
const LEADER_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the leader to say how far it is.
const CATCH_UP_ASK_WITHIN: Duration = Duration::from_secs(1);

/// What stands behind the services of one controller.
pub struct Backend {
    node: Node,
    hub: Arc<Hub>,
    registrar: Registrar,
    pub(super) events: Events,
    pub(super) metrics: Metrics,
    pub(super) enrolling: Enrolling,
    pub(super) pacing: Pacing,
    caught_up: AtomicBool,
    was_member: AtomicBool,
    removed: AtomicBool,
    draining: AtomicBool,
    pub(super) tasks: Tasks,
    /// For what outlives the request that started it.
    pub(super) me: Weak<Self>,
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    pub(super) gathered: super::sessions::Remembered,
    pub(super) soak: upgrade::watching::Soak,
    pub(super) happenings: Happenings,
    pub(super) followers: Arc<tokio::sync::Semaphore>,
    pub(super) security: Security,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Backend {
    /// Joins a node and a hub, and follows the node until the tasks are stopped.
    #[must_use]
    pub fn start(
        node: Node,
        hub: Arc<Hub>,
        (events, metrics): (Events, Metrics),
        tasks: Tasks,
        (security, enrolling): (Security, Enrolling),
        (finalize_after, looks): (Option<Duration>, upgrade::watching::Pace),
    ) -> Arc<Self> {
        let backend = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            registrar: Registrar::start(node.clone(), metrics.clone(), &tasks),
            node,
            hub,
            events,
            metrics: metrics.clone(),
            enrolling,
            pacing: Pacing::default(),
            caught_up: AtomicBool::new(false),
            was_member: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            tasks: tasks.clone(),
            changing: Arc::default(),
            gathered: Default::default(),
            soak: upgrade::watching::Soak::new(finalize_after),
            happenings: Happenings::default(),
            followers: Arc::new(tokio::sync::Semaphore::new(FOLLOWERS_MAX)),
            security,
        });
        tasks.follow("list publication", follow_lists(backend.clone()));
        tasks.follow("list defects", follow_defects(backend.clone(), metrics.clone()));
        tasks.follow("raft metrics", follow_raft(backend.clone(), metrics));
        tasks.follow("rivals", follow_registrations(backend.clone()));
        tasks.follow("bans", follow_bans(backend.clone()));
        tasks.follow("tellers", super::tellers::follow(backend.clone()));
        tasks.follow("upgrades", upgrade::watching::follow(backend.clone(), looks));
        tasks.follow("catch up", catch_up(backend.clone()));
        backend
    }

    /// Raft.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The fan-out.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Who takes registrations.
    #[must_use]
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// Whether this controller has caught up with its cluster once since it started.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    /// No router is taken any more; those that are here stay until the hub is drained.
    pub fn stop_taking(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether this controller is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// This controller was removed: its sessions end, its data stays, and so does the process.
    pub fn removed(&self) {
        if !self.removed.swap(true, Ordering::Relaxed) {
            self.events.raise(Event::Removed);
            self.hub.close(Farewell::NotMember);
        }
    }

    /// Whether this controller was removed from its cluster.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Publishes what was applied. Only a list that names this controller, or one from before it did, is its to serve.
    fn applied(&self, list: &ListState) {
        let ListState::Known(list) = list else { return };
        let Some(me) = self.node.me().id else { return };
        if list.get(me).is_some() {
            self.was_member.store(true, Ordering::Relaxed);
        } else if self.was_member.load(Ordering::Relaxed) || list.retired().contains(&me) {
            return self.removed();
        }
        self.hub.publish(list);
    }

    pub(super) fn serves(&self) -> Result<(ClusterId, ControllerId), NotServing> {
        if self.is_removed() {
            return Err(NotServing::NotMember);
        }
        if self.is_draining() {
            return Err(NotServing::Draining);
        }
        let me = self.node.me();
        let (Some((cluster, _)), Some(id)) = (me.cluster, me.id) else { return Err(NotServing::NotMember) };
        let listed = self.hub.newest().is_some_and(|newest| newest.held().list.get(id).is_some());
        if self.caught_up() && listed { Ok((cluster, id)) } else { Err(NotServing::NotReady) }
    }
}

/// Each list as it is applied; the latest one wins.
async fn follow_lists(backend: Arc<Backend>) {
    let mut lists = backend.node.lists();
    loop {
        let list = lists.borrow_and_update().clone();
        backend.applied(&list);
        if lists.changed().await.is_err() {
            return;
        }
    }
}

/// Each applied membership that makes no list: the last good one stays published, and a person must look.
async fn follow_defects(backend: Arc<Backend>, metrics: Metrics) {
    let mut defects = backend.node.list_defects();
    loop {
        if let Some(found) = defects.borrow_and_update().clone() {
            metrics.withheld(found.defect.code());
            let index = found.position.map_or(0, |position| position.index);
            let message = format!("the membership at log index {index}: {}", found.defect);
            backend.events.raise(Event::PublicationWithheld { reason: found.defect.code(), message });
        }
        if defects.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_raft(backend: Arc<Backend>, metrics: Metrics) {
    let mut status = backend.node.status();
    loop {
        let leader = backend.leader().leader;
        metrics.raft(&status.borrow_and_update(), leader);
        metrics.snapshots_without_room(backend.node.snapshots_without_room());
        // A leader is lost by silence, which changes nothing in Raft.
        if let Ok(Err(_)) = tokio::time::timeout(LEADER_LOOK_EVERY, status.changed()).await {
            return;
        }
    }
}

/// Until this controller has applied what its leader had applied when it was asked. What was on disk at the start may be
/// long out of date, and a router must not be shown it as if it were not.
async fn catch_up(backend: Arc<Backend>) {
    let mut status = backend.node.status();
    for attempt in 0.. {
        let leader = status.borrow_and_update().leader;
        let target = match leader {
            Some(leader) if Some(leader) == backend.node.me().id => {
                backend.node.read_barrier(CATCH_UP_ASK_WITHIN).await.is_ok().then_some(0)
            }
            Some(leader) => relay::applied_by_leader(&backend.node, leader, CATCH_UP_ASK_WITHIN).await.ok(),
            None => None,
        };
        if let Some(target) = target {
            let applied = status.wait_for(|status| status.applied.is_some_and(|applied| applied.index >= target));
            // While it is far behind, the leader may change: then it asks again, and waits for no less.
            if tokio::time::timeout(CATCH_UP_ASK_WITHIN, applied).await.is_ok_and(|applied| applied.is_ok()) {
                tracing::info!(applied = target, "caught up with the cluster");
                backend.caught_up.store(true, Ordering::Relaxed);
                return;
            }
        }
        // At once when the leader changes, and now and then in any case.
        let pause = delay(Backoff::PEER, attempt, backend.node.random());
        let changed = status.wait_for(|status| status.leader.is_some() && status.leader != leader);
        if let Ok(Err(_)) = tokio::time::timeout(pause, changed).await {
            return;
        }
    }
}

#[async_trait]
impl ControlPlane for Backend {
    async fn register(&self, registration: Registration) -> Result<(Registered, ClusterId), RegisterError> {
        if self.is_removed() {
            return Err(NotServing::NotMember.into());
        }
        self.pacing.registration(&registration.router).map_err(|why| {
            self.metrics.registration_too_fast();
            RegisterError::TooFast { router: registration.router.clone(), retry_after_ms: why.retry_after_ms }
        })?;
        self.registrar.register(registration).await
    }

    fn standing(&self) -> Result<Standing, NotServing> {
        let (cluster, me) = self.serves()?;
        let protocols = self.node.read(crate::domain::state::ClusterState::protocols);
        let dialect = Dialect { protocols, capabilities: [CAPABILITY.to_owned()].into(), needs: Default::default() };
        Ok(Standing { cluster, me, dialect })
    }

    fn seat(&self, session: Arc<LiveSession>) -> Result<Seat, NotServing> {
        self.serves()?;
        self.check_ban(&session.router)?;
        if self.node.read(|state| is_outdated(state, &session)) {
            return self.hub.seat_outdated(session);
        }
        let seat = self.hub.seat(session.clone())?;
        // A ban that was applied meanwhile may not have seen it among the sessions.
        self.check_ban(&session.router)?;
        Ok(seat)
    }

    fn seat_watcher(&self, router: Option<&RouterId>) -> Result<Seat, NotServing> {
        self.serves()?;
        router.map_or(Ok(()), |router| self.check_ban(router))?;
        self.hub.seat_watcher(router)
    }

    async fn banned(&self, router: &RouterId) {
        self.until_banned(router).await;
    }

    fn leader(&self) -> LeaderSight {
        let status = self.node.status();
        let status = status.borrow();
        let lease = Duration::from_millis(self.node.settings().election_max_ms);
        let sight = LeaderSight { leader: status.leader, contact_age: status.leader_contact_age() };
        sight.within(LEADER_HEARD_WITHIN.max(lease))
    }

    fn random(&self) -> u32 {
        self.node.random()
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.tasks.spawn(name, task);
    }

    fn refused_by_router(&self, router: &RouterId, reason: &str, message: &str, late: bool) {
        self.hub.refused_by_router(router, reason, message, late);
    }

    fn told_by_router(&self, router: &RouterId, report: EventReport) -> Option<u64> {
        self.happenings.take(router, report)
    }

    fn lasts_on_router(&self, router: &RouterId, conditions: Conditions) {
        self.happenings.last(router, conditions);
    }
}

impl Backend {
    /// The published list and every later one.
    #[must_use]
    pub fn published(&self) -> Published {
        self.hub.published()
    }
}
