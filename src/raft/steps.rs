//! Carries out the steps of a membership plan. What may be done was decided by [`crate::domain::membership::plan`];
//! here each step becomes one change of Raft, guarded by the membership entry that the plan was made upon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ChangeMembershipRequest;
use openraft::{ChangeMembers, Precondition};
use tokio::time::Instant;

use super::codec::{log_id_at, position};
use super::errors::{ChangeError, PeerError};
use super::network::ask;
use super::network::dial::DIAL_MS_MAX;
use super::node::Node;
use super::types::TypeConfig;
use crate::domain::controller_list::Role;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, Incarnation};
use crate::domain::membership::{CAUGHT_UP_LAG_ENTRIES_MAX, Member, Step};
use crate::domain::state::LogPosition;

/// Longest time for one change of the membership, both of its entries included.
const CHANGE_MS_MAX: u64 = 10_000;
/// Longest wait until a member has applied what was committed.
const APPLIED_MS_MAX: u64 = 5_000;
/// How often a member is asked meanwhile.
const APPLIED_ASKED_EVERY: Duration = Duration::from_millis(100);
/// A member that did not answer this often is not waited for.
const UNANSWERED_MAX: u32 = 3;

/// Longest wait until a member answers at an address that is to stay: long enough for a restart.
const CONFIRM_MS_MAX: u64 = 5_000;
/// How often it is tried meanwhile.
const CONFIRM_EVERY: Duration = Duration::from_millis(200);

type Changing = ChangeMembers<u64, Member>;

/// Carries out one step. Returns the position of the last membership entry afterwards.
pub(super) async fn carry_out(node: &Node, step: &Step, last: LogPosition) -> Result<LogPosition, ChangeError> {
    match step {
        Step::HandOver { to } => hand_over(node, *to).await.map(|()| last),
        Step::AddLearner(member) => {
            enlist(node, member).await?;
            change(node, Changing::AddNodes(one(member)), last).await
        }
        Step::SetVoters(voters) => {
            let voters: BTreeSet<u64> = voters.iter().map(|id| id.get()).collect();
            change(node, Changing::ReplaceAllVoters(voters), last).await
        }
        Step::AwaitApplied(id) => {
            await_applied(node, *id, last).await;
            Ok(last)
        }
        Step::ReplaceMember(member) => change(node, Changing::SetNodes(one(member)), last).await,
        Step::ConfirmAddresses { id, incarnation, peer, services } => {
            confirm(node, (*id, *incarnation), peer, services).await.map(|()| last)
        }
        Step::RemoveLearner(id) => change(node, Changing::RemoveNodes([id.get()].into()), last).await,
        Step::TellRemoved(_) => Err(ChangeError::NotHere),
    }
}

fn one(member: &Member) -> BTreeMap<u64, Member> {
    BTreeMap::from([(member.id.get(), member.clone())])
}

/// Runs on Raft's own runtime, to its end: a caller who goes away does not leave a change half-way.
async fn change(node: &Node, members: Changing, last: LogPosition) -> Result<LogPosition, ChangeError> {
    let raft = node.running().map_err(|reason| ChangeError::NotRunning { reason })?;
    let guard = Precondition::LastMembershipLogId { last_membership_log_id: Some(log_id_at(last)) };
    let request = ChangeMembershipRequest::<TypeConfig>::new(members, true).with_preconditions([guard]);
    let task = node.runtime().spawn(async move { raft.change_membership_with_payload(request).await });
    let deadline = Duration::from_millis(CHANGE_MS_MAX);
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(Ok(outcome))) => Ok(position(outcome.uniform.log_id())),
        Ok(Ok(Err(error))) => Err(refused(error)),
        Ok(Err(_)) => Err(ChangeError::NotRunning { reason: "has stopped" }),
        Err(_) => Err(ChangeError::Deadline { deadline }),
    }
}

fn refused(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ChangeError::NotLeader { leader: forward.leader_id.and_then(ControllerId::new) }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(forward)) => {
            ChangeError::Unknown { leader: forward.leader_id.and_then(ControllerId::new) }
        }
        RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => ChangeError::Stale,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            ChangeError::InProgress
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(other)) => {
            ChangeError::Refused { reason: other.to_string() }
        }
        RaftError::Fatal(_) => ChangeError::NotRunning { reason: "has stopped" },
    }
}

/// The controller to add takes its id before the membership names it. One that took it in an earlier attempt, and has
/// seen no entry since, is added all the same.
async fn enlist(node: &Node, member: &Member) -> Result<(), PeerError> {
    let record = ask::identify_any(node.dialer(), member.id, &member.peer).await?;
    let at = || member.peer.first().map_or_else(String::new, ToString::to_string);
    let refuse = |reason: String| PeerError::Refused { at: at(), reason };
    if record.incarnation != member.incarnation {
        return Err(refuse("its data directory was replaced since the change was planned: try again".to_owned()));
    }
    match record.cluster {
        None => node.enlist_at(&member.peer, member.id, member.incarnation).await,
        Some(theirs) if node.me().cluster == Some(theirs) && record.id == Some(member.id) => Ok(()),
        Some((cluster, _)) => Err(refuse(format!(
            "it belongs to cluster {cluster} already{}: wipe its data directory, and start it with `join = true`",
            record.id.map_or_else(String::new, |id| format!(" as controller {id}"))
        ))),
    }
}

