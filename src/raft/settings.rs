//! What a node is told when it starts: who it is, how it finds its cluster, how fast it beats; and the seams through
//! which tests and simulations replace network, clock and chance.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openraft::{Config, SnapshotPolicy};

use super::network::dial::{Dial, Tcp};
use crate::domain::acceptance;
use crate::domain::controller_list::ControllerList;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, ControllerName};

/// Default time between two heartbeats of a leader. Raft's library uses it as the deadline of a single RPC too.
pub const HEARTBEAT_MS: u64 = 100;
/// Least heartbeat: below it a loaded machine misses its own deadlines.
pub const HEARTBEAT_MS_MIN: u64 = 50;
/// Default shortest wait of a follower beyond its leader's lease.
pub const ELECTION_MS_MIN: u64 = 500;
/// Default longest wait of a follower beyond its leader's lease; also the lease itself.
pub const ELECTION_MS_MAX: u64 = 1_000;
/// Default number of log entries between two snapshots.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 50_000;
/// Default time between two hashes of the applied state.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// Most entries in one append message.
const ENTRIES_PER_APPEND_MAX: u64 = 256;
/// Entries that stay in the log behind a snapshot, so that a follower that was away for a moment needs no snapshot.
const ENTRIES_KEPT_BEHIND_SNAPSHOT: u64 = 5_000;
/// Entries that are purged at once: a purge blocks the log for about 6 microseconds each.
const ENTRIES_PER_PURGE: u64 = 1_000;
/// Longest time for sending and installing a whole snapshot; chunks have deadlines of their own.
const SNAPSHOT_MS_MAX: u64 = 600_000;

/// How a controller finds its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// Forms a new cluster together with these, itself included; the same on all of them.
    InitialMembers(Vec<InitialMember>),
    /// Stays blank until a cluster adds it.
    Join,
}

/// One of the controllers that form a new cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Its id.
    pub id: ControllerId,
    /// Its name.
    pub name: ControllerName,
    /// Where its peer port is.
    pub peer: Endpoint,
}

/// What a node is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name for people; unique in the cluster.
    pub name: ControllerName,
    /// Its id; required with [`Bootstrap::InitialMembers`], else assigned by the cluster.
    pub id: Option<ControllerId>,
    /// Advertised to other controllers: where they reach it.
    pub peer: Vec<Endpoint>,
    /// Advertised to routers.
    pub router: Vec<Endpoint>,
    /// Advertised to operators.
    pub admin: Vec<Endpoint>,
    /// How it finds its cluster.
    pub bootstrap: Bootstrap,
    /// Version of this build, as it is announced.
    pub software_version: String,
    /// Time between two heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest wait beyond the lease before a follower stands for election.
    pub election_min_ms: u64,
    /// Longest wait beyond the lease; also the lease.
    pub election_max_ms: u64,
    /// Log entries between two snapshots.
    pub snapshot_every_entries: u64,
    /// As leader: how often everybody hashes the applied state, which is one log entry each.
    pub checkpoint_every: Duration,
}

/// Why a node cannot start with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// `initial_members` without `id`.
    #[error("initial_members is given, but no id: set `id` to this controller's own id among initial_members")]
    NoId,
    /// The own id is not among `initial_members`.
    #[error("initial_members does not name this controller (id {id}): add it, the list is the same on all of them")]
    NotAmongInitialMembers {
        /// The configured id.
        id: ControllerId,
    },
    /// The own name differs from the one in `initial_members`.
    #[error("initial_members calls controller {id} {theirs}, but its own name is {own}: make them the same")]
    NameDiffers {
        /// The configured id.
        id: ControllerId,
        /// The name in `initial_members`.
        theirs: ControllerName,
        /// The configured name.
        own: ControllerName,
    },
    /// Something stands twice in `initial_members`.
    #[error("initial_members has {what} twice: every member has an id, a name and an address of its own")]
    Duplicate {
        /// Which id, name or address.
        what: String,
    },
    /// Nobody in `initial_members`.
    #[error("initial_members is empty: name every controller of the new cluster, or set `join = true`")]
    NoMembers,
    /// No advertised address of this kind.
    #[error("no {kind} address is advertised: set `advertise.{kind}`")]
    NoAddress {
        /// `peer`, `router` or `admin`.
        kind: &'static str,
    },
    /// Timing that Raft cannot work with.
    #[error(
        "heartbeat_ms = {heartbeat_ms}, election_min_ms = {election_min_ms}, election_max_ms = {election_max_ms} do \
         not fit: heartbeat_ms is at least {HEARTBEAT_MS_MIN}, election_min_ms at least three times that, and \
         election_max_ms larger still"
    )]
    Timing {
        /// As configured.
        heartbeat_ms: u64,
        /// As configured.
        election_min_ms: u64,
        /// As configured.
        election_max_ms: u64,
    },
}

