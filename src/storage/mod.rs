//! A controller's data directory, and the only module that knows sled: log, votes, format marker, snapshot files.
//!
//! ```text
//! DIR/FORMAT       what this directory is: format version, incarnation, and once known cluster, epoch and node id
//! DIR/LOCK         held while a process uses the directory
//! DIR/log/         sled: tree `meta` (header first, vote, committed, purged) and tree `log` (index -> record); beside
//!                  them `tail` and `voted`, which say what sled must not have forgotten
//! DIR/snapshots/   one file a snapshot, the newest two are kept
//! ```
//!
//! Nothing counts as written before it is synced, and whoever asks for a sync hears of it from the one [`Flusher`]. A
//! failed sync ends the process: after it nobody can say what is on the disk. It does not know Raft's library: entries
//! are opaque bytes at an index.
//!
//! | file | what it is |
//! |---|---|
//! | [`directory`] | opening, locking and assigning a directory |
//! | [`mod@format`] | the format marker |
//! | [`log`] | the small trait that both engines implement |
//! | [`sled_log`], [`memory_log`] | the engines |
//! | [`record`] | what a stored value looks like: version, checksum, content |
//! | [`flusher`] | the one order of appends, votes and truncations on their way to the disk |
//! | [`snapshot_files`], [`snapshot_file`] | snapshots |
//! | [`disk`], [`room`] | small things about files: atomic replacement, free space |
//! | [`error`], [`fatal`] | what can go wrong, and what ends the process |

pub mod directory;
pub mod disk;
pub mod error;
mod extent;
pub mod fatal;
pub mod flusher;
pub mod format;
pub mod log;
pub mod memory_log;
pub mod record;
pub mod room;
pub mod sled_log;
pub mod snapshot_file;
pub mod snapshot_files;
mod tail;
mod voted;

pub use directory::{Directory, Settings};
pub use error::{LogError, OpenError, SnapshotError};
pub use fatal::OnFatal;
pub use flusher::{Flusher, Work};
pub use format::{Assignment, Marker};
pub use log::{Log, MetaKey, Record};
pub use memory_log::MemoryLog;
pub use room::Room;
pub use sled_log::SledLog;
pub use snapshot_file::{SnapshotFile, SnapshotReceiver, SnapshotWriter};
pub use snapshot_files::SnapshotFiles;
pub use voted::HeldVote;