/// Hands leadership over, and confirms it.
pub(super) async fn hand_over(node: &Node, to: ControllerId) -> Result<(), ChangeError> {
    let raft = node.running().map_err(|reason| ChangeError::NotRunning { reason })?;
    let mut status = node.status();
    let now = status.borrow_and_update().clone();
    if !now.leads() {
        return Err(ChangeError::NotLeader { leader: now.leader });
    }
    if now.id == Some(to) {
        return Ok(());
    }
    let voter = node.read(|state| {
        let members = state.membership.as_ref().map(|applied| &applied.membership);
        members.is_some_and(|members| members.member(to).is_some() && members.role(to) == Role::Voter)
    });
    let unfit = |reason| Err(ChangeError::UnfitSuccessor { to, reason });
    if !voter {
        return unfit("does not vote");
    }
    let lease = Duration::from_millis(node.settings().election_max_ms);
    if !now.live(lease).any(|id| id == to) {
        return unfit("does not answer");
    }
    if now.lag_entries(to).is_none_or(|lag| lag > CAUGHT_UP_LAG_ENTRIES_MAX) {
        return unfit("is not caught up");
    }
    let stopped = |_| ChangeError::NotRunning { reason: "has stopped" };
    raft.trigger().transfer_leader(to.get()).await.map_err(stopped)?;
    let patience = node.settings().election_patience();
    let settled = status.wait_for(|status| status.leader.is_some() && status.leader != now.id);
    match tokio::time::timeout(patience, settled).await {
        Ok(Ok(status)) if status.leader == Some(to) => Ok(()),
        Ok(Ok(_)) => unfit("lost the election to another voter"),
        Ok(Err(_)) => Err(ChangeError::NotRunning { reason: "has stopped" }),
        Err(_) => Err(ChangeError::Deadline { deadline: patience }),
    }
}

/// Waits until a member has applied an entry, if it can be reached at all.
async fn await_applied(node: &Node, id: ControllerId, entry: LogPosition) {
    let record = |state: &crate::domain::state::ClusterState| {
        state.membership.as_ref().and_then(|applied| applied.membership.member(id)).cloned()
    };
    let Some(member) = node.read(record) else { return };
    let deadline = Instant::now() + Duration::from_millis(APPLIED_MS_MAX);
    let mut unanswered = 0;
    while Instant::now() < deadline && unanswered < UNANSWERED_MAX {
        let own = node.me().id == Some(id);
        let asked = if own { Ok(node.record()) } else { ask::identify_any(node.dialer(), id, &member.peer).await };
        match asked {
            Ok(record) if record.applied >= Some(entry.index) => return,
            Ok(_) => unanswered = 0,
            Err(_) => unanswered += 1,
        }
        tokio::time::sleep(APPLIED_ASKED_EVERY).await;
    }
    tracing::warn!(controller = id.get(), index = entry.index, "a controller has not applied the change yet");
}

/// Who has to answer: the id and the formatting of its data directory.
type Who = (ControllerId, Incarnation);

/// Until the member answers at each of these addresses. Each is tried at least once.
async fn confirm(node: &Node, who: Who, peer: &[Endpoint], services: &[Endpoint]) -> Result<(), ChangeError> {
    let deadline = Instant::now() + Duration::from_millis(CONFIRM_MS_MAX);
    let peers = peer.iter().map(|at| (at, true));
    for (at, is_peer) in peers.chain(services.iter().map(|at| (at, false))) {
        loop {
            let answer =
                if is_peer { answers_as(node, at, who).await } else { takes_connections(node, at, who.0).await };
            match answer {
                Ok(()) => break,
                Err(reason) if Instant::now() >= deadline => {
                    return Err(ChangeError::Unconfirmed { id: who.0, at: at.clone(), reason });
                }
                Err(_) => tokio::time::sleep(CONFIRM_EVERY).await,
            }
        }
    }
    Ok(())
}

async fn answers_as(node: &Node, at: &Endpoint, (id, incarnation): Who) -> Result<(), String> {
    let record = ask::identify(node.dialer(), Some(id), at).await.map_err(|error| error.to_string())?;
    if record.id == Some(id) && record.incarnation == incarnation && record.cluster == node.me().cluster {
        return Ok(());
    }
    let other = record.id.map_or_else(|| "a blank controller".to_owned(), |other| format!("controller {other}"));
    Err(format!("{} answers there, {other}", record.name))
}

/// Over plain text a connection says little of who is there, but a mistyped address rarely takes one.
async fn takes_connections(node: &Node, at: &Endpoint, whom: ControllerId) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_millis(DIAL_MS_MAX), node.dialer().dial(at, Some(whom))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(reason)) => Err(reason.to_string()),
        Err(_) => Err(format!("no answer within {DIAL_MS_MAX} ms")),
    }
}
