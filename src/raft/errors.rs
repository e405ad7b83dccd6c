//! What can go wrong between this module and its callers. One enum a boundary.

use std::time::Duration;

use super::identity::Stranger;
use super::settings::InvalidSettings;
use crate::domain::controller_list::Epoch;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::state::LogPosition;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings do not fit together.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The data directory is another controller's.
    #[error(transparent)]
    Directory(#[from] crate::storage::OpenError),
    /// The runtime for Raft cannot be made.
    #[error("cannot start the threads for Raft")]
    Runtime(#[source] std::io::Error),
    /// The state on disk cannot be read.
    #[error("cannot start Raft from the data directory: {reason}")]
    Storage {
        /// What the storage said.
        reason: String,
    },
}

/// Why a proposal or a read has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader can do this.
    #[error("this controller does not lead{}", known(*leader))]
    NotLeader {
        /// Who leads, as far as this controller knows.
        leader: Option<ControllerId>,
    },
    /// The leader lost its majority: nothing was written.
    #[error("no majority of the controllers can be reached: bring them back")]
    NoQuorum,
    /// Leadership changed before the entry was committed: it may or may not take effect. Ask, or repeat it.
    #[error("leadership changed before the outcome was known{}: repeat the request", known(*leader))]
    Unknown {
        /// Who leads now, as far as this controller knows.
        leader: Option<ControllerId>,
    },
    /// No outcome in time: it may or may not take effect. Ask, or repeat it.
    #[error("no outcome within {} ms: the cluster is slow or has lost its majority; repeat the request", deadline.as_millis())]
    Deadline {
        /// How long was waited.
        deadline: Duration,
    },
    /// Larger than a log entry may be.
    #[error("the change needs {bytes} bytes, the limit of a log entry is {limit}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Raft does not run here.
    #[error("this controller {reason}")]
    NotRunning {
        /// Blank, or stopped.
        reason: &'static str,
    },
}

fn known(leader: Option<ControllerId>) -> String {
    leader.map_or_else(|| ": no leader is known".to_owned(), |id| format!(": controller {id} leads"))
}

/// Why a step of a membership change was not carried out. Steps before it have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes the membership.
    #[error("this controller does not lead{}", known(*leader))]
    NotLeader {
        /// Who leads, as far as this controller knows.
        leader: Option<ControllerId>,
    },
    /// The membership changed since the plan was made.
    #[error("the membership changed since this was planned: look at `pilothouse cluster members`, then try again")]
    Stale,
    /// Another change is under way.
    #[error("another membership change is under way: wait until `pilothouse cluster status` shows one voter set")]
    InProgress,
    /// Raft refuses it.
    #[error("Raft refuses the change: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// The new controller did not take its id.
    #[error("the controller to add did not take its id: {0}")]
    Enlist(#[from] PeerError),
    /// A successor that is not live and caught up, or no voter: a transfer to it would stop writes.
    #[error("controller {to} cannot take over: it {reason}")]
    UnfitSuccessor {
        /// Who was to lead.
        to: ControllerId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is not known whether the change happened.
    #[error("no outcome within {} ms: look at `pilothouse cluster status` before you try again", deadline.as_millis())]
    Deadline {
        /// How long was waited.
        deadline: Duration,
    },
    /// Leadership changed before the change was committed: it may or may not take effect.
    #[error("leadership changed before the outcome was known{}: look at `pilothouse cluster status`", known(*leader))]
    Unknown {
        /// Who leads now, as far as this controller knows.
        leader: Option<ControllerId>,
    },
    /// The member is not where it is said to be: its old addresses are not dropped.
    #[error(
        "controller {id} could not be confirmed at {at} ({reason}): its old addresses stay beside the new ones; make it \
         listen there and repeat the command, or undo it with `pilothouse cluster readdress` and the old addresses"
    )]
    Unconfirmed {
        /// Whose.
        id: ControllerId,
        /// The address that is in doubt.
        at: Endpoint,
        /// What happened there.
        reason: String,
    },
    /// A step that is carried out elsewhere.
    #[error("this step is not Raft's")]
    NotHere,
    /// Raft does not run here.
    #[error("this controller {reason}")]
    NotRunning {
        /// Blank, or stopped.
        reason: &'static str,
    },
}

/// Why another controller did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody answers there.
    #[error("{at} does not answer: {reason}")]
    Unreachable {
        /// Where.
        at: String,
        /// What the transport said.
        reason: String,
    },
    /// It refused, with its words.
    #[error("{at} refused: {reason}")]
    Refused {
        /// Where.
        at: String,
        /// Its words.
        reason: String,
    },
    /// It answered something that no controller says.
    #[error("{at} answered without a usable {what}: is it a controller's peer port?")]
    Unusable {
        /// Where.
        at: Endpoint,
        /// What is wrong.
        what: &'static str,
    },
    /// No such member.
    #[error("controller {id} is not a member")]
    NotAMember {
        /// Who.
        id: ControllerId,
    },
}

/// Why a blank controller does not let itself be enlisted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnlistRefusal {
    /// The message is not for this controller, or not usable.
    #[error(transparent)]
    Stranger(#[from] Stranger),
    /// It has a cluster already.
    #[error("this controller belongs to cluster {cluster} (epoch {epoch}) already: wipe its data directory first")]
    Taken {
        /// Its cluster.
        cluster: ClusterId,
        /// The epoch.
        epoch: Epoch,
    },
    /// It is configured for another id.
    #[error("this controller is configured as controller {configured}, not {offered}: correct `id`")]
    OtherId {
        /// Configured.
        configured: ControllerId,
        /// Offered.
        offered: ControllerId,
    },
    /// Only the lowest of `initial_members` founds the cluster.
    #[error("controller {sender} may not enlist this controller: controller {founder} founds the cluster")]
    NotTheFounder {
        /// Who tried.
        sender: ControllerId,
        /// Who may.
        founder: ControllerId,
    },
    /// The id could not be written to disk.
    #[error("this controller cannot write its identity to disk: {reason}")]
    Disk {
        /// What the storage said.
        reason: String,
    },
}

impl From<EnlistRefusal> for tonic::Status {
    fn from(refusal: EnlistRefusal) -> Self {
        match refusal {
            EnlistRefusal::Stranger(stranger) => stranger.into(),
            EnlistRefusal::Disk { .. } => Self::unavailable(refusal.to_string()),
            _ => Self::failed_precondition(refusal.to_string()),
        }
    }
}

/// The process has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Raft stopped by itself: an unknown state is worse than a restart.
    #[error(
        "Raft stopped at {at:?}: {reason}; the process ends, start it again; if it repeats, see the log above and the \
         disk"
    )]
    Stopped {
        /// The last entry that was applied.
        at: Option<LogPosition>,
        /// What happened.
        reason: String,
    },
    /// The leader sends what this build cannot read: a restart of the same build changes nothing.
    #[error("the cluster was upgraded beyond this build, which has applied up to {at:?}: {reason}")]
    Outdated {
        /// The last entry that was applied.
        at: Option<LogPosition>,
        /// What cannot be read, and what to do.
        reason: String,
    },
}
