//! The applied state as a snapshot file, and back.
//!
//! [`crate::storage::SnapshotFile`] knows how such a file is made durable and checked, [`codec`] what a record in it
//! looks like; here the two meet. A snapshot that needs a newer build is an error, nothing in it is skipped.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use openraft::alias::{SnapshotMetaOf, StoredMembershipOf};

use super::codec::{self, CodecError, SnapshotDecoder, SnapshotEncoder};
use super::types::TypeConfig;
use crate::domain::feature::FeatureLevel;
use crate::domain::state::{ClusterState, LogPosition};
use crate::storage::snapshot_file::CHUNK_BYTES_MAX;
use crate::storage::{SnapshotError, SnapshotFile, SnapshotFiles, SnapshotWriter};

/// What Raft says of a snapshot.
pub type Meta = SnapshotMetaOf<TypeConfig>;

/// Why a snapshot cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// Its content.
    #[error("snapshot {} cannot be used: {source}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: CodecError,
    },
    /// Its content is not of the position that the file states.
    #[error("snapshot {} is inconsistent: it states {stated:?} and contains {contained:?}", path.display())]
    Inconsistent {
        /// Which file.
        path: PathBuf,
        /// What it states.
        stated: Option<LogPosition>,
        /// What it contains.
        contained: Option<LogPosition>,
    },
    /// Nothing was applied yet.
    #[error("there is nothing to make a snapshot of: no log entry was applied yet")]
    NothingApplied,
    /// Another trial of a level goes on here.
    #[error("another trial of a feature level goes on on this controller: ask again when it has ended")]
    Busy,
    /// A level was tried, and the state came back as another one.
    #[error(
        "what is written at feature level {level} is read back as something else: report this, and do not finalize"
    )]
    Changed {
        /// Which level.
        level: FeatureLevel,
    },
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::File(error) => error.into(),
            error @ (Error::Content { .. } | Error::Inconsistent { .. } | Error::Changed { .. }) => {
                Self::new(io::ErrorKind::InvalidData, error)
            }
            Error::NothingApplied => Self::new(io::ErrorKind::InvalidInput, error),
            Error::Busy => Self::new(io::ErrorKind::ResourceBusy, error),
        }
    }
}

impl Error {
    /// Whether it is only room that is missing: nothing is damaged, and another attempt may succeed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::File(error) if error.is_full())
    }

    /// Whether a newer build wrote it, and only such a one reads it.
    #[must_use]
    pub fn needs_newer_build(&self) -> bool {
        match self {
            Self::File(error) => matches!(error, SnapshotError::NewerFormat { .. }),
            Self::Content { source, .. } => matches!(source, CodecError::NewerLevel { .. }),
            Self::Inconsistent { .. } | Self::NothingApplied | Self::Busy | Self::Changed { .. } => false,
        }
    }
}

/// Writes a state as the newest snapshot. It is durable when this returns.
///
/// # Errors
/// [`Error`]; there is no new snapshot then.
pub fn write(files: &SnapshotFiles, state: &ClusterState) -> Result<SnapshotFile, Error> {
    Ok(begin(files, state)?.finish()?)
}

/// What came of trying a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Size of the snapshot at that level.
    pub bytes: u64,
}

/// Writes a state as it will be written at a feature level, to a file that counts for nothing, and reads it back: the
/// file is gone when this returns.
///
/// # Errors
/// [`Error`]; [`Error::Changed`] when what is read is not what was written.
pub fn try_level(files: &SnapshotFiles, state: &ClusterState, level: FeatureLevel) -> Result<Trial, Error> {
    let state = ClusterState { level: Some(level), ..state.clone() };
    let file = begin(files, &state)?.complete()?;
    if read(&file)? != state {
        return Err(Error::Changed { level });
    }
    Ok(Trial { bytes: file.length_bytes() })
}

fn begin(files: &SnapshotFiles, state: &ClusterState) -> Result<SnapshotWriter, Error> {
    let position = state.applied.ok_or(Error::NothingApplied)?;
    let mut writer = files.create(position, content_bytes(state))?;
    let path = || PathBuf::from(format!("of {}.{}", position.term, position.index));
    for record in SnapshotEncoder::new(state) {
        let failed = |source| SnapshotError::Io { operation: "write", path: path(), source };
        writer.write_all(&record).map_err(failed)?;
    }
    Ok(writer)
}

/// How many bytes a state has in a snapshot. Encoded once more than it would have to be: an estimate from the snapshot
/// before knows nothing of the first one, nor of what was registered since.
fn content_bytes(state: &ClusterState) -> u64 {
    SnapshotEncoder::new(state).map(|record| record.len() as u64).sum()
}

/// Reads the state out of a snapshot.
///
/// # Errors
/// [`Error`].
pub fn read(file: &SnapshotFile) -> Result<ClusterState, Error> {
    let mut decoder = SnapshotDecoder::default();
    feed(file, &mut decoder, |_| false)?;
    let state = decoder.finish().map_err(unusable(file))?;
    let (stated, contained) = (Some(file.position()), state.applied);
    if stated != contained {
        return Err(Error::Inconsistent { path: file.path().to_path_buf(), stated, contained });
    }
    Ok(state)
}

