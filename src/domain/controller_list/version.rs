//! Which list: its version, its digest, and both together as what somebody holds.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::domain::ids::ClusterId;

/// Which life of a cluster: raised by forced recovery and restore, so that an older index becomes a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(NonZeroU32);

impl Epoch {
    /// The epoch in which clusters are founded.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The epoch, or `None` for 0, which the wire reads as absent.
    #[must_use]
    pub const fn new(epoch: u32) -> Option<Self> {
        match NonZeroU32::new(epoch) {
            Some(epoch) => Some(Self(epoch)),
            None => None,
        }
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Orders lists: first by epoch, then by the index of the membership log entry plus 1 (never 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ListVersion {
    /// Which life of the cluster.
    pub epoch: Epoch,
    /// Index of the membership log entry, plus 1.
    pub index: u64,
}

/// A version as it was written, before anybody looked whether its index is 0.
#[derive(Deserialize)]
struct Written {
    epoch: Epoch,
    index: u64,
}

impl TryFrom<Written> for ListVersion {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        Self::from_wire(written.epoch.get(), written.index).ok_or("the index of a list version is 0")
    }
}

impl ListVersion {
    /// The version of a list derived from the membership entry at `log_index`.
    #[must_use]
    pub const fn at(epoch: Epoch, log_index: u64) -> Self {
        Self { epoch, index: log_index.saturating_add(1) }
    }

    /// As the wire carries it; `None` when either part is 0, which means absent.
    #[must_use]
    pub fn from_wire(epoch: u32, index: u64) -> Option<Self> {
        let epoch = Epoch::new(epoch)?;
        (index != 0).then_some(Self { epoch, index })
    }

    /// The single number of protocol 1: `epoch << 32 | index`. An index beyond 32 bits carries into the epoch instead
    /// of wrapping, so the number never steps back within an epoch.
    #[must_use]
    pub fn flat_index(self) -> u64 {
        (u64::from(self.epoch.get()) << 32).saturating_add(self.index)
    }
}

impl fmt::Display for ListVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.index)
    }
}

/// A digest over a list's canonical bytes, together with how it was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// How it was computed. Digests of different schemes say nothing about each other.
    pub scheme: DigestScheme,
    /// The value.
    pub bytes: [u8; 32],
}

impl Digest {
    /// `Some(equal?)` for the same scheme, `None` when the two cannot be compared.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> Option<bool> {
        (self.scheme == other.scheme).then_some(self.bytes == other.bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a digest is computed. Appended, never edited; 0 is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestScheme(pub u32);

impl DigestScheme {
    /// SHA-256 over the canonical bytes of the list's encoding.
    pub const SHA256: Self = Self(1);
}

/// A list that somebody holds, by name only: what routers tell controllers and controllers tell operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldVersion {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which version.
    pub version: ListVersion,
    /// Digest of the bytes that it came from; `None` when its holder did not say.
    pub digest: Option<Digest>,
}
