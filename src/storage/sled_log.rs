//! The log on sled 0.34. What sled does not do by itself is done here; each point was found by running into it:
//!
//! - its `flush` is not an fsync on Linux: [`Log::sync`] calls `fdatasync` on the database file as well;
//! - a crash while it writes its own recovery snapshot leaves a file that makes it unopenable: removed before opening;
//! - pages over a quarter of a segment go to `blobs/`, which it never syncs: entries are cut into parts, the segment
//!   size is chosen for them, and `blobs/` is checked to be empty;
//! - it drops a damaged stretch and everything after it without a word: the marks beside it notice, of entries (`tail`)
//!   and of the vote (`voted`);
//! - its cache defaults to 1 GiB, and garbage is only collected by its background flusher: both are set.
//!
//! On open everything is read once: header, checksums, that no entry is missing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::BytesMut;

use super::disk;
use super::extent::{Extent, Gatherer};
use super::memory_log::check_sizes;
use super::record::{self, damaged};
use super::tail::Tail;
use super::voted::{HeldVote, Voted};
use super::{Log, LogError, MetaKey, Record};
use crate::domain::state::LogPosition;

/// How much of the database sled keeps in memory. 64 MiB gave 95 to 180 MB of resident memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// How often sled's background thread writes and collects garbage. It must never be off.
const FLUSH_EVERY_MS: u64 = 500;
/// A quarter of it is the size above which sled moves a page into a file that it never syncs. A page holds up to 17
/// parts of [`record::PART_BYTES_MAX`] before it is split, 272 KiB; a quarter is 512 KiB.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
/// Room that must be left on the disk before anything is written: several segments, so that sled itself never meets
/// the end of the disk, and a little for the marker and for logs.
pub const DISK_RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// What a tree is for. The numbers are the names of the trees on disk: appended, never edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum KeySpace {
    /// [`MetaKey`] -> value.
    Meta = 1,
    /// Index and part -> part of an entry.
    Log = 2,
}

/// A log in a directory of its own.
pub struct SledLog {
    directory: PathBuf,
    database: sled::Db,
    meta: sled::Tree,
    entries: sled::Tree,
    /// The database file again: sled has no way to sync it.
    file: File,
    extent: RwLock<Extent>,
    tail: Tail,
    voted: Voted,
}

impl std::fmt::Debug for SledLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledLog").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl SledLog {
    /// Opens the log in `directory`, or makes an empty one, and checks all of it.
    ///
    /// # Errors
    /// [`LogError`] with the remedy. Nothing is changed when something is damaged or missing.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        check_room(directory.parent().unwrap_or(directory))?;
        remove_unfinished_recovery(directory).map_err(engine("clear an unfinished recovery of the log"))?;
        let database = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .segment_size(SEGMENT_BYTES)
            .open()
            .map_err(|error| broken("open the log", error))?;
        let open_tree = |space: KeySpace| {
            database.open_tree([space as u8]).map_err(|error| broken("open a key space of the log", error))
        };
        let (meta, entries) = (open_tree(KeySpace::Meta)?, open_tree(KeySpace::Log)?);
        let file = File::open(directory.join("db")).map_err(engine("open the file of the log"))?;
        let log = Self {
            directory: directory.to_path_buf(),
            database,
            meta,
            entries,
            file,
            extent: RwLock::new(Extent::default()),
            tail: Tail::open(directory)?,
            voted: Voted::open(directory)?,
        };
        let extent = log.inspect()?;
        log.tail.check(extent.end())?;
        let vote = log.load(MetaKey::Vote)?;
        log.voted.check(vote.map(|vote| HeldVote::decode(&vote)).transpose()?)?;
        *log.extent_mut() = extent;
        // It marks the vote, too, should the mark be behind.
        log.sync()?;
        disk::sync_parent(directory).map_err(engine("sync the directory of the log"))?;
        Ok(log)
    }

    /// Reads everything once: what the extent is, that nothing is damaged and nothing missing.
    fn inspect(&self) -> Result<Extent, LogError> {
        for key in [MetaKey::Header, MetaKey::Vote, MetaKey::Committed] {
            self.load(key)?;
        }
        let purged = self.load(MetaKey::Purged)?.map(|value| record::decode_position(MetaKey::Purged, &value));
        let mut extent = Extent { purged: purged.transpose()?, ..Extent::default() };
        extent.stored_from = self.first_stored()?.unwrap_or(0).min(extent.first());
        for (expected, record) in (extent.first()..).zip(self.read(key(extent.first(), 0)..)) {
            let found = record?.index;
            if found != expected {
                return Err(LogError::Gap { expected, found });
            }
            extent.last = Some(found);
        }
        Ok(extent)
    }

    fn first_stored(&self) -> Result<Option<u64>, LogError> {
        let first = self.entries.first().map_err(|error| broken("read the log", error))?;
        first.map(|(found, _)| parse_key(&found).map(|(index, _)| index)).transpose()
    }

    /// The entries of a range of keys, joined from their parts and checked.
    fn read(
        &self,
        keys: impl std::ops::RangeBounds<[u8; KEY_BYTES]>,
    ) -> impl Iterator<Item = Result<Record, LogError>> {
        let mut parts = self.entries.range(keys).peekable();
        std::iter::from_fn(move || {
            let (index, mut joined) = match parts.next()?.map_err(|error| broken("read the log", error)) {
                Ok((found, part)) => match parse_key(&found) {
                    Ok((index, 0)) => (index, BytesMut::from(&part[..])),
                    Ok((index, _)) => {
                        return Some(Err(damaged(format!("log entry {index}"), "its beginning is missing")));
                    }
                    Err(error) => return Some(Err(error)),
                },
                Err(error) => return Some(Err(error)),
            };
            let next_part = |next: &sled::Result<(sled::IVec, sled::IVec)>| match next {
                Ok((found, _)) => parse_key(found).is_ok_and(|(of, _)| of == index),
                Err(_) => true,
            };
            while let Some(next) = parts.next_if(next_part) {
                match next {
                    Ok((_, part)) => joined.extend_from_slice(&part),
                    Err(error) => return Some(Err(broken("read the log", error))),
                }
            }
            Some(record::decode_entry(index, joined.freeze()).map(|bytes| Record { index, bytes }))
        })
    }

    fn extent(&self) -> RwLockReadGuard<'_, Extent> {
        self.extent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn extent_mut(&self) -> RwLockWriteGuard<'_, Extent> {
        self.extent.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a range of entries, last first when it is the end of the log: a crash in between leaves whole entries,
    /// and no hole before the end.
    fn remove(&self, keys: impl std::ops::RangeBounds<[u8; KEY_BYTES]>, backwards: bool) -> Result<(), LogError> {
        let keys = self.entries.range(keys).keys();
        let found = if backwards { keys.rev().collect::<sled::Result<Vec<_>>>() } else { keys.collect() };
        let found = found.map_err(|error| broken("read the log", error))?;
        for keys in whole_entries(&found, REMOVED_PER_BATCH) {
            let mut batch = sled::Batch::default();
            keys.iter().for_each(|key| batch.remove(key));
            self.entries.apply_batch(batch).map_err(|error| broken("remove entries from the log", error))?;
        }
        Ok(())
    }
}

