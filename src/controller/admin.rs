//! What operators ask for, on whichever controller they ask: it is done here when this controller leads, and passed to
//! the leader's admin port otherwise, a bounded number of times.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Code, async_trait};

use super::backend::Backend;
use super::cluster_status::LIVE_WITHIN;
use super::{membership, upgrade};
use crate::domain::command::{Change, Outcome};
use crate::domain::ids::{ControllerId, RouterId};
use crate::domain::token::Token;
use crate::proto::admin;
use crate::raft::{ChangeError, ProposeError, Status};
use crate::rpc::client::{AdminClient, ClientError};
use crate::rpc::control_plane::{AdminError, AdminPlane, Passed, Progress, RouterPage, UpgradeProgress};
use crate::rpc::convert::change;
use crate::rpc::status::words_and_hint;

/// How often a request is forwarded: once to the leader, once more if it moved meanwhile, once after a handover.
pub(super) const ADMIN_HOPS_MAX: u32 = 3;
/// Longest wait for what the leader would show: after it this controller shows what it knows itself.
const SHOW_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for what the leader would show of an upgrade: every member tries it on a copy of its state.
const UPGRADE_SHOW_WITHIN: Duration = Duration::from_secs(40);
/// Longest wait for the confirmation that this controller leads and has applied everything.
pub(super) const BARRIER_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for a leader before a change is refused: an election takes less, and without a majority none helps.
const LEADER_WITHIN: Duration = Duration::from_secs(4);
/// A controller that is taken for the leader, and is not, looks this long whether it becomes one before it passes on what
/// it was asked: leadership is handed over in a fraction of it.
const LEADS_WITHIN: Duration = Duration::from_millis(500);
/// A fresh leader waits this long for every voter's first answer, before it calls one of them down.
const FIRST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Progress messages that wait for a slow reader.
pub(super) const PROGRESS_MAX: usize = 16;

/// Where a request is served.
enum Place {
    Here,
    There(ControllerId, Box<AdminClient>),
}

impl Backend {
    fn place(&self, hops: u32) -> Result<Place, AdminError> {
        if self.node().me().cluster.is_none() || self.is_removed() {
            return Err(AdminError::NotMember);
        }
        let (leads, leader) = {
            let status = self.node().status();
            let status = status.borrow();
            (status.leads(), status.leader)
        };
        match leader {
            _ if leads => Ok(Place::Here),
            None => Err(AdminError::NoLeader),
            Some(_) if hops >= ADMIN_HOPS_MAX => Err(AdminError::TooManyHops { hops }),
            Some(leader) => Ok(Place::There(leader, Box::new(self.client_of(leader, hops)?))),
        }
    }

    /// Where a change is served: during an election this waits, bounded, for its outcome.
    async fn place_for_change(&self, hops: u32) -> Result<Place, AdminError> {
        if let Err(AdminError::NotMember) = self.place(hops) {
            return Err(AdminError::NotMember);
        }
        let mut status = self.node().status();
        if hops > 0 {
            // Whoever forwarded it takes this controller for the leader, and may know that sooner than it does itself.
            let arrived = status.borrow_and_update().leader;
            let moved = status.wait_for(|raft| raft.leads() || (raft.leader.is_some() && raft.leader != arrived));
            let _ = tokio::time::timeout(LEADS_WITHIN, moved).await;
        }
        // Whoever is still without a leader by then is told so by `place`.
        let settled = status.wait_for(|raft| raft.leads() || (raft.leader.is_some() && raft.leader != raft.id));
        let _ = tokio::time::timeout(LEADER_WITHIN, settled).await;
        self.place(hops)
    }

