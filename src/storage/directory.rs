//! Opening a data directory: lock it, learn what it is, refuse what does not fit, and only then touch it.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::format::{Assignment, MARKER_BYTES_MAX, Marker};
use super::sled_log::DISK_RESERVE_BYTES;
use super::{Flusher, Log, LogError, MetaKey, OnFatal, OpenError, SledLog, SnapshotError, SnapshotFiles, Work, disk};
use crate::domain::ids::{ClusterId, ControllerId, Incarnation};

const MARKER_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
/// Whoever still holds the lock after this time uses the directory. A process that was just forked holds what its parent had
/// open until it runs something else: the lock of one that ended a moment ago may outlive it that long.
const LOCK_WITHIN: Duration = Duration::from_millis(500);
/// Between two attempts to get it.
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(10);
const LOG_DIRECTORY: &str = "log";
const SNAPSHOT_DIRECTORY: &str = "snapshots";

/// What a directory is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What happens when the disk fails.
    pub on_fatal: OnFatal,
    /// Where slow work happens.
    pub work: Work,
    /// The incarnation that is written if the directory is formatted now.
    pub new_incarnation: Incarnation,
    /// Whose directory it must be, unless it is nobody's yet. Looked at before the log is opened: opening writes.
    pub expected_id: Option<ControllerId>,
}

impl Default for Settings {
    /// As a controller runs: it ends when the disk fails, and a new incarnation is random.
    fn default() -> Self {
        let new_incarnation = Incarnation::from_u128(uuid::Uuid::new_v4().as_u128());
        Self { on_fatal: OnFatal::exit(), work: Work::Threads, new_incarnation, expected_id: None }
    }
}

/// An open, locked data directory. Clones share it; it is unlocked when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    marker: Mutex<Marker>,
    // In this order: the log is closed before the lock is given up.
    flusher: Flusher,
    snapshots: SnapshotFiles,
    settings: Settings,
    _lock: File,
}

impl Directory {
    /// Opens the directory at `path` as a controller does; makes and formats it if it is not there or empty.
    ///
    /// # Errors
    /// [`OpenError`] with the remedy; nothing was overwritten.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Settings::default())
    }

    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`OpenError`] with the remedy; nothing was overwritten.
    pub fn open_with(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(failed(path, "create", path))?;
        let lock = lock(path)?;
        let marker = match read_marker(path)? {
            Some(marker) => marker,
            None => format(path, settings.new_incarnation)?,
        };
        expect(path, &marker, settings.expected_id, None)?;
        check_room(path)?;
        let log_path = path.join(LOG_DIRECTORY);
        let in_log = |source| in_log(path, source);
        if marker.assignment.is_some() && !log_path.join("db").exists() {
            return Err(OpenError::LogLost { path: path.to_path_buf() });
        }
        let log = SledLog::open(&log_path).map_err(in_log)?;
        check_header(path, &log, &marker)?;
        let snapshots = SnapshotFiles::open(&path.join(SNAPSHOT_DIRECTORY)).map_err(|error| match error {
            SnapshotError::Io { operation, path: file, source } => failed(path, operation, &file)(source),
            source => OpenError::Snapshot { path: path.to_path_buf(), source },
        })?;
        let flusher = Flusher::start(Arc::new(log), settings.work, settings.on_fatal.clone()).map_err(failed(
            path,
            "start the flusher of",
            path,
        ))?;
        let (path, marker) = (path.to_path_buf(), Mutex::new(marker));
        Ok(Self { inner: Arc::new(Inner { path, marker, flusher, snapshots, settings, _lock: lock }) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What it is.
    #[must_use]
    pub fn marker(&self) -> Marker {
        *self.inner.marker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Arc<dyn Log> {
        Arc::clone(self.inner.flusher.log())
    }

    /// Who syncs the log.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        self.inner.flusher.clone()
    }

    /// The snapshots.
    #[must_use]
    pub fn snapshots(&self) -> SnapshotFiles {
        self.inner.snapshots.clone()
    }

    /// What happens when the disk fails.
    #[must_use]
    pub fn on_fatal(&self) -> OnFatal {
        self.inner.settings.on_fatal.clone()
    }

    /// Where slow work happens.
    #[must_use]
    pub fn work(&self) -> Work {
        self.inner.settings.work
    }

    /// Whether this directory may serve the controller and the cluster that the configuration names. One that is not
    /// assigned yet serves any.
    ///
    /// # Errors
    /// [`OpenError::OtherController`], [`OpenError::OtherCluster`].
    pub fn expect(&self, id: Option<ControllerId>, cluster: Option<ClusterId>) -> Result<(), OpenError> {
        expect(&self.inner.path, &self.marker(), id, cluster)
    }

    /// Gives the directory to a controller of a cluster, durably. Once: the same assignment again changes nothing.
    ///
    /// # Errors
    /// [`OpenError::OtherController`], [`OpenError::OtherCluster`] with nothing changed, or a failure of the disk.
    pub fn assign(&self, assignment: Assignment) -> Result<(), OpenError> {
        self.expect(Some(assignment.id), Some(assignment.cluster))?;
        let mut marker = self.inner.marker.lock().unwrap_or_else(PoisonError::into_inner);
        if marker.assignment.is_some() {
            return Ok(());
        }
        let assigned = Marker { assignment: Some(assignment), ..*marker };
        write_marker(&self.inner.path, &assigned)?;
        *marker = assigned;
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed(directory, "open", &path))?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_AGAIN_AFTER),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: directory.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(failed(directory, "lock", &path)(source)),
        }
    }
}