impl Settings {
    /// Settings with the default timing.
    #[must_use]
    pub fn new(name: ControllerName, id: Option<ControllerId>, bootstrap: Bootstrap) -> Self {
        Self {
            name,
            id,
            peer: Vec::new(),
            router: Vec::new(),
            admin: Vec::new(),
            bootstrap,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_ms: HEARTBEAT_MS,
            election_min_ms: ELECTION_MS_MIN,
            election_max_ms: ELECTION_MS_MAX,
            snapshot_every_entries: SNAPSHOT_EVERY_ENTRIES,
            checkpoint_every: CHECKPOINT_EVERY,
        }
    }

    /// All relations between the settings.
    ///
    /// # Errors
    /// [`InvalidSettings`] with the first that does not hold.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        for (kind, endpoints) in [("peer", &self.peer), ("router", &self.router), ("admin", &self.admin)] {
            if endpoints.is_empty() {
                return Err(InvalidSettings::NoAddress { kind });
            }
        }
        let &Self { heartbeat_ms, election_min_ms, election_max_ms, .. } = self;
        let orderly = heartbeat_ms.saturating_mul(3) <= election_min_ms && election_min_ms < election_max_ms;
        if heartbeat_ms < HEARTBEAT_MS_MIN || !orderly {
            return Err(InvalidSettings::Timing { heartbeat_ms, election_min_ms, election_max_ms });
        }
        match &self.bootstrap {
            Bootstrap::Join => Ok(()),
            Bootstrap::InitialMembers(members) => self.check_initial(members),
        }
    }

    fn check_initial(&self, members: &[InitialMember]) -> Result<(), InvalidSettings> {
        if members.is_empty() {
            return Err(InvalidSettings::NoMembers);
        }
        let id = self.id.ok_or(InvalidSettings::NoId)?;
        let own = members.iter().find(|m| m.id == id).ok_or(InvalidSettings::NotAmongInitialMembers { id })?;
        if own.name != self.name {
            return Err(InvalidSettings::NameDiffers { id, theirs: own.name.clone(), own: self.name.clone() });
        }
        let mut seen = BTreeSet::new();
        for member in members {
            for what in [format!("id {}", member.id), format!("name {}", member.name.as_str()), member.peer.to_string()]
            {
                if !seen.insert(what.clone()) {
                    return Err(InvalidSettings::Duplicate { what });
                }
            }
        }
        Ok(())
    }

    /// For Raft's library. Pre-vote is on: a controller that was away may not depose a leader that works.
    pub(super) fn raft(&self) -> Config {
        Config {
            cluster_name: "pilothouse".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            enable_pre_vote: Some(true),
            max_payload_entries: ENTRIES_PER_APPEND_MAX,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every_entries),
            max_in_snapshot_log_to_keep: ENTRIES_KEPT_BEHIND_SNAPSHOT.min(self.snapshot_every_entries),
            purge_batch_size: ENTRIES_PER_PURGE.min(self.snapshot_every_entries),
            replication_lag_threshold: self.snapshot_every_entries.saturating_mul(2),
            install_snapshot_timeout: SNAPSHOT_MS_MAX,
            ..Config::default()
        }
    }

    /// How long a leadership change takes at most when all goes well: lease, then the longest wait, then a round.
    pub(super) fn election_patience(&self) -> Duration {
        Duration::from_millis(self.election_max_ms.saturating_mul(3))
    }
}

/// Judges the list of a cluster that is to be founded.
pub type ListJudge = Arc<dyn Fn(&ControllerList) -> Result<(), acceptance::Refusal> + Send + Sync>;

/// What tests and simulations replace.
#[derive(Clone)]
pub struct Seams {
    /// How connections to other controllers are made.
    pub dialer: Arc<dyn Dial>,
    /// Milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// A number drawn uniformly over all of `u32`.
    pub random: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Where Raft runs; `None` gives it a runtime of its own, so that thousands of sessions cannot delay a heartbeat.
    pub runtime: Option<tokio::runtime::Handle>,
    /// Whether routers would take a list, in every encoding: a cluster is not founded with one that they would refuse.
    pub judge: ListJudge,
}

impl Default for Seams {
    fn default() -> Self {
        let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            dialer: Arc::new(Tcp),
            clock: Arc::new(move || u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)),
            random: Arc::new(rand::random::<u32>),
            runtime: None,
            judge: Arc::new(|_| Ok(())),
        }
    }
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}
