//! How Raft is doing, in domain words: what `cluster status`, metrics and health checks read.
//!
//! Nothing here decides what routers hold: their list comes from applied membership only, see `Node::lists`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec::position;
use super::types::{LogId, TypeConfig};
use crate::domain::ids::ControllerId;
use crate::domain::state::LogPosition;

/// What a controller is in Raft at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RaftRole {
    /// In no cluster yet: Raft does not run.
    #[default]
    Blank,
    /// Receives the log without a vote.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Stopped,
}

impl RaftRole {
    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// What a leader knows of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last entry that it is known to have on disk.
    pub matched: Option<LogPosition>,
    /// When it last answered.
    pub contact: Option<Instant>,
}

/// How Raft is doing on this controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// This controller's id; `None` while it is blank.
    pub id: Option<ControllerId>,
    /// Who leads, as far as this controller knows.
    pub leader: Option<ControllerId>,
    /// Raft term.
    pub term: u64,
    /// What it is in Raft.
    pub role: RaftRole,
    /// Index of its last log entry.
    pub last_log: Option<u64>,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogPosition>,
    /// The last entry that it applied.
    pub applied: Option<LogPosition>,
    /// The last entry that its newest snapshot covers.
    pub snapshot: Option<LogPosition>,
    /// On a leader: how far each member is, itself included.
    pub members: BTreeMap<ControllerId, Progress>,
    /// On a follower or learner: when a leader last spoke to it. On a leader: when a majority last answered.
    pub leader_contact: Option<Instant>,
}

impl Status {
    /// Whether this controller leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == RaftRole::Leader
    }

    /// How long ago this controller last heard from a leader, or as a leader from a majority. `None`: never since it
    /// started.
    #[must_use]
    pub fn leader_contact_age(&self) -> Option<Duration> {
        self.leader_contact.map(|at| at.elapsed())
    }

    /// Whether it leads, and no majority has answered it since it does.
    #[must_use]
    pub fn leads_without_answers(&self) -> bool {
        self.leads() && self.leader_contact.is_none()
    }

    /// How many entries a member lags behind this leader. `None` when this controller does not lead or does not know.
    #[must_use]
    pub fn lag_entries(&self, member: ControllerId) -> Option<u64> {
        let matched = self.members.get(&member)?.matched?;
        Some(self.last_log?.saturating_sub(matched.index))
    }

    /// Members that answered this leader within `patience`, itself included.
    pub fn live(&self, patience: Duration) -> impl Iterator<Item = ControllerId> {
        let recent = move |progress: &Progress| progress.contact.is_some_and(|at| at.elapsed() <= patience);
        self.members.iter().filter(move |(id, progress)| Some(**id) == self.id || recent(progress)).map(|(id, _)| *id)
    }

    /// From Raft's own metrics, and from when a leader last spoke here.
    pub(super) fn of(metrics: &RaftMetrics<TypeConfig>, heard: Option<Instant>) -> Self {
        let leads = metrics.state == ServerState::Leader;
        let quorum = metrics.last_quorum_acked.map(|at| instant(&at));
        Self {
            id: ControllerId::new(metrics.id),
            leader: metrics.current_leader.and_then(ControllerId::new),
            term: metrics.current_term,
            role: role(metrics.state),
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(position),
            applied: metrics.last_applied.as_ref().map(position),
            snapshot: metrics.snapshot.as_ref().map(position),
            members: progress(metrics),
            leader_contact: if leads { quorum } else { heard },
        }
    }
}

/// Raft's library hides the clock's reading in a type of its own.
fn instant(at: &openraft::metrics::SerdeInstant<openraft::TokioInstant>) -> Instant {
    Instant::now().checked_sub(at.elapsed()).unwrap_or_else(Instant::now)
}

fn role(state: ServerState) -> RaftRole {
    match state {
        ServerState::Learner => RaftRole::Learner,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Leader => RaftRole::Leader,
        ServerState::Shutdown => RaftRole::Stopped,
    }
}

fn progress(metrics: &RaftMetrics<TypeConfig>) -> BTreeMap<ControllerId, Progress> {
    let Some(replication) = &metrics.replication else { return BTreeMap::new() };
    let contact = |id: &u64| metrics.heartbeat.as_ref()?.get(id)?.as_ref().map(instant);
    let known = |(id, matched): (&u64, &Option<LogId>)| {
        let progress = Progress { matched: matched.as_ref().map(position), contact: contact(id) };
        Some((ControllerId::new(*id)?, progress))
    };
    replication.iter().filter_map(known).collect()
}

/// When a leader last spoke to this controller. Kept beside Raft's metrics, which do not tell it.
#[derive(Debug, Default)]
pub(super) struct LeaderContact {
    at: Mutex<Option<Instant>>,
    heard: Notify,
}

impl LeaderContact {
    /// A leader spoke just now.
    pub(super) fn heard(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.heard.notify_waiters();
    }

    /// When.
    pub(super) fn at(&self) -> Option<Instant> {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next time.
    pub(super) async fn next(&self) {
        self.heard.notified().await;
    }
}