fn expect(
    directory: &Path,
    marker: &Marker,
    id: Option<ControllerId>,
    cluster: Option<ClusterId>,
) -> Result<(), OpenError> {
    let Some(held) = marker.assignment else { return Ok(()) };
    let path = || directory.to_path_buf();
    if let Some(expected) = cluster.filter(|expected| *expected != held.cluster) {
        return Err(OpenError::OtherCluster { path: path(), held: held.cluster, expected });
    }
    if let Some(expected) = id.filter(|expected| *expected != held.id) {
        return Err(OpenError::OtherController { path: path(), held: held.id, expected });
    }
    Ok(())
}

fn read_marker(directory: &Path) -> Result<Option<Marker>, OpenError> {
    let path = directory.join(MARKER_FILE);
    let mut content = Vec::new();
    match File::open(&path).and_then(|file| file.take(MARKER_BYTES_MAX).read_to_end(&mut content)) {
        Ok(_) => Marker::decode(directory, &path, &content).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(directory, "read", &path)(source)),
    }
}

fn write_marker(directory: &Path, marker: &Marker) -> Result<(), OpenError> {
    let path = directory.join(MARKER_FILE);
    disk::replace(&path, marker.encode().as_bytes()).map_err(failed(directory, "write", &path))
}

/// A directory without a marker is formatted only if it holds nothing that a marker would speak of.
fn format(directory: &Path, incarnation: Incarnation) -> Result<Marker, OpenError> {
    if [LOG_DIRECTORY, SNAPSHOT_DIRECTORY].iter().any(|name| directory.join(name).exists()) {
        return Err(OpenError::NoMarker { path: directory.to_path_buf() });
    }
    check_room(directory)?;
    let marker = Marker { incarnation, assignment: None };
    write_marker(directory, &marker)?;
    disk::sync_parent(directory).map_err(failed(directory, "sync the parent of", directory))?;
    Ok(marker)
}

fn check_room(directory: &Path) -> Result<(), OpenError> {
    let free_bytes = disk::free_bytes(directory).map_err(failed(directory, "ask for free space in", directory))?;
    if free_bytes < DISK_RESERVE_BYTES {
        let path = directory.to_path_buf();
        return Err(OpenError::DiskFull { path, free_bytes, needed_bytes: DISK_RESERVE_BYTES });
    }
    Ok(())
}

/// The header is the first value of a log. A log without one is new, and may not belong to an assigned directory.
fn check_header(directory: &Path, log: &SledLog, marker: &Marker) -> Result<(), OpenError> {
    let path = || directory.to_path_buf();
    let in_log = |source| in_log(directory, source);
    let Some(header) = log.load(MetaKey::Header).map_err(in_log)? else {
        let blank = log.last_index().is_none() && log.purged().is_none();
        if marker.assignment.is_some() || !blank {
            return Err(OpenError::LogLost { path: path() });
        }
        log.save(MetaKey::Header, &marker.incarnation.to_bytes()).map_err(in_log)?;
        return log.sync().map_err(in_log);
    };
    let found = Incarnation::from_slice(&header).ok_or_else(|| {
        in_log(LogError::Damaged { what: MetaKey::Header.to_string(), reason: "it is not an incarnation".into() })
    })?;
    if found != marker.incarnation {
        return Err(OpenError::ForeignLog { path: path(), found, expected: marker.incarnation });
    }
    Ok(())
}

fn in_log(directory: &Path, source: LogError) -> OpenError {
    let path = directory.to_path_buf();
    match source {
        LogError::DiskFull { free_bytes, needed_bytes } => OpenError::DiskFull { path, free_bytes, needed_bytes },
        source => OpenError::Log { path, source },
    }
}

/// Tells apart what an operator can do something about.
fn failed<'a>(directory: &'a Path, operation: &'static str, path: &'a Path) -> impl Fn(io::Error) -> OpenError + 'a {
    move |source| match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            OpenError::ReadOnly { path: directory.to_path_buf(), source }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::DiskFull {
            path: directory.to_path_buf(),
            free_bytes: disk::free_bytes(directory).unwrap_or(0),
            needed_bytes: DISK_RESERVE_BYTES,
        },
        _ => OpenError::Io { operation, path: path.to_path_buf(), source },
    }
}