    /// A page of routers as the leader shows it, or as this controller does when the leader does not answer.
    async fn page_from(
        &self,
        leader: ControllerId,
        client: AdminClient,
        page: RouterPage,
    ) -> admin::ListRoutersResponse {
        let request = admin::ListRoutersRequest {
            after: page.after.as_ref().map(ToString::to_string).unwrap_or_default(),
            limit: u32::try_from(page.limit).unwrap_or(u32::MAX),
            only: page.only.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        match client.within(SHOW_WITHIN).list_routers(request).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(%leader, %error, "could not ask the leader; answering from here");
                self.page(page).await
            }
        }
    }

    /// A client of the admin port of a member.
    pub(super) fn client_of(&self, leader: ControllerId, hops: u32) -> Result<AdminClient, AdminError> {
        let endpoints = self.node().read(|state| {
            let applied = state.membership.as_ref()?;
            applied.membership.member(leader).map(|member| member.admin.clone())
        });
        let unknown = || AdminError::LeaderUnreachable { leader, reason: "its address is not known here".into() };
        Ok(AdminClient::forwarding(&endpoints.ok_or_else(unknown)?, None, hops + 1, self.security.clone()).of(leader))
    }

    /// What is read afterwards is what the whole cluster has agreed on.
    pub(super) async fn barrier(&self) -> Result<(), AdminError> {
        self.node().read_barrier(BARRIER_WITHIN).await.map_err(unproposed)
    }

    /// A controller that leads only since a moment ago has heard nobody yet: what it would plan, it would plan without
    /// them.
    pub(super) async fn await_first_answers(&self) {
        let voters = self.node().read(|state| state.membership.as_ref().map(|applied| applied.membership.voters()));
        let voters = voters.unwrap_or_default();
        let heard = |raft: &Status| {
            // A heartbeat tells that it lives, and only the log's own stream how far it is: a plan needs both.
            let contact = |id: &ControllerId| raft.members.get(id).is_some_and(|progress| progress.contact.is_some());
            let answered = |id: &ControllerId| contact(id) && raft.lag_entries(*id).is_some();
            voters.iter().all(|id| Some(*id) == raft.id || answered(id))
        };
        let mut status = self.node().status();
        // Whoever has not answered by then is down.
        let _ = tokio::time::timeout(FIRST_ANSWERS_WITHIN, status.wait_for(heard)).await;
    }
}

pub(super) fn unproposed(error: ProposeError) -> AdminError {
    match error {
        ProposeError::NotRunning { .. } => AdminError::NotMember,
        ProposeError::TooLarge { .. } => AdminError::Invalid { what: "the request", reason: error.to_string() },
        ProposeError::NotLeader { .. } | ProposeError::NoQuorum => AdminError::NoLeader,
        ProposeError::Unknown { .. } | ProposeError::Deadline { .. } => {
            AdminError::StepFailed { step: "the request".into(), reason: error.to_string() }
        }
    }
}

/// What the leader said, passed on as it was said.
pub(super) fn passed(leader: ControllerId, error: ClientError) -> AdminError {
    match error {
        ClientError::Refused { reason, message, hint, code, .. } => {
            let (message, hint) = words_and_hint(&message, hint.as_deref());
            AdminError::Passed(Passed { code, reason, message, hint })
        }
        other => AdminError::LeaderUnreachable { leader, reason: other.to_string() },
    }
}

#[async_trait]
impl AdminPlane for Backend {
    async fn status(&self, hops: u32) -> Result<admin::StatusResponse, AdminError> {
        match self.place(hops) {
            Ok(Place::There(leader, client)) => match client.within(SHOW_WITHIN).status().await {
                Ok(status) => Ok(status),
                Err(error) => {
                    tracing::debug!(%leader, %error, "could not ask the leader; answering from here");
                    // It is said to lead and does not answer: for whoever asks now there is no leader.
                    Ok(admin::StatusResponse { leader: 0, ..self.cluster_status().await })
                }
            },
            Ok(Place::Here) | Err(_) => Ok(self.cluster_status().await),
        }
    }

