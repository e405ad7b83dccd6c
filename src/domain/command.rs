//! What a log entry asks for, and what came of it.
//!
//! Membership is not here: it lives in Raft's own membership entries and nowhere else. How a command is written to disk
//! is the storage format's concern; the numbers there are appended, never edited.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::controller_list::{ClusterIdentity, PublicKey};
use super::feature::{Announcement, FeatureLevel, SOFTWARE_VERSION_BYTES_MAX};
use super::ids::{BootId, ControllerId, RouterId};
use super::negotiation::ProtocolRange;
use super::state::BANNED_ROUTERS_MAX;
use super::token::{Redeemed, Redemption, Token, TokenRefusal};

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
    /// Forgets a router, and refuses it from then on.
    Ban(RouterId),
    /// Lifts the ban of a router.
    Allow(RouterId),
    /// Makes a join token.
    CreateToken(Token),
    /// Binds a join token to the first key that asks with it.
    RedeemToken(Redemption),
    /// Raises what the cluster may write.
    Raise(FeatureLevel),
}

impl Change {
    /// What a build must be able to read for this.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        match self {
            Self::Found { .. } | Self::Register(_) | Self::Forget(_) | Self::Announce(_) => FeatureLevel::ONE,
            Self::Ban(_) | Self::Allow(_) | Self::CreateToken(_) | Self::RedeemToken(_) => FeatureLevel::TWO,
            Self::Raise(level) => level.raised_by(),
        }
    }
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
    /// The router is banned now.
    Banned {
        /// Whether it was registered.
        existed: bool,
    },
    /// The router is not banned any more.
    Allowed {
        /// Whether it was banned.
        existed: bool,
    },
    /// When the token expires, in milliseconds since 1970, if it was made.
    TokenCreated(Result<u64, TokenRefusal>),
    /// What the redemption did.
    TokenRedeemed(Result<Redeemed, TokenRefusal>),
    /// What the cluster may write now: what was asked for, or more.
    Raised(FeatureLevel),
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
    /// An operator banned the router.
    #[error("router {router} is banned from the cluster")]
    Banned {
        /// Whose.
        router: RouterId,
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
            Self::Banned { .. } => "banned",
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
    /// As many routers are banned as a cluster remembers.
    #[error("{BANNED_ROUTERS_MAX} routers are banned, which is the limit")]
    BansFull,
    /// A member's build could not read it.
    #[error("a member of the cluster runs a version that knows no bans")]
    NotAllUpgraded,
    /// A member has not announced a build that reads the level.
    #[error("controller {controller} has not announced a version that reads feature level {level}")]
    CannotRead {
        /// Which member.
        controller: ControllerId,
        /// What it would have to read.
        level: FeatureLevel,
    },
    /// The cluster has no identity yet, or the build knows no such level.
    #[error("there is no feature level to raise to {level} here")]
    NoLevel {
        /// What was asked for.
        level: FeatureLevel,
    },
    /// The announced build does not read what the cluster writes.
    #[error("the announced version reads feature levels {min} to {max}, the cluster writes level {level}")]
    OutsideLevel {
        /// Oldest that it reads.
        min: FeatureLevel,
        /// Newest that it reads.
        max: FeatureLevel,
        /// What the cluster writes.
        level: FeatureLevel,
    },
}

impl CommandRefusal {
    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AlreadyFounded => "already_founded",
            Self::NotAMember => "not_a_member",
            Self::VersionTooLong => "version_too_long",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::BansFull => "bans_full",
            Self::NotAllUpgraded => "not_all_upgraded",
            Self::CannotRead { .. } => "cannot_read",
            Self::NoLevel { .. } => "no_level",
            Self::OutsideLevel { .. } => "outside_level",
        }
    }

    /// What to do; empty when the message says it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotAllUpgraded => "upgrade every controller first: `pilothouse cluster status` shows their versions",
            Self::CannotRead { .. } => {
                "upgrade it, or start it: `pilothouse cluster upgrade status` shows what is missing"
            }
            Self::NoLevel { .. } => "see `pilothouse cluster upgrade status` for the levels that there are",
            Self::OutsideLevel { .. } => "install a neighbouring version on that controller",
            Self::BansFull => "lift bans that are not needed any more with `pilothouse routers allow`",
            Self::AlreadyFounded | Self::NotAMember | Self::VersionTooLong | Self::NoCommonProtocol => "",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { identity, level } => write!(f, "found cluster {} at level {level}", identity.cluster),
            Self::Register(routers) => write!(f, "register {} routers", routers.len()),
            Self::Forget(router) => write!(f, "forget router {router}"),
            Self::Announce(announcement) => {
                write!(f, "announce {} of controller {}", announcement.software_version, announcement.controller)
            }
            Self::Ban(router) => write!(f, "ban router {router}"),
            Self::Allow(router) => write!(f, "allow router {router}"),
            Self::CreateToken(token) => write!(f, "create a token for router {}", token.subject),
            Self::RedeemToken(redemption) => write!(f, "redeem a token for router {}", redemption.subject),
            Self::Raise(level) => write!(f, "raise the feature level to {level}"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Registered(outcomes) => write!(f, "{} registrations", outcomes.len()),
            Self::Forgotten { existed } => write!(f, "forgotten (existed: {existed})"),
            Self::Banned { existed } => write!(f, "banned (existed: {existed})"),
            Self::Allowed { existed } => write!(f, "allowed (was banned: {existed})"),
            Self::TokenCreated(Ok(expires_ms)) => write!(f, "created a token until {expires_ms}"),
            Self::TokenRedeemed(Ok(Redeemed::First)) => f.write_str("redeemed a token"),
            Self::TokenRedeemed(Ok(Redeemed::Again)) => f.write_str("redeemed a token once more"),
            Self::TokenCreated(Err(refusal)) | Self::TokenRedeemed(Err(refusal)) => refusal.fmt(f),
            Self::Raised(level) => write!(f, "the feature level is {level}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}
