//! Raft's state machine: [`ClusterState`] in memory, changed by committed entries only, and its snapshots.
//!
//! The controller list is derived here and nowhere else, when a committed membership or the cluster's identity is
//! applied, and published once that entry is durable on this controller's own disk. A membership that would make a
//! list that is none is reported, and the last good list stays published.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::alias::{SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::checkpoint::Hashing;
use super::codec;
use super::log_store::{Durable, LogStore};
use super::snapshot::{self, Meta};
use super::types::{Entry, LogId, TypeConfig};
use crate::domain::agreement::Checkpoints;
use crate::domain::command::{Change, Command, Outcome};
use crate::domain::controller_list::{Defect, ListState};
use crate::domain::state::{ClusterState, LogPosition};
use crate::storage::{Directory, OnFatal, SnapshotFile, SnapshotFiles, Work};

/// How long a snapshot without room waits before it is tried again.
const ROOM_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// An applied entry that is not durable here after this time means a disk that has failed.
const DURABLE_DEADLINE: Duration = Duration::from_secs(60);

/// Why the state cannot be restored at start.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The newest snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The log begins behind the end of the newest snapshot.
    #[error(
        "log entries after index {} are missing: the log begins after index {purged}, the newest valid snapshot ends \
         before that; restore the snapshot, or remove this controller from the cluster and add it again with an empty \
         data directory",
        covered.map_or_else(|| "nothing".to_owned(), |index| index.to_string())
    )]
    Gap {
        /// Last index that the newest snapshot covers.
        covered: Option<u64>,
        /// Last index that was purged from the log.
        purged: u64,
    },
}

/// A membership was applied that makes no controller list. Nothing was published for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListDefect {
    /// The entry after which the list could not be derived.
    pub position: Option<LogPosition>,
    /// What is wrong with it.
    pub defect: Defect,
}

/// What has been applied, for everybody to read. Clones share it.
#[derive(Debug, Clone)]
pub struct Applied {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<ClusterState>,
    lists: watch::Sender<Arc<ListState>>,
    defects: watch::Sender<Option<ListDefect>>,
    /// Counts what may have changed who is retired or banned.
    standings: watch::Sender<u64>,
    /// The newest snapshot, with what Raft says of it.
    snapshot: RwLock<Option<(Meta, SnapshotFile)>>,
    hashing: Hashing,
    /// How often there was no room for a snapshot.
    without_room: AtomicU64,
}