    async fn change(&self, request: admin::ChangeRequest, hops: u32) -> Result<Progress, AdminError> {
        let asked = change::from_wire(request.clone())
            .map_err(|why| AdminError::Invalid { what: "the request", reason: why.to_string() })?;
        let (report, progress) = mpsc::channel(PROGRESS_MAX);
        match self.place_for_change(hops).await? {
            Place::Here => {
                let turn = self.changing.clone().try_lock_owned().map_err(|_| AdminError::ChangeInProgress)?;
                let this = self.shared().ok_or(AdminError::NoLeader)?;
                // It goes on when the operator goes away: half a change is worse than either end.
                self.tasks.spawn("membership change", membership::run(this, turn, asked, request, hops, report));
            }
            Place::There(leader, mut client) => {
                let stream = client.change(request).await.map_err(|error| passed(leader, error))?;
                self.tasks.spawn("forwarded change", membership::pass_on(leader, stream, report));
            }
        }
        Ok(progress)
    }

    fn events(&self, follow: bool) -> Result<mpsc::Receiver<admin::EventsResponse>, AdminError> {
        self.follow_events(follow)
    }

    async fn transfer(&self, to: Option<ControllerId>, hops: u32) -> Result<ControllerId, AdminError> {
        match self.place_for_change(hops).await? {
            Place::There(leader, mut client) => {
                let next = client.transfer(to).await.map_err(|error| passed(leader, error))?;
                next.ok_or(AdminError::NoLeader)
            }
            Place::Here => {
                self.await_first_answers().await;
                let to = match to {
                    Some(to) => to,
                    None => self.successor().ok_or_else(|| AdminError::TransferFailed {
                        reason: "no other voter is live and caught up".into(),
                    })?,
                };
                if Some(to) == self.node().me().id {
                    return Ok(to);
                }
                self.node().hand_over(to).await.map_err(|why| match why {
                    ChangeError::NotLeader { .. } => AdminError::NoLeader,
                    why => AdminError::TransferFailed { reason: why.to_string() },
                })?;
                Ok(to)
            }
        }
    }

    async fn list_routers(&self, page: RouterPage, hops: u32) -> Result<admin::ListRoutersResponse, AdminError> {
        match self.place(hops) {
            Ok(Place::There(leader, client)) => Ok(self.page_from(leader, *client, page).await),
            Ok(Place::Here) if self.barrier().await.is_ok() => Ok(self.page(page).await),
            // One that led before its restart believes for a moment that it leads still, until its barrier tells it.
            Ok(Place::Here) => match self.place_for_change(hops).await? {
                Place::There(leader, client) => Ok(self.page_from(leader, *client, page).await),
                Place::Here => {
                    self.barrier().await?;
                    Ok(self.page(page).await)
                }
            },
            Err(AdminError::NotMember) => Err(AdminError::NotMember),
            Err(_) => Ok(self.page(page).await),
        }
    }

    async fn forget(&self, router: RouterId, ban: bool, hops: u32) -> Result<bool, AdminError> {
        match self.place_for_change(hops).await? {
            Place::There(leader, mut client) if ban => client.ban(&router).await.map_err(|error| passed(leader, error)),
            Place::There(leader, mut client) => client.forget(&router).await.map_err(|error| passed(leader, error)),
            Place::Here => {
                self.barrier().await?;
                self.node().read(|state| if ban { state.judge_ban(&router) } else { Ok(()) })?;
                let (known, banned) =
                    self.node().read(|state| (state.routers.contains_key(&router), state.banned.contains(&router)));
                if !known && (!ban || banned) {
                    return Ok(false);
                }
                self.decide(if ban { Change::Ban(router) } else { Change::Forget(router) }).await
            }
        }
    }

    async fn create_token(
        &self,
        request: admin::CreateTokenRequest,
        hops: u32,
    ) -> Result<admin::CreateTokenResponse, AdminError> {
        match self.place_for_change(hops).await? {
            Place::There(leader, mut client) => {
                client.create_token(request).await.map_err(|error| passed(leader, error))
            }
            Place::Here => self.create_token_here(request).await,
        }
    }

