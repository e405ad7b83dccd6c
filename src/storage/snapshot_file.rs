//! One snapshot in a file of its own: how it is written, received and read. Its content is opaque here.
//!
//! ```text
//! [magic 8][format u8][term u64][index u64][content …][content length u64][SHA-256 over all before it]
//! ```
//!
//! Whatever is not complete has another name, and counts for nothing.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::snapshot_files::SNAPSHOT_LEAVES_BYTES;
use super::{Room, SnapshotError, SnapshotFiles};
use crate::domain::state::LogPosition;

/// The snapshot format that this build writes, and the newest that it reads.
pub const SNAPSHOT_FORMAT: u8 = 1;
/// Largest snapshot: a million routers with the largest labels make a third of it.
pub const SNAPSHOT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// How much is written or read at a time, and the largest chunk that travels to another controller.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;

const MAGIC: &[u8; 8] = b"PH\x89SNAP\n";
const HEADER_BYTES: usize = 8 + 1 + 8 + 8;
const DIGEST_BYTES: usize = 32;
const TRAILER_BYTES: usize = 8 + DIGEST_BYTES;
/// What a file has beside its content.
pub(super) const FRAME_BYTES: u64 = (HEADER_BYTES + TRAILER_BYTES) as u64;

/// A complete, checked snapshot. Clones share one open file, which stays readable when a newer snapshot replaces it.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
    position: LogPosition,
    length_bytes: u64,
    sha256: [u8; DIGEST_BYTES],
    /// Until it is installed: whoever does not install it leaves nothing behind.
    _uninstalled: Option<Arc<Unlinked>>,
}

/// A path that is gone once nobody needs it.
#[derive(Debug)]
struct Unlinked(PathBuf);

impl Drop for Unlinked {
    fn drop(&mut self) {
        // Gone already when it was installed under its own name. What cannot be removed now is removed at the next start.
        drop(fs::remove_file(&self.0));
    }
}

impl SnapshotFile {
    /// Opens a snapshot and checks all of it.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let damaged = |reason: &str| SnapshotError::Damaged { path: path.to_path_buf(), reason: reason.to_owned() };
        let read = failed("read", path);
        let file = File::open(path).map_err(&read)?;
        let length_bytes = file.metadata().map_err(&read)?.len();
        let mut header = [0; HEADER_BYTES];
        if length_bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged("it is cut off"));
        }
        file.read_exact_at(&mut header, 0).map_err(&read)?;
        let position = parse_header(path, &header)?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, length_bytes - TRAILER_BYTES as u64).map_err(&read)?;
        let (length, stated) = trailer.split_first_chunk().expect("a trailer is longer than a length");
        if u64::from_be_bytes(*length) != length_bytes - (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged("its length does not match"));
        }
        let mut hash = Sha256::new();
        let covered = (&file).take(length_bytes - DIGEST_BYTES as u64);
        io::copy(&mut BufReader::with_capacity(CHUNK_BYTES_MAX, covered), &mut hash).map_err(&read)?;
        let sha256: [u8; DIGEST_BYTES] = hash.finalize().into();
        if sha256 != *stated {
            return Err(damaged("its checksum does not match"));
        }
        Ok(Self { path: path.to_path_buf(), file: Arc::new(file), position, length_bytes, sha256, _uninstalled: None })
    }

    /// Where it is, or was.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last entry that it covers.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Size of the whole file, which is what travels to another controller.
    #[must_use]
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The checksum that it carries at its end, over all before it.
    #[must_use]
    pub fn sha256(&self) -> [u8; DIGEST_BYTES] {
        self.sha256
    }

    /// Bytes of the whole file from `offset`: at most [`CHUNK_BYTES_MAX`], none behind the end.
    ///
    /// # Errors
    /// As the file system reports them.
    pub fn read_chunk(&self, offset: u64) -> Result<Bytes, SnapshotError> {
        let left = self.length_bytes.saturating_sub(offset);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
        let mut chunk = vec![0; size];
        self.file.read_exact_at(&mut chunk, offset).map_err(failed("read", &self.path))?;
        Ok(chunk.into())
    }

    /// Reads the content.
    #[must_use]
    pub fn content(&self) -> impl Read + use<> {
        let end = self.length_bytes - TRAILER_BYTES as u64;
        BufReader::with_capacity(CHUNK_BYTES_MAX, Part { file: Arc::clone(&self.file), at: HEADER_BYTES as u64, end })
    }

    pub(super) fn renamed(self, path: PathBuf) -> Self {
        Self { path, _uninstalled: None, ..self }
    }
}

struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A snapshot that is being made here. Write its content, then [`SnapshotWriter::finish`]; dropped before, it is gone.
#[derive(Debug)]
pub struct SnapshotWriter {
    files: SnapshotFiles,
    partial: Partial,
    hash: Sha256,
    buffer: Vec<u8>,
    content_bytes: u64,
}

impl SnapshotWriter {
    pub(super) fn create(
        files: SnapshotFiles,
        path: PathBuf,
        room: Room,
        position: LogPosition,
    ) -> Result<Self, SnapshotError> {
        let partial = Partial::create(path, room)?;
        let buffer = header(position).to_vec();
        Ok(Self { files, partial, hash: Sha256::new(), buffer, content_bytes: 0 })
    }