impl Applied {
    /// Reads the applied state. Quick work only: applying waits meanwhile.
    pub fn read<T>(&self, f: impl FnOnce(&ClusterState) -> T) -> T {
        f(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The list of the newest applied membership; committed and durable here. Never falls back to unknown.
    #[must_use]
    pub fn lists(&self) -> watch::Receiver<Arc<ListState>> {
        self.shared.lists.subscribe()
    }

    /// The latest membership that made no list, if there was one since the start.
    #[must_use]
    pub fn defects(&self) -> watch::Receiver<Option<ListDefect>> {
        self.shared.defects.subscribe()
    }

    /// Rises whenever what was applied may have changed who is retired or banned.
    #[must_use]
    pub fn standings(&self) -> watch::Receiver<u64> {
        self.shared.standings.subscribe()
    }

    /// Hashes of what was applied, at each announcement.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Checkpoints> {
        self.shared.hashing.kept()
    }

    /// How often a snapshot was not made since there was no room for it, since the start.
    #[must_use]
    pub fn snapshots_without_room(&self) -> u64 {
        self.shared.without_room.load(Ordering::Relaxed)
    }

    fn standings_changed(&self) {
        self.shared.standings.send_modify(|changes| *changes += 1);
    }

    fn change<T>(&self, f: impl FnOnce(&mut ClusterState) -> T) -> T {
        f(&mut self.shared.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Derives the list anew. A defect leaves the last good one in place, and so does a state without a list.
    fn publish(&self) {
        let (position, derived) = self.read(|state| (state.applied, state.list()));
        match derived {
            Ok(known @ ListState::Known(_)) => {
                self.shared.lists.send_if_modified(|published| {
                    let changed = **published != known;
                    if changed {
                        *published = Arc::new(known);
                    }
                    changed
                });
            }
            Ok(ListState::Unknown) => {}
            Err(defect) => {
                tracing::error!(
                    reason = defect.code(), error = %defect,
                    "applied membership makes no controller list: the last good list stays published; \
                     correct it with `pilothouse cluster readdress` or `remove`"
                );
                self.shared.defects.send_replace(Some(ListDefect { position, defect }));
            }
        }
    }

    fn newest_snapshot(&self) -> Option<(Meta, SnapshotFile)> {
        self.shared.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep_snapshot(&self, meta: Meta, file: SnapshotFile) {
        let mut newest = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|(_, newest)| newest.position() <= file.position()) {
            *newest = Some((meta, file));
        }
    }
}

/// Raft's state machine.
#[derive(Debug)]
pub struct StateMachine {
    applied: Applied,
    snapshots: SnapshotFiles,
    durable: watch::Receiver<Durable>,
    room_again_after: Duration,
    work: Work,
    on_fatal: OnFatal,
}

impl StateMachine {
    /// The state of a data directory as of its newest snapshot. Raft applies the rest of the log.
    ///
    /// # Errors
    /// [`RestoreError`] with the remedy.
    pub fn open(directory: &Directory, log: &LogStore) -> Result<Self, RestoreError> {
        let machine = Self::restore(directory.snapshots(), log.durable(), directory.work(), directory.on_fatal())?;
        let covered = machine.applied.read(|state| state.applied);
        match directory.log().purged() {
            Some(purged) if covered < Some(purged) => {
                Err(RestoreError::Gap { covered: covered.map(|covered| covered.index), purged: purged.index })
            }
            _ => Ok(machine),
        }
    }

    /// The state as of the newest of these snapshots.
    ///
    /// # Errors
    /// [`RestoreError::Snapshot`].
    pub fn restore(
        snapshots: SnapshotFiles,
        durable: watch::Receiver<Durable>,
        work: Work,
        on_fatal: OnFatal,
    ) -> Result<Self, RestoreError> {
        let newest = match snapshots.newest() {
            Some(file) => Some((snapshot::meta(&file)?, snapshot::read(&file)?, file)),
            None => None,
        };
        let (snapshot, state) = match newest {
            Some((meta, state, file)) => (Some((meta, file)), state),
            None => (None, ClusterState::default()),
        };
        let shared = Shared {
            state: RwLock::new(state),
            lists: watch::Sender::new(Arc::new(ListState::Unknown)),
            defects: watch::Sender::new(None),
            standings: watch::Sender::new(0),
            snapshot: RwLock::new(snapshot),
            hashing: Hashing::default(),
            without_room: AtomicU64::new(0),
        };
        let applied = Applied { shared: Arc::new(shared) };
        applied.publish();
        Ok(Self { applied, snapshots, durable, room_again_after: ROOM_AGAIN_AFTER, work, on_fatal })
    }

    /// What has been applied, for others to read.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied.clone()
    }

    /// Applies one entry; says what came of it, and whether the list has to be derived anew.
    fn apply_entry(&self, entry: Entry) -> (Outcome, bool) {
        let position = codec::position(&entry.log_id);
        let (judges, announces) = match &entry.payload {
            EntryPayload::Blank => (false, false),
            EntryPayload::Membership(_) => (true, false),
            EntryPayload::Normal(Command { change, .. }) => {
                (matches!(change, Change::Ban(_) | Change::Allow(_)), matches!(change, Change::Announce(_)))
            }
        };
        let applied = self.applied.change(|state| match entry.payload {
            EntryPayload::Blank => {
                state.apply_blank(position);
                (Outcome::Done, false)
            }
            EntryPayload::Membership(membership) => {
                state.apply_membership(position, codec::membership_from_raft(&membership));
                (Outcome::Done, true)
            }
            EntryPayload::Normal(command) => {
                let identity = state.identity;
                let outcome = state.apply(position, &command);
                (outcome, state.identity != identity)
            }
        });
        if judges {
            self.applied.standings_changed();
        }
        if announces {
            // Nothing else applies meanwhile, so it is the state right after this entry.
            self.applied.shared.hashing.take(self.work, || self.applied.read(ClusterState::clone));
        }
        applied
    }

    /// Waits until everything up to this index is on this controller's own disk. Raft may commit an entry by the disks
    /// of others alone; a list that is published here must not be forgotten here.
    async fn until_durable(&mut self, index: u64) -> Result<(), io::Error> {
        let durable = self.durable.wait_for(|durable| durable.below > index);
        match tokio::time::timeout(DURABLE_DEADLINE, durable).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the log did not become durable in time")),
        }
    }
}

/// Does slow work where the directory's owner wants it done.
async fn work_on_disk<T: Send + 'static>(
    work: Work,
    job: impl FnOnce() -> Result<T, snapshot::Error> + Send + 'static,
) -> Result<Result<T, snapshot::Error>, io::Error> {
    match work {
        Work::Inline => Ok(job()),
        Work::Threads => tokio::task::spawn_blocking(job).await.map_err(io::Error::other),
    }
}

