//! The small trait between Raft's log and an engine. Entries are opaque bytes at an index; positions are term and index.
//!
//! Synchronous on purpose: [`super::Flusher`] owns the thread. Two engines implement it, sled and memory, and the same
//! suites run on both.

use std::fmt;

use bytes::Bytes;

use super::LogError;
use crate::domain::state::LogPosition;

/// Largest entry, in bytes. Two thirds of a peer message are left for others (4 MiB), and a full batch of ordinary
/// registrations is a tenth of it.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// How many entries one step of a purge removes. Removing 10,000 at once would keep the log busy for 60 ms.
pub const PURGE_STEP_ENTRIES: u64 = 128;

/// One entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub index: u64,
    /// Its content.
    pub bytes: Bytes,
}

/// What is stored beside the entries. The numbers are on disk: appended, never edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MetaKey {
    /// Format and incarnation: written first.
    Header = 1,
    /// The vote.
    Vote = 2,
    /// Last position known to be committed. May be behind after a crash, never ahead.
    Committed = 3,
    /// Last position that was purged.
    Purged = 4,
}

impl MetaKey {
    /// The key on disk.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for MetaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the header of the log",
            Self::Vote => "the vote",
            Self::Committed => "the committed position",
            Self::Purged => "the purged position",
        })
    }
}

/// A durable log. What a call has written can be read when it returns, and survives a crash once a later
/// [`Log::sync`] has returned. A sync covers every write before it, in the order in which they were made.
///
/// One writer at a time; any number of readers.
pub trait Log: fmt::Debug + Send + Sync {
    /// A value beside the entries.
    ///
    /// # Errors
    /// [`LogError::Damaged`], or a failure of the engine.
    fn load(&self, key: MetaKey) -> Result<Option<Vec<u8>>, LogError>;

    /// Stores a value beside the entries.
    ///
    /// # Errors
    /// A failure of the engine.
    fn save(&self, key: MetaKey, value: &[u8]) -> Result<(), LogError>;

    /// Appends entries; either all or none of them survive a crash. The first follows the last entry of the log.
    ///
    /// # Errors
    /// [`LogError::Gap`] and [`LogError::TooLarge`] with nothing written, or a failure of the engine.
    fn append(&self, records: &[Record]) -> Result<(), LogError>;

    /// Removes every entry after `index`, or every entry.
    ///
    /// # Errors
    /// A failure of the engine.
    fn truncate_after(&self, index: Option<u64>) -> Result<(), LogError>;

    /// Hides every entry up to `position` and remembers it. The room is given back by [`Log::purge_step`].
    ///
    /// # Errors
    /// A failure of the engine.
    fn purge_to(&self, position: LogPosition) -> Result<(), LogError>;

    /// Removes up to [`PURGE_STEP_ENTRIES`] hidden entries; says whether more are left.
    ///
    /// # Errors
    /// A failure of the engine.
    fn purge_step(&self) -> Result<bool, LogError>;

    /// Entries from `start` up to but without `end`, as many as `bytes_max` allows but at least one if there is one.
    /// A snapshot in time: later writes do not show.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::Gap`], or a failure of the engine.
    fn range(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Record>, LogError>;

    /// Index of the last entry; `None` when there is none.
    fn last_index(&self) -> Option<u64>;

    /// The last position that was purged.
    fn purged(&self) -> Option<LogPosition>;

    /// Makes every write so far durable.
    ///
    /// # Errors
    /// Any error means that nobody knows what is on the disk: the process has to end.
    fn sync(&self) -> Result<(), LogError>;
}