/// After how many keys a batch of removals ends, at the next whole entry: a batch keeps every other access to the
/// database waiting.
const REMOVED_PER_BATCH: usize = 256;

/// Cuts keys, in either order, into pieces of about so many that hold every entry whole or not at all.
fn whole_entries<K: AsRef<[u8]>>(keys: &[K], about: usize) -> impl Iterator<Item = &[K]> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let index = |key: &K| key.as_ref().first_chunk::<8>().copied();
        let least = about.min(rest.len());
        let same = rest[least..].iter().take_while(|key| least > 0 && index(key) == index(&rest[least - 1])).count();
        let (piece, after) = rest.split_at(least + same);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

impl Log for SledLog {
    fn load(&self, key: MetaKey) -> Result<Option<Vec<u8>>, LogError> {
        let value = self.meta.get([key.byte()]).map_err(|error| broken("read the log", error))?;
        value.map(|value| record::decode_meta(key, &value)).transpose()
    }

    fn save(&self, key: MetaKey, value: &[u8]) -> Result<(), LogError> {
        let vote = (key == MetaKey::Vote).then(|| HeldVote::decode(value)).transpose()?;
        let value = record::encode_meta(key, value);
        self.meta.insert([key.byte()], value).map_err(|error| broken("write to the log", error))?;
        vote.into_iter().for_each(|vote| self.voted.saved(vote));
        Ok(())
    }

    fn append(&self, records: &[Record]) -> Result<(), LogError> {
        check_sizes(records)?;
        let extent = self.extent().after_append(records)?;
        let mut batch = sled::Batch::default();
        for Record { index, bytes } in records {
            for (part, content) in record::parts(&record::encode_entry(*index, bytes)) {
                batch.insert(&key(*index, part), content);
            }
        }
        self.entries.apply_batch(batch).map_err(|error| broken("append to the log", error))?;
        // Only what an append changes: meanwhile a step of a purge may have moved on.
        let mut current = self.extent_mut();
        (current.begin, current.last) = (extent.begin, extent.last);
        Ok(())
    }

    fn truncate_after(&self, index: Option<u64>) -> Result<(), LogError> {
        // Held over the removal: a reader must not find a mixture of old and new entries.
        let mut extent = self.extent_mut();
        let next = extent.after_truncation(index);
        self.tail.lower(next.end())?;
        let removed_from = next.last.map_or(next.first(), |last| last.saturating_add(1));
        self.remove(key(removed_from, 0).., true)?;
        *extent = next;
        Ok(())
    }