    async fn upgrade(&self, request: admin::UpgradeRequest, hops: u32) -> Result<admin::UpgradeResponse, AdminError> {
        match self.place(hops) {
            Ok(Place::There(leader, client)) => match client.within(UPGRADE_SHOW_WITHIN).upgrade(request).await {
                Ok(report) => Ok(report),
                // Its build may be from before there was this request: what this controller knows is as good.
                Err(error) => {
                    tracing::debug!(%leader, %error, "could not ask the leader; answering from here");
                    Ok(self.upgrade_report(request).await)
                }
            },
            Err(AdminError::NotMember) => Err(AdminError::NotMember),
            Ok(Place::Here) | Err(_) => Ok(self.upgrade_report(request).await),
        }
    }

    async fn finalize_upgrade(
        &self,
        request: admin::FinalizeUpgradeRequest,
        hops: u32,
    ) -> Result<UpgradeProgress, AdminError> {
        let (report, progress) = mpsc::channel(PROGRESS_MAX);
        match self.place_for_change(hops).await? {
            Place::Here => {
                let this = self.shared().ok_or(AdminError::NoLeader)?;
                self.tasks.spawn("upgrade", upgrade::finalize(this, request, report));
            }
            Place::There(leader, mut client) => {
                let stream = client.finalize_upgrade(request).await.map_err(|error| match error {
                    ClientError::Refused { code: Code::Unimplemented, .. } => AdminError::LeaderTooOld { leader },
                    error => passed(leader, error),
                })?;
                self.tasks.spawn("forwarded upgrade", membership::pass_on(leader, stream, report));
            }
        }
        Ok(progress)
    }

    async fn allow(&self, router: RouterId, hops: u32) -> Result<bool, AdminError> {
        match self.place_for_change(hops).await? {
            Place::There(leader, mut client) => client.allow(&router).await.map_err(|error| passed(leader, error)),
            Place::Here => {
                self.barrier().await?;
                if !self.node().read(|state| state.banned.contains(&router)) {
                    return Ok(false);
                }
                self.decide(Change::Allow(router)).await
            }
        }
    }
}

impl Backend {
    /// Writes a token; when it expires.
    pub(super) async fn write_token(&self, token: Token) -> Result<u64, AdminError> {
        match self.node().propose(Change::CreateToken(token)).await.map_err(unproposed)? {
            (_, Outcome::TokenCreated(outcome)) => Ok(outcome?),
            (_, outcome) => Err(AdminError::StepFailed { step: "the token".into(), reason: outcome.to_string() }),
        }
    }

    /// Writes what an operator decided about a router; whether it changed what was known of it.
    async fn decide(&self, change: Change) -> Result<bool, AdminError> {
        tracing::info!("an operator asks to {change}");
        match self.node().propose(change).await.map_err(unproposed)? {
            (_, Outcome::Forgotten { existed } | Outcome::Banned { existed } | Outcome::Allowed { existed }) => {
                Ok(existed)
            }
            (_, Outcome::Refused(refusal)) => Err(refusal.into()),
            (_, outcome) => Err(AdminError::StepFailed { step: "the decision".into(), reason: outcome.to_string() }),
        }
    }

    /// The live voter that is most caught up, this controller aside.
    pub(super) fn successor(&self) -> Option<ControllerId> {
        let raft = self.node().status().borrow().clone();
        let voters = self.node().read(|state| state.membership.as_ref().map(|applied| applied.membership.voters()))?;
        let fit = |id: &ControllerId| Some(*id) != raft.id && voters.contains(id);
        raft.live(LIVE_WITHIN).filter(fit).min_by_key(|id| raft.lag_entries(*id).unwrap_or(u64::MAX))
    }

    fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }
}