/// A failure is raised: after it nobody knows what is on disk.
fn raised(on_fatal: &OnFatal, error: snapshot::Error) -> io::Error {
    if !matches!(error, snapshot::Error::NothingApplied) {
        on_fatal.raise(&error);
    }
    error.into()
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembershipOf<TypeConfig>), io::Error> {
        let (applied, membership) = self.applied.read(|state| (state.applied, snapshot::stored_membership(state)));
        let membership = membership.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((applied.map(codec::log_id_at), membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let index = entry.log_id.index;
            let (outcome, list_may_change) = self.apply_entry(entry);
            if list_may_change {
                self.until_durable(index).await?;
                self.applied.publish();
            }
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            applied: self.applied.clone(),
            snapshots: self.snapshots.clone(),
            durable: self.durable.clone(),
            room_again_after: self.room_again_after,
            work: self.work,
            on_fatal: self.on_fatal.clone(),
            waits_for_room: false,
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        // Raft waits for one that it needs at its start; for the others nobody waits.
        Some(SnapshotBuilder { waits_for_room: !force, ..self.get_snapshot_builder().await })
    }

    async fn install_snapshot(&mut self, meta: &Meta, file: SnapshotFile) -> Result<(), io::Error> {
        let (snapshots, expected) = (self.snapshots.clone(), meta.last_log_id.as_ref().map(codec::position));
        let install = move || {
            let state = snapshot::read(&file)?;
            if state.applied != expected {
                let path = file.path().to_path_buf();
                return Err(snapshot::Error::Inconsistent { path, stated: expected, contained: state.applied });
            }
            Ok((state, snapshots.install(&file)?))
        };
        let installed = work_on_disk(self.work, install).await?;
        let (state, file) = installed.map_err(|error| raised(&self.on_fatal, error))?;
        self.applied.change(|current| *current = state);
        self.applied.standings_changed();
        self.applied.keep_snapshot(meta.clone(), file);
        self.applied.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotFile>>, io::Error> {
        let newest = self.applied.newest_snapshot();
        Ok(newest.map(|(meta, snapshot)| SnapshotOf::<TypeConfig, _> { meta, snapshot }))
    }
}

/// Makes a snapshot of what is applied when it runs.
///
/// Raft takes every error of a builder for the end of its storage. A disk without room is not that: the log goes on
/// without a snapshot, and has a reserve of its own. So the builder waits, and tries again until there is room.
#[derive(Debug)]
pub struct SnapshotBuilder {
    applied: Applied,
    snapshots: SnapshotFiles,
    /// Closed once the log is.
    durable: watch::Receiver<Durable>,
    room_again_after: Duration,
    work: Work,
    on_fatal: OnFatal,
    waits_for_room: bool,
}

impl SnapshotBuilder {
    async fn attempt(&self) -> Result<Result<(Meta, SnapshotFile), snapshot::Error>, io::Error> {
        let (applied, snapshots) = (self.applied.clone(), self.snapshots.clone());
        let build = move || {
            // Records are shared, so the clone is small, and applying goes on while it is written.
            let state = applied.read(ClusterState::clone);
            let file = snapshot::write(&snapshots, &state)?;
            let content = |source| snapshot::Error::Content { path: file.path().to_path_buf(), source };
            Ok((snapshot::meta_of(&state).map_err(content)?, file))
        };
        work_on_disk(self.work, build).await
    }

    /// Nobody may write into a directory whose log is closed: another process may have it by then.
    async fn until_room_may_be_back(&mut self) -> Result<(), io::Error> {
        let closed = async { while self.durable.changed().await.is_ok() {} };
        match tokio::time::timeout(self.room_again_after, closed).await {
            Ok(()) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")),
            Err(_) => Ok(()),
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotFile>, io::Error> {
        let (meta, file) = loop {
            match self.attempt().await? {
                Ok(built) => break built,
                Err(full) if full.is_full() => {
                    self.applied.shared.without_room.fetch_add(1, Ordering::Relaxed);
                    let again_s = self.room_again_after.as_secs();
                    tracing::error!(error = %full, again_s, "no snapshot is made, so the log keeps growing");
                    if !self.waits_for_room {
                        return Err(full.into());
                    }
                    self.until_room_may_be_back().await?;
                }
                Err(error) => return Err(raised(&self.on_fatal, error)),
            }
        };
        self.applied.keep_snapshot(meta.clone(), file.clone());
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot: file })
    }
}

#[cfg(test)]
mod tests;