/// What Raft says of a snapshot, from the beginning of its file.
///
/// # Errors
/// [`Error`].
pub fn meta(file: &SnapshotFile) -> Result<Meta, Error> {
    let mut decoder = SnapshotDecoder::default();
    feed(file, &mut decoder, |decoder| decoder.begun().is_some())?;
    let state = decoder.begun().ok_or(CodecError::Absent { what: "the snapshot's header" }).map_err(unusable(file))?;
    meta_of(state).map_err(unusable(file))
}

/// What Raft says of a snapshot of this state.
///
/// # Errors
/// [`CodecError`] when the membership is none.
pub fn meta_of(state: &ClusterState) -> Result<Meta, CodecError> {
    Ok(Meta { last_log_id: state.applied.map(codec::log_id_at), last_membership: stored_membership(state)? })
}

/// The applied membership in Raft's words.
///
/// # Errors
/// [`CodecError`] when it is none.
pub fn stored_membership(state: &ClusterState) -> Result<StoredMembershipOf<TypeConfig>, CodecError> {
    let Some(applied) = &state.membership else { return Ok(StoredMembershipOf::<TypeConfig>::default()) };
    let membership = codec::membership_to_raft(&applied.membership)?;
    Ok(StoredMembershipOf::<TypeConfig>::new(Some(codec::log_id_at(applied.position)), membership))
}

fn feed(
    file: &SnapshotFile,
    decoder: &mut SnapshotDecoder,
    enough: impl Fn(&SnapshotDecoder) -> bool,
) -> Result<(), Error> {
    let mut content = file.content();
    let mut piece = vec![0; CHUNK_BYTES_MAX];
    while !enough(decoder) {
        let path = || file.path().to_path_buf();
        let read = content.read(&mut piece);
        let length = read.map_err(|source| SnapshotError::Io { operation: "read", path: path(), source })?;
        if length == 0 {
            break;
        }
        decoder.push(&piece[..length]).map_err(unusable(file))?;
    }
    Ok(())
}

fn unusable(file: &SnapshotFile) -> impl Fn(CodecError) -> Error + '_ {
    |source| Error::Content { path: file.path().to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::feature::Announcement;
    use crate::domain::ids::{ControllerId, Incarnation};
    use crate::domain::negotiation::ProtocolRange;
    use crate::storage::Room;
    use crate::storage::snapshot_files::SNAPSHOT_LEAVES_BYTES;

    fn announcement(n: u64) -> (ControllerId, Announcement) {
        let controller = ControllerId::new(n).unwrap();
        let build = Announcement {
            controller,
            incarnation: Incarnation::from_u128(n.into()),
            software_version: "1".into(),
            level_min: FeatureLevel::ONE,
            level_max: FeatureLevel::THREE,
            protocols: ProtocolRange::SUPPORTED,
        };
        (controller, build)
    }

    #[test]
    fn a_trial_leaves_nothing_behind_and_finds_what_would_come_back_as_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(directory.path()).unwrap();
        let applied = Some(LogPosition { term: 1, index: 7 });
        let mut state = ClusterState { applied, level: Some(FeatureLevel::ONE), ..ClusterState::default() };
        state.announcements.extend([announcement(1)]);
        let trial = try_level(&files, &state, FeatureLevel::THREE).unwrap();
        assert!(trial.bytes > 0);

        // Stands for a field that a newer format would lose.
        state.announcements.insert(ControllerId::new(9).unwrap(), announcement(2).1);
        let lost = try_level(&files, &state, FeatureLevel::THREE);
        assert!(matches!(lost, Err(Error::Changed { level: FeatureLevel::THREE })), "{lost:?}");
        let unread = try_level(&files, &state, FeatureLevel::new(9).unwrap());
        assert!(matches!(unread, Err(Error::Content { .. })), "{unread:?}");
        assert!(matches!(try_level(&files, &ClusterState::default(), FeatureLevel::THREE), Err(Error::NothingApplied)));
        assert!(files.newest().is_none());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_snapshot_and_a_trial_need_room_for_all_of_the_state_beside_what_the_log_needs() {
        let applied = Some(LogPosition { term: 1, index: 7 });
        let mut state = ClusterState { applied, level: Some(FeatureLevel::ONE), ..ClusterState::default() };
        state.announcements.extend((1..50).map(announcement));
        let on_disk_with = |free_bytes| {
            let directory = tempfile::tempdir().unwrap();
            let files = SnapshotFiles::open_with(directory.path(), Room::call(move |_| Ok(free_bytes))).unwrap();
            let outcomes = (try_level(&files, &state, FeatureLevel::ONE), write(&files, &state));
            (outcomes, std::fs::read_dir(directory.path()).unwrap().count())
        };
        let ((tried, written), _) = on_disk_with(u64::MAX);
        let (tried, written) = (tried.unwrap().bytes, written.unwrap().length_bytes());
        assert_eq!(tried, written);
        let needed = SNAPSHOT_LEAVES_BYTES + written;
        assert!(matches!(on_disk_with(needed), ((Ok(_), Ok(_)), 1)));
        let ((tried, written), files) = on_disk_with(needed - 1);
        for refused in [tried.unwrap_err(), written.unwrap_err()] {
            let text = refused.to_string();
            assert!(refused.is_full() && text.contains("free some space"), "{text}");
            assert!(text.contains(&format!("{needed} are needed")), "refused before anything is written: {text}");
        }
        assert_eq!(files, 0);
    }
}
