//! The snapshots of a data directory: the newest valid one, new ones, and what becomes of damaged and old ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sled_log::DISK_RESERVE_BYTES;
use super::snapshot_file::{FRAME_BYTES, failed};
use super::{Room, SnapshotError, SnapshotFile, SnapshotReceiver, SnapshotWriter, disk};
use crate::domain::state::LogPosition;

/// How many snapshots are kept: the newest, and one to fall back to.
const KEPT_MAX: usize = 2;
/// What a snapshot leaves free, one that is made here or comes from another controller: the log's reserve, and as much
/// again for the log to go on meanwhile. A log that meets its reserve ends the process, so a snapshot must never bring it
/// there.
pub const SNAPSHOT_LEAVES_BYTES: u64 = 32 * 1024 * 1024;
const _: () = assert!(SNAPSHOT_LEAVES_BYTES >= 2 * DISK_RESERVE_BYTES);
/// How many damaged snapshots are kept for a look at them.
const DAMAGED_KEPT_MAX: usize = 2;

const COMPLETE: &str = "snapshot";
const PARTIAL: &str = "partial";
const DAMAGED: &str = "damaged";

/// A directory of snapshots. Clones share it.
#[derive(Debug, Clone)]
pub struct SnapshotFiles {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    room: Room,
    newest: Mutex<Option<SnapshotFile>>,
    /// Numbers the files that are not complete yet.
    partials: AtomicU64,
}

impl SnapshotFiles {
    /// Opens the directory, makes it if it is not there, removes what was not completed, and sets damaged files aside.
    ///
    /// # Errors
    /// [`SnapshotError`], [`SnapshotError::NewerFormat`] among them.
    pub fn open(directory: &Path) -> Result<Self, SnapshotError> {
        Self::open_with(directory, Room::of_disk())
    }

    /// As [`SnapshotFiles::open`], on a disk that has this room.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(directory: &Path, room: Room) -> Result<Self, SnapshotError> {
        fs::create_dir_all(directory).map_err(failed("create the directory of", directory))?;
        disk::sync_parent(directory).map_err(failed("sync the directory of", directory))?;
        for path in list(directory, PARTIAL)? {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        let newest = newest_valid(directory)?;
        let inner = Inner { directory: directory.to_path_buf(), room, newest: Mutex::new(newest), partials: 0.into() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self) -> Option<SnapshotFile> {
        self.lock().clone()
    }

    /// Begins a snapshot that covers everything up to `position`, with a content of so many bytes.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::NoRoom`] before anything is written.
    pub fn create(&self, position: LogPosition, content_bytes: u64) -> Result<SnapshotWriter, SnapshotError> {
        let Inner { directory, room, .. } = &*self.inner;
        let free_bytes = room.free_bytes(directory).map_err(failed("ask for room for a", directory))?;
        let needed_bytes = SNAPSHOT_LEAVES_BYTES.saturating_add(FRAME_BYTES).saturating_add(content_bytes);
        if free_bytes < needed_bytes {
            return Err(SnapshotError::NoRoom { path: directory.clone(), free_bytes, needed_bytes });
        }
        SnapshotWriter::create(self.clone(), self.partial_path(), room.clone(), position)
    }

    /// Begins a snapshot that comes from another controller.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn receive(&self) -> Result<SnapshotReceiver, SnapshotError> {
        SnapshotReceiver::create(self.partial_path(), self.inner.room.clone())
    }

    /// Makes a complete snapshot visible and durable, and older ones go. One from another directory is copied.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn install(&self, file: &SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let path = self.inner.directory.join(name(file.position()));
        if file.path() == path {
            return Ok(file.clone());
        }
        let ours = if file.path().parent() == Some(&self.inner.directory) { file.clone() } else { self.copy(file)? };
        fs::rename(ours.path(), &path).map_err(failed("publish", &path))?;
        disk::sync_parent(&path).map_err(failed("sync the directory of", &path))?;
        let installed = ours.renamed(path);
        let mut newest = self.lock();
        if newest.as_ref().is_none_or(|newest| newest.position() <= installed.position()) {
            *newest = Some(installed.clone());
        }
        prune(&self.inner.directory, COMPLETE, KEPT_MAX)?;
        Ok(installed)
    }

    fn copy(&self, file: &SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let mut receiver = self.receive()?;
        loop {
            let chunk = file.read_chunk(receiver.received_bytes())?;
            if chunk.is_empty() {
                return receiver.finish();
            }
            receiver.append(&chunk)?;
        }
    }

    fn partial_path(&self) -> PathBuf {
        let number = self.inner.partials.fetch_add(1, Ordering::Relaxed);
        self.inner.directory.join(format!("{number}.{PARTIAL}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<SnapshotFile>> {
        self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts as positions do.
fn name(position: LogPosition) -> String {
    format!("{:020}-{:020}.{COMPLETE}", position.term, position.index)
}

/// Files with this extension, oldest first.
fn list(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
        let path = entry.map_err(failed("list", directory))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn newest_valid(directory: &Path) -> Result<Option<SnapshotFile>, SnapshotError> {
    for path in list(directory, COMPLETE)?.into_iter().rev() {
        match SnapshotFile::open(&path) {
            Ok(file) if path.file_name().is_some_and(|found| found == name(file.position()).as_str()) => {
                return Ok(Some(file));
            }
            Ok(_) => set_aside(directory, &path, "its name is not that of its position")?,
            Err(SnapshotError::Damaged { reason, .. }) => set_aside(directory, &path, &reason)?,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn set_aside(directory: &Path, path: &Path, reason: &str) -> Result<(), SnapshotError> {
    let kept_as = path.with_extension(DAMAGED);
    fs::rename(path, &kept_as).map_err(failed("set aside", path))?;
    disk::sync_parent(path).map_err(failed("sync the directory of", path))?;
    tracing::error!(
        snapshot = %path.display(), reason, kept_as = %kept_as.display(),
        "snapshot is damaged and set aside: the one before it is used; check the disk"
    );
    prune(directory, DAMAGED, DAMAGED_KEPT_MAX)
}

fn prune(directory: &Path, extension: &str, kept_max: usize) -> Result<(), SnapshotError> {
    let paths = list(directory, extension)?;
    let excess = paths.len().saturating_sub(kept_max);
    paths.iter().take(excess).try_for_each(|path| fs::remove_file(path).map_err(failed("remove", path)))
}
