//! What can go wrong with a data directory. Each message names the thing, the reason and the remedy.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::HeldVote;
use crate::domain::ids::{ClusterId, ControllerId, Incarnation};

/// Why a data directory cannot be used. Nothing in it was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An operation of the file system failed.
    #[error("cannot {operation} {}: {source}; check the path and its permissions", path.display())]
    Io {
        /// As in "create", "read".
        operation: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be written to.
    #[error(
        "data directory {} cannot be written to ({source}): mount it read-write, or give this user the right to write",
        path.display()
    )]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too little room to work safely.
    #[error(
        "the disk of data directory {} is full: {free_bytes} bytes are free, at least {needed_bytes} are needed; \
         nothing is lost, free some space and start again",
        path.display()
    )]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// Another process uses it.
    #[error(
        "data directory {} is in use by another process: stop that one, or give this controller a directory of its own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a newer build.
    #[error(
        "data directory {} has format {found}, this build reads up to format {supported}: \
         use the newer build that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this build reads.
        supported: u32,
    },
    /// The format marker cannot be relied on.
    #[error(
        "the format marker {} is damaged ({reason}): restore it from a backup, or remove this controller from the \
         cluster and add it again with an empty data directory",
        path.display()
    )]
    DamagedMarker {
        /// The marker file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Log or snapshots without a format marker.
    #[error(
        "data directory {} holds a log or snapshots but no format marker: it is not a whole data directory; restore \
         its FORMAT file, or point data_dir at an empty directory",
        path.display()
    )]
    NoMarker {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another controller.
    #[error(
        "data directory {} belongs to controller {held}, this one is configured as controller {expected}: \
         correct `id` or `data_dir` in the configuration",
        path.display()
    )]
    OtherController {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        held: ControllerId,
        /// Who asks.
        expected: ControllerId,
    },
    /// It belongs to another cluster.
    #[error(
        "data directory {} belongs to cluster {held}, not to cluster {expected}: correct `data_dir`, or start with an \
         empty directory",
        path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        held: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// The marker says that this is a member's directory, and the log is gone or blank.
    #[error(
        "data directory {} is assigned to a controller, but its log is gone: a controller that lost its votes must not \
         vote again under its old id; restore the directory whole, or remove this controller from the cluster and add \
         it again with an empty data directory",
        path.display()
    )]
    LogLost {
        /// The directory.
        path: PathBuf,
    },
    /// The log was written under another format marker.
    #[error(
        "the log in {} is of incarnation {found}, its format marker is of incarnation {expected}: the directory is \
         pieced together from two; restore it whole from one",
        path.display()
    )]
    ForeignLog {
        /// The directory.
        path: PathBuf,
        /// What the log says.
        found: Incarnation,
        /// What the marker says.
        expected: Incarnation,
    },
    /// A snapshot cannot be used.
    #[error("the snapshots in {} cannot be used: {source}", path.display())]
    Snapshot {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: SnapshotError,
    },
    /// The log cannot be relied on.
    #[error("the log in {} cannot be used: {source}", path.display())]
    Log {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: LogError,
    },
}

/// Why the log did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// A stored value is not what was written.
    #[error(
        "{what} is damaged ({reason}); do not start it again as it is: remove this controller from the cluster and add \
         it again with an empty data directory"
    )]
    Damaged {
        /// As in "log entry 17".
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry is missing between others.
    #[error(
        "log entry {expected} is missing (the next one is {found}); do not start it again as it is: remove this \
         controller from the cluster and add it again with an empty data directory"
    )]
    Gap {
        /// The index that should be there.
        expected: u64,
        /// The index that is there.
        found: u64,
    },
    /// The log is shorter than it was: a part of it was damaged, and the engine dropped the rest.
    #[error(
        "the log reached entry {marked} and now ends at {last}: a part of it was damaged; do not start it again as it \
         is: remove this controller from the cluster and add it again with an empty data directory"
    )]
    Shortened {
        /// How far it had reached.
        marked: u64,
        /// Where it ends now.
        last: u64,
    },
    /// The vote is older than one that was acknowledged: a part of the log was damaged, and the engine dropped the rest.
    #[error(
        "the vote of {marked} was acknowledged, and the log now holds {}: a part of it was damaged, and a controller \
         that forgot its vote could give it twice in one term; do not start it again as it is: remove this controller \
         from the cluster and add it again with an empty data directory",
        held.map_or_else(|| "no vote".to_owned(), |held| format!("the vote of {held}"))
    )]
    VoteLost {
        /// The newest that was acknowledged.
        marked: HeldVote,
        /// The one that is there.
        held: Option<HeldVote>,
    },
    /// A value of a later format.
    #[error("{what} is of record format {found}, this build reads {supported}: use the newer build that wrote it")]
    NewerRecord {
        /// As in "log entry 17".
        what: String,
        /// Its format.
        found: u8,
        /// What this build reads.
        supported: u8,
    },
    /// An entry is whole, but this build cannot read it.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// As in "log entry 17".
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An entry over its limit. Whoever proposes has to keep to it.
    #[error("log entry {index} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Which.
        index: u64,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk is about to be full. Raised before the engine meets the end of it.
    #[error(
        "the disk is full: {free_bytes} bytes are free, {needed_bytes} are kept in reserve; nothing that was \
         acknowledged is lost, free some space and start again"
    )]
    DiskFull {
        /// What is free.
        free_bytes: u64,
        /// What has to stay free.
        needed_bytes: u64,
    },
    /// An operation of the engine or of the file system failed.
    #[error("cannot {operation}: {source}; check the disk, then start again")]
    Engine {
        /// As in "sync the log".
        operation: &'static str,
        /// Why.
        source: Arc<io::Error>,
    },
    /// An earlier failure has stopped the log.
    #[error("the log is stopped since an earlier write failed")]
    Stopped,
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        let kind = match &error {
            LogError::Damaged { .. }
            | LogError::Gap { .. }
            | LogError::Shortened { .. }
            | LogError::VoteLost { .. }
            | LogError::NewerRecord { .. }
            | LogError::Unreadable { .. } => io::ErrorKind::InvalidData,
            LogError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            LogError::DiskFull { .. } => io::ErrorKind::StorageFull,
            LogError::Engine { source, .. } => source.kind(),
            LogError::Stopped => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Why a snapshot cannot be written, received or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// An operation of the file system failed.
    #[error("cannot {operation} snapshot {}: {source}", path.display())]
    Io {
        /// As in "write".
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("snapshot {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a newer build.
    #[error(
        "snapshot {} has format {found}, this build reads up to format {supported}: use the newer build that wrote it",
        path.display()
    )]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u8,
        /// The newest that this build reads.
        supported: u8,
    },
    /// The disk has no room for it beside what the log needs to go on. Nothing was written.
    #[error(
        "there is no room for a snapshot in {}: {free_bytes} bytes are free, {needed_bytes} are needed; free some space \
         on this disk",
        path.display()
    )]
    NoRoom {
        /// The directory of snapshots.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// More bytes than a snapshot may have.
    #[error("snapshot {} would have more than {limit} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

impl SnapshotError {
    /// Whether it is only room that is missing: nothing is damaged, and another attempt may succeed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Damaged { .. } | Self::NewerFormat { .. } | Self::TooLarge { .. } => false,
        }
    }
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::NoRoom { .. } => io::ErrorKind::StorageFull,
            SnapshotError::Io { source, .. } => source.kind(),
            SnapshotError::Damaged { .. } | SnapshotError::NewerFormat { .. } => io::ErrorKind::InvalidData,
            SnapshotError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
        };
        Self::new(kind, error)
    }
}
