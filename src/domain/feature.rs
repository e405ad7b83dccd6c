//! What the whole cluster may write: the feature level, and what each controller announces that it can read.
//!
//! Level 1 is committed when a cluster is founded. It is raised when an operator finalizes an upgrade ([`upgrade`]), and to
//! level 2 also by the first entry that needs it. The first waits until every member has announced a build that reads the
//! level, the second is refused while any has announced one that does not. From then on an older build stops and says why;
//! until then it may come back.
//!
//! [`upgrade`]: super::upgrade

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::ids::{ControllerId, Incarnation};
use super::negotiation::ProtocolRange;

/// What log entries and snapshots may contain. Committed, monotonic, at most the minimum over all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureLevel(NonZeroU32);

impl FeatureLevel {
    /// The level at which clusters are founded.
    pub const ONE: Self = Self(NonZeroU32::MIN);
    /// Bans and join tokens. A cluster comes to it with the first of these, once all its members can read them.
    pub const TWO: Self = Self(NonZeroU32::MIN.saturating_add(1));
    /// Levels are raised by an entry of their own, and builds that cannot read the level are refused.
    pub const THREE: Self = Self(NonZeroU32::MIN.saturating_add(2));
    /// The newest level that this build can read.
    pub const SUPPORTED: Self = Self::THREE;

    /// The level, or `None` for 0, which the wire reads as absent.
    #[must_use]
    pub const fn new(level: u32) -> Option<Self> {
        match NonZeroU32::new(level) {
            Some(level) => Some(Self(level)),
            None => None,
        }
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// What a build must read before the cluster may be raised to this level: the entry that raises it is one of
    /// [`FeatureLevel::THREE`].
    #[must_use]
    pub fn raised_by(self) -> Self {
        self.max(Self::THREE)
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one controller says of itself when it starts: its build and what that build can read and write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who announces.
    pub controller: ControllerId,
    /// Which formatting of its data directory.
    pub incarnation: Incarnation,
    /// Version of its build, as in `0.1.0`. At most [`SOFTWARE_VERSION_BYTES_MAX`] bytes.
    pub software_version: String,
    /// Oldest feature level that it can read.
    pub level_min: FeatureLevel,
    /// Newest feature level that it can read and write.
    pub level_max: FeatureLevel,
    /// Router protocols that it serves.
    pub protocols: ProtocolRange,
}

impl Announcement {
    /// Whether its build reads what a cluster of this level writes.
    #[must_use]
    pub fn reads(&self, level: FeatureLevel) -> bool {
        self.level_min <= level && level <= self.level_max
    }
}

/// Longest software version that a controller or router may announce, in bytes.
pub const SOFTWARE_VERSION_BYTES_MAX: usize = 64;
