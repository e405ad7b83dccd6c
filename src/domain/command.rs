//! What a log entry asks for, and what came of it.
//!
//! Membership is not here: it lives in Raft's own membership entries and nowhere else. How a command is written to disk
//! is the storage format's concern; the numbers there are appended, never edited.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::controller_list::{ClusterIdentity, PublicKey};
use super::feature::{Announcement, FeatureLevel, SOFTWARE_VERSION_BYTES_MAX};
use super::ids::{BootId, RouterId};
use super::negotiation::ProtocolRange;

/// Most registrations in one log entry.
pub const REGISTRATIONS_PER_ENTRY_MAX: usize = 512;
/// Most bytes of a router's labels, keys and values together.
pub const LABEL_BYTES_MAX: usize = 4 * 1024;

/// A change together with the leader's clock. Clocks are not trusted: applied time never decreases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Milliseconds since 1970 on the leader that proposed it.
    pub time_ms: u64,
    /// What to change.
    pub change: Change,
}

/// What to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Gives a new cluster its identity and its first feature level. Takes effect once.
    Found {
        /// Cluster, epoch and recovery.
        identity: ClusterIdentity,
        /// The first level.
        level: FeatureLevel,
    },
    /// Registers routers, each with an outcome of its own. At most [`REGISTRATIONS_PER_ENTRY_MAX`].
    Register(Vec<Registration>),
    /// Forgets a router.
    Forget(RouterId),
    /// A controller says what its build can read and write.
    Announce(Announcement),
}

/// What a router says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its identity.
    pub router: RouterId,
    /// Which start of its process.
    pub boot: BootId,
    /// Orders the registrations of a router: starts at 1, and goes on rising across boots while its directory is kept.
    pub sequence: u64,
    /// Version of its build.
    pub software_version: String,
    /// Router protocols that it speaks.
    pub protocols: ProtocolRange,
    /// For people and selectors; at most [`LABEL_BYTES_MAX`] bytes.
    pub labels: BTreeMap<String, String>,
    /// Room for identities.
    #[serde(skip)]
    pub keys: Vec<PublicKey>,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, with nothing to tell.
    Done,
    /// One outcome for each registration, in order.
    Registered(Vec<Result<Registered, RegistrationRefusal>>),
    /// Whether there was such a router.
    Forgotten {
        /// `false` when nothing had to be done.
        existed: bool,
    },
    /// The command does not apply to this state.
    Refused(CommandRefusal),
}

/// What a registration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The router was not known.
    New,
    /// The router was known, and now says something else of itself.
    Updated,
    /// Exactly this is known already.
    Unchanged,
}

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationRefusal {
    /// A delayed message: a newer one of the same boot, or a newer boot, was already applied.
    #[error("router {router} has registered more recently: this registration is a delayed one and is not applied")]
    Stale {
        /// Whose.
        router: RouterId,
    },
    /// The same boot and sequence with other content.
    #[error("router {router} has already registered something else under this sequence number")]
    Conflict {
        /// Whose.
        router: RouterId,
    },
    /// More routers than a cluster holds.
    #[error(
        "the cluster already holds {limit} routers, which is its limit: forget some with `pilothouse routers forget`"
    )]
    Full {
        /// The limit.
        limit: usize,
    },
    /// Something in it is over its limit.
    #[error("{what} of router {router} is over its limit of {limit}")]
    OverLimit {
        /// Whose.
        router: RouterId,
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl RegistrationRefusal {
    /// Stable name: the `reason` that routers and logs see. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Stale { .. } => "stale_registration",
            Self::Conflict { .. } => "registration_conflict",
            Self::Full { .. } => "routers_full",
            Self::OverLimit { .. } => "over_limit",
        }
    }
}

/// Why a command does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// The cluster has its identity already.
    #[error("the cluster already has an identity")]
    AlreadyFounded,
    /// From a controller that is not a member, or under another incarnation.
    #[error("the announcement is not from a member of the cluster")]
    NotAMember,
    /// More than [`SOFTWARE_VERSION_BYTES_MAX`].
    #[error("the announced software version is longer than {SOFTWARE_VERSION_BYTES_MAX} bytes: install a release")]
    VersionTooLong,
    /// Routers would lose their controllers with every failover.
    #[error(
        "the announced router protocols have none in common with the other members': install a neighbouring version"
    )]
    NoCommonProtocol,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Found { identity, level } => write!(f, "found cluster {} at level {level}", identity.cluster),
            Change::Register(routers) => write!(f, "register {} routers", routers.len()),
            Change::Forget(router) => write!(f, "forget router {router}"),
            Change::Announce(announcement) => {
                write!(f, "announce {} of controller {}", announcement.software_version, announcement.controller)
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Registered(outcomes) => write!(f, "{} registrations", outcomes.len()),
            Self::Forgotten { existed } => write!(f, "forgotten (existed: {existed})"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}