    fn purge_to(&self, position: LogPosition) -> Result<(), LogError> {
        // The position is written before anything is removed: after a crash the rest is hidden and removed again.
        self.save(MetaKey::Purged, &record::encode_position(position))?;
        let mut extent = self.extent_mut();
        *extent = extent.after_purge(position);
        Ok(())
    }

    fn purge_step(&self) -> Result<bool, LogError> {
        let Some((from, to)) = self.extent().purge_step() else { return Ok(false) };
        self.remove(key(from, 0)..key(to, 0), false)?;
        let stored_from = self.first_stored()?;
        let mut extent = self.extent_mut();
        extent.stored_from = stored_from.unwrap_or(u64::MAX).max(to).min(extent.first());
        Ok(extent.purge_step().is_some())
    }

    fn range(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        // Held over the reading: a snapshot in time. Appends do not wait for it, truncations do.
        let extent = self.extent();
        let wanted = extent.clamp(start, end);
        let mut gatherer = Gatherer::new(wanted.start, bytes_max);
        for record in self.read(key(wanted.start, 0)..key(wanted.end, 0)) {
            if !gatherer.take(record?)? {
                break;
            }
        }
        Ok(gatherer.finish())
    }

    fn last_index(&self) -> Option<u64> {
        self.extent().last
    }

    fn purged(&self) -> Option<LogPosition> {
        self.extent().purged
    }

    fn sync(&self) -> Result<(), LogError> {
        check_room(&self.directory)?;
        // Read before the flush: what is appended meanwhile is not covered by it.
        let (cuts, end, vote) = (self.tail.cuts(), self.extent().end(), self.voted.unmarked());
        self.database.flush().map_err(|error| broken("write the log", error))?;
        self.file.sync_data().map_err(engine("sync the log"))?;
        match has_blobs(&self.directory) {
            Ok(false) => {
                end.into_iter().for_each(|end| self.tail.reached(end, cuts));
                vote.map_or(Ok(()), |vote| self.voted.durable(vote))
            }
            Ok(true) => Err(damaged("the log".into(), "sled keeps a part of it in blobs/, which it never syncs")),
            Err(error) => Err(engine("look into the directory of the log")(error)),
        }
    }
}

impl Drop for SledLog {
    /// What is synced at the end is marked, so that a log that was closed in order is known to its last entry.
    fn drop(&mut self) {
        let end = self.extent().end();
        if self.database.flush().is_ok() && self.file.sync_data().is_ok() {
            end.into_iter().for_each(|end| self.tail.closed(end));
        }
    }
}

const KEY_BYTES: usize = 8 + 2;

/// Index, then part; both big-endian, so that keys sort as entries do.
fn key(index: u64, part: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Result<(u64, u16), LogError> {
    let parsed = key
        .split_first_chunk()
        .and_then(|(index, part)| Some((u64::from_be_bytes(*index), u16::from_be_bytes(part.try_into().ok()?))));
    parsed.ok_or_else(|| damaged("the log".into(), "it has a key that is not an index"))
}

fn check_room(path: &Path) -> Result<(), LogError> {
    let free_bytes = disk::free_bytes(path).map_err(engine("ask for free space"))?;
    if free_bytes < DISK_RESERVE_BYTES {
        return Err(LogError::DiskFull { free_bytes, needed_bytes: DISK_RESERVE_BYTES });
    }
    Ok(())
}

/// A left-over `snap.*.generating` reads as corruption. It is never the only one: the old one is removed only after it
/// was renamed.
fn remove_unfinished_recovery(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %path.display(), "removing what a crash left of a recovery file of the log");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn has_blobs(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory.join("blobs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        entries => Ok(entries?.next().is_some()),
    }
}

pub(super) fn engine(operation: &'static str) -> impl Fn(io::Error) -> LogError {
    move |source| LogError::Engine { operation, source: Arc::new(source) }
}

fn broken(operation: &'static str, error: sled::Error) -> LogError {
    match error {
        sled::Error::Io(source) => engine(operation)(source),
        sled::Error::Corruption { .. } => damaged("the log".into(), "sled finds it corrupt"),
        other => engine(operation)(io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_removals_never_takes_half_an_entry() {
        // Entry 3 has the most parts that an entry can have.
        let parts = |index| if index == 3 { 65 } else { 2 };
        let mut keys: Vec<_> = (0..10).flat_map(|index| (0..parts(index)).map(move |part| key(index, part))).collect();
        for _ in 0..2 {
            for about in [1, 7, 10, 1000] {
                let pieces: Vec<_> = whole_entries(&keys, about).collect();
                assert_eq!(pieces.concat(), keys);
                for pair in pieces.windows(2) {
                    let (last, next) = (pair[0].last().unwrap(), pair[1].first().unwrap());
                    assert_ne!(last[..8], next[..8], "an entry is in two batches of about {about}");
                }
                assert!(pieces.iter().all(|piece| piece.len() < about + 65));
            }
            keys.reverse();
        }
    }
}