    /// Makes it durable, then visible as the newest snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]; it is gone then.
    pub fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        let files = self.files.clone();
        files.install(&self.complete()?)
    }

    /// Makes it durable and checks all of it, and does not make it visible: it is gone when it is dropped.
    ///
    /// # Errors
    /// [`SnapshotError`]; it is gone then.
    pub fn complete(mut self) -> Result<SnapshotFile, SnapshotError> {
        let write = failed("write", &self.partial.path);
        self.buffer.extend(self.content_bytes.to_be_bytes());
        self.spill().map_err(&write)?;
        let digest: [u8; DIGEST_BYTES] = self.hash.clone().finalize().into();
        self.partial.append(&digest).map_err(&write)?;
        self.partial.finish()
    }

    fn spill(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.partial.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(content);
        self.content_bytes += content.len() as u64;
        if self.buffer.len() >= CHUNK_BYTES_MAX {
            self.spill()?;
        }
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spill()
    }
}

/// A snapshot that comes from another controller, chunk by chunk. Dropped before it is finished, it is gone.
#[derive(Debug)]
pub struct SnapshotReceiver {
    partial: Partial,
}

impl SnapshotReceiver {
    pub(super) fn create(path: PathBuf, room: Room) -> Result<Self, SnapshotError> {
        Ok(Self { partial: Partial::create(path, room)? })
    }

    /// How many bytes have arrived: the offset that the next chunk must have.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.partial.length_bytes
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if self.received_bytes() + chunk.len() as u64 > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge { path: self.partial.path.clone(), limit: SNAPSHOT_BYTES_MAX });
        }
        self.partial.append(chunk).map_err(failed("write", &self.partial.path))
    }

    /// Makes it durable and checks all of it. It becomes visible when it is installed, not before: until then the log
    /// may still contradict it.
    ///
    /// # Errors
    /// [`SnapshotError`]; it is gone then.
    pub fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        self.partial.finish()
    }
}

/// A file that is not complete. Removed when it is dropped, and at the next start after a crash.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    file: File,
    length_bytes: u64,
    room: Room,
    uninstalled: Arc<Unlinked>,
}

impl Partial {
    fn create(path: PathBuf, room: Room) -> Result<Self, SnapshotError> {
        let file = File::create_new(&path).map_err(failed("create", &path))?;
        let uninstalled = Arc::new(Unlinked(path.clone()));
        Ok(Self { path, file, length_bytes: 0, room, uninstalled })
    }

    /// A snapshot never takes the room that the log needs to go on, wherever it comes from: whoever sends it sends it
    /// again, and a log without room ends the process.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.room.free_bytes(&self.path)? < SNAPSHOT_LEAVES_BYTES.saturating_add(bytes.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full: free some space"));
        }
        self.file.write_all(bytes)?;
        self.length_bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        Ok(SnapshotFile { _uninstalled: Some(self.uninstalled), ..SnapshotFile::open(&self.path)? })
    }
}

fn header(position: LogPosition) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8] = SNAPSHOT_FORMAT;
    header[9..17].copy_from_slice(&position.term.to_be_bytes());
    header[17..].copy_from_slice(&position.index.to_be_bytes());
    header
}

fn parse_header(path: &Path, header: &[u8; HEADER_BYTES]) -> Result<LogPosition, SnapshotError> {
    let path = || path.to_path_buf();
    let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("8 bytes are 8 bytes"));
    if header[..8] != *MAGIC || header[8] == 0 {
        return Err(SnapshotError::Damaged { path: path(), reason: "it does not begin like a snapshot".into() });
    }
    if header[8] > SNAPSHOT_FORMAT {
        return Err(SnapshotError::NewerFormat { path: path(), found: header[8], supported: SNAPSHOT_FORMAT });
    }
    Ok(LogPosition { term: number(9), index: number(17) })
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> SnapshotError + use<> {
    let path = path.to_path_buf();
    move |source| SnapshotError::Io { operation, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_is_not_installed_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFiles::open(directory.path()).unwrap();
        let made = |index| {
            let mut writer = snapshots.create(LogPosition { term: 1, index }, 7).unwrap();
            writer.write_all(b"content").unwrap();
            writer
        };
        drop(made(1));
        assert_eq!(files(directory.path()), 0, "given up while it was written");

        let newest = made(2).finish().unwrap();
        let mut receiver = snapshots.receive().unwrap();
        receiver.append(&newest.read_chunk(0).unwrap()).unwrap();
        let received = receiver.finish().unwrap();
        let shared = received.clone();
        drop(received);
        assert_eq!(files(directory.path()), 2, "somebody still wants it");
        drop(shared);
        assert_eq!(files(directory.path()), 1, "received whole, and refused");

        let elsewhere = tempfile::tempdir().unwrap();
        let others = SnapshotFiles::open(elsewhere.path()).unwrap();
        let installed = others.install(&newest).unwrap();
        drop(newest);
        drop(installed);
        assert_eq!((files(directory.path()), files(elsewhere.path())), (1, 1), "installed files stay");
    }

    #[test]
    fn a_snapshot_that_comes_leaves_the_log_its_room_and_is_refused_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let receive = |free_bytes| {
            let room = Room::call(move |_| Ok(free_bytes));
            SnapshotFiles::open_with(directory.path(), room).unwrap().receive().unwrap().append(&[7; 100])
        };
        let refused = receive(SNAPSHOT_LEAVES_BYTES + 99).unwrap_err();
        assert!(refused.is_full(), "{refused}");
        assert_eq!(files(directory.path()), 0);
        receive(SNAPSHOT_LEAVES_BYTES + 100).unwrap();
    }
}
