//! Which protocol version two sides speak: the newest that both understand, or a structured refusal.
//!
//! It does not know encodings; those live beside the wire types.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// A version of the router protocol. Appended, never edited; 0 is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProtocolVersion(NonZeroU32);

impl ProtocolVersion {
    /// Flat addresses and an index: what the routers of the incident speak.
    pub const FLAT: Self = Self(NonZeroU32::MIN);
    /// The structured list with cluster id, epoch, index, roles and digest.
    pub const STRUCTURED: Self = Self(NonZeroU32::MIN.saturating_add(1));

    /// The version, or `None` for 0.
    #[must_use]
    pub const fn new(version: u32) -> Option<Self> {
        match NonZeroU32::new(version) {
            Some(version) => Some(Self(version)),
            None => None,
        }
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A closed range of protocol versions; never inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Bounds")]
pub struct ProtocolRange {
    min: ProtocolVersion,
    max: ProtocolVersion,
}

/// A range as it was written, before anybody looked which bound is the larger one.
#[derive(Deserialize)]
struct Bounds {
    min: ProtocolVersion,
    max: ProtocolVersion,
}

impl TryFrom<Bounds> for ProtocolRange {
    type Error = &'static str;

    fn try_from(bounds: Bounds) -> Result<Self, Self::Error> {
        Self::new(bounds.min, bounds.max).ok_or("the oldest protocol of a range is newer than its newest")
    }
}

impl ProtocolRange {
    /// What this build of Pilothouse can speak.
    pub const SUPPORTED: Self = Self { min: ProtocolVersion::FLAT, max: ProtocolVersion::STRUCTURED };
    /// What a hello without any version means: a router from before there were versions.
    pub const UNVERSIONED: Self = Self { min: ProtocolVersion::FLAT, max: ProtocolVersion::FLAT };

    /// The range, or `None` when it is inverted.
    #[must_use]
    pub fn new(min: ProtocolVersion, max: ProtocolVersion) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    /// A range as the wire carries it. Two zeros are a hello from before there were versions; one zero stands for the
    /// other bound.
    #[must_use]
    pub fn from_wire(min: u32, max: u32) -> Option<Self> {
        match (ProtocolVersion::new(min), ProtocolVersion::new(max)) {
            (None, None) => Some(Self::UNVERSIONED),
            (Some(only), None) | (None, Some(only)) => Self::new(only, only),
            (Some(min), Some(max)) => Self::new(min, max),
        }
    }

    /// Oldest version of the range.
    #[must_use]
    pub const fn min(self) -> ProtocolVersion {
        self.min
    }

    /// Newest version of the range.
    #[must_use]
    pub const fn max(self) -> ProtocolVersion {
        self.max
    }

    /// Every version of the range, oldest first.
    pub fn versions(self) -> impl Iterator<Item = ProtocolVersion> {
        (self.min.get()..=self.max.get()).filter_map(ProtocolVersion::new)
    }

    /// Whether it contains everything that the other one does.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.min <= other.min && other.max <= self.max
    }

    /// What both ranges contain.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.min.max(other.min), self.max.min(other.max))
    }
}

impl fmt::Display for ProtocolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// What one side brings into a negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Versions that it speaks.
    pub protocols: ProtocolRange,
    /// Optional abilities by name; unknown names are ignored by whoever does not know them.
    pub capabilities: BTreeSet<String>,
    /// Abilities that the other side must have: without one of them there is nothing to talk about.
    pub needs: BTreeSet<String>,
}

/// What both sides will use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The newest version that both speak.
    pub protocol: ProtocolVersion,
    /// The abilities that both have.
    pub capabilities: BTreeSet<String>,
}

/// Why the two do not come together. The router keeps its list and its other sessions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// No version is common.
    #[error("no common protocol: this cluster serves {ours}, the router speaks {theirs}")]
    Protocol {
        /// What the cluster serves.
        ours: ProtocolRange,
        /// What the router speaks.
        theirs: ProtocolRange,
    },
    /// The router needs what the cluster does not have.
    #[error("this cluster has not what the router needs: {}; it has {}", listed(missing), listed(ours))]
    Capability {
        /// What is missing.
        missing: BTreeSet<String>,
        /// What the cluster has.
        ours: BTreeSet<String>,
    },
}

impl Incompatible {
    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => "no_common_protocol",
            Self::Capability { .. } => "missing_capability",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Protocol { ours, theirs } if theirs.max < ours.min => "upgrade the router",
            Self::Protocol { .. } => "upgrade the controllers, or start the router with an older protocol",
            Self::Capability { .. } => "upgrade the controllers, or start the router without what needs it",
        }
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Picks the newest common version and the common capabilities.
///
/// # Errors
/// [`Incompatible`], with what both sides have.
pub fn negotiate(ours: &Dialect, theirs: &Dialect) -> Result<Agreed, Incompatible> {
    let common = ours
        .protocols
        .intersect(theirs.protocols)
        .ok_or(Incompatible::Protocol { ours: ours.protocols, theirs: theirs.protocols })?;
    let missing: BTreeSet<_> = theirs.needs.difference(&ours.capabilities).cloned().collect();
    if !missing.is_empty() {
        return Err(Incompatible::Capability { missing, ours: ours.capabilities.clone() });
    }
    let capabilities = ours.capabilities.intersection(&theirs.capabilities).cloned().collect();
    Ok(Agreed { protocol: common.max(), capabilities })
}
