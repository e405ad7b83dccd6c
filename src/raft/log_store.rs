//! Raft's log on `storage`: entries and votes as our own bytes, acknowledged when the flusher says so.
//!
//! An append is in the log when the call returns; only its sync is deferred. A vote or truncation queues behind it, so
//! what Raft takes for flushed is flushed. It does not know which engine the log has.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message as _;
use tokio::sync::watch;

use super::codec::{self, CodecError};
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::proto::store;
use crate::storage::{Directory, Flusher, Log, LogError, MetaKey, Record};

/// Most bytes of entries that are read at once for another controller: a quarter of the largest peer message, so that
/// one entry of the largest size still fits beside them.
pub const REPLICATED_BYTES_MAX: usize = 1024 * 1024;

/// Raft's log. Clones share it, and are its readers.
#[derive(Debug, Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    flusher: Flusher,
    known: Mutex<Known>,
    durable: watch::Sender<Durable>,
    /// Keeps the data directory locked for as long as the log is in use.
    _directory: Option<Directory>,
}

/// What Raft asks for often.
#[derive(Debug, Default)]
struct Known {
    vote: Option<Vote>,
    last: Option<LogId>,
    committed: Option<LogId>,
}

/// How far the log is on this controller's own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Durable {
    /// Every entry below this index is durable.
    pub below: u64,
}

impl LogStore {
    /// The log of a data directory.
    ///
    /// # Errors
    /// [`LogError`] when what is stored cannot be used.
    pub fn open(directory: &Directory) -> Result<Self, LogError> {
        Self::start(directory.flusher(), Some(directory.clone()))
    }

    /// A log without a directory: on the engine of this flusher.
    ///
    /// # Errors
    /// [`LogError`] when what is stored cannot be used.
    pub fn on(flusher: Flusher) -> Result<Self, LogError> {
        Self::start(flusher, None)
    }

    fn start(flusher: Flusher, directory: Option<Directory>) -> Result<Self, LogError> {
        let log = flusher.log();
        let last = read_through(log.as_ref())?.or(log.purged().map(codec::log_id_at));
        let vote = load::<store::Vote>(log.as_ref(), MetaKey::Vote)?;
        let committed = load::<store::LogId>(log.as_ref(), MetaKey::Committed)?;
        // It is written without a sync of its own. Ahead of the log, Raft could not start.
        let committed = committed.map(|id| codec::decode_log_id(&id)).min(last);
        let known = Known { vote: vote.map(|vote| codec::decode_vote(&vote)), last, committed };
        let durable = Durable { below: last.map_or(0, |last| last.index.saturating_add(1)) };
        flusher.purge_soon();
        let shared =
            Shared { flusher, known: Mutex::new(known), durable: watch::Sender::new(durable), _directory: directory };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Follows how far the log is on this controller's own disk.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.shared.durable.subscribe()
    }

    fn log(&self) -> &dyn Log {
        self.shared.flusher.log().as_ref()
    }

    /// A write that failed ends the process.
    fn written(&self, result: Result<(), LogError>) -> Result<(), LogError> {
        result.map_err(|error| self.shared.flusher.fail(error))
    }

    fn known<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.shared.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        Ok(read(self.log(), start, end, usize::MAX)?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(read(self.log(), start, end, REPLICATED_BYTES_MAX)?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.known(|known| known.vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id = self.log().purged().map(codec::log_id_at);
        Ok(LogState { last_purged_log_id, last_log_id: self.known(|known| known.last) })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let saved = self.log().save(MetaKey::Vote, &codec::encode_vote(vote).encode_to_vec());
        self.written(saved)?;
        self.shared.flusher.synced().await?;
        self.known(|known| known.vote = Some(*vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Not synced: Raft waits for it before each apply, and whatever it loses is learned from the next leader.
        if let Some(committed) = &committed {
            let saved = self.log().save(MetaKey::Committed, &codec::encode_log_id(committed).encode_to_vec());
            self.written(saved)?;
        }
        self.known(|known| known.committed = committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.known(|known| known.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut last = None;
        let records: Vec<Record> = entries
            .into_iter()
            .map(|entry| {
                last = Some(entry.log_id);
                Record { index: entry.log_id.index, bytes: codec::encode_entry(&entry).into() }
            })
            .collect();
        self.written(self.log().append(&records))?;
        let below = last.map(|last| last.index.saturating_add(1));
        if last.is_some() {
            self.known(|known| known.last = last);
        }
        let durable = self.shared.durable.clone();
        let flushed = Box::new(move |result: Result<(), LogError>| {
            if let (Ok(()), Some(below)) = (&result, below) {
                durable.send_if_modified(|durable| raise(durable, below));
            }
            callback.io_completed(result.map_err(Into::into));
        });
        Ok(self.shared.flusher.sync(flushed).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.map(|id| id.index);
        self.written(self.log().truncate_after(index))?;
        self.shared.flusher.synced().await?;
        let purged = self.log().purged().map(codec::log_id_at);
        let last = self.known(|known| {
            known.last = known.last.min(last_log_id).max(purged);
            known.last
        });
        let below = last.map_or(0, |last| last.index.saturating_add(1));
        self.shared.durable.send_modify(|durable| durable.below = durable.below.min(below));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.written(self.log().purge_to(codec::position(&log_id)))?;
        self.known(|known| known.last = known.last.max(Some(log_id)));
        self.shared.durable.send_if_modified(|durable| raise(durable, log_id.index.saturating_add(1)));
        // The room is given back by the flusher: removing many entries here would keep Raft waiting.
        self.shared.flusher.purge_soon();
        Ok(())
    }
}

fn raise(durable: &mut Durable, below: u64) -> bool {
    let raised = durable.below < below;
    durable.below = durable.below.max(below);
    raised
}

/// Start and exclusive end of a range of indexes.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn read(log: &dyn Log, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
    log.range(start, end, bytes_max)?.iter().map(decode).collect()
}

/// Reads every entry once, so that one that needs a newer build stops the start and not a later moment.
fn read_through(log: &dyn Log) -> Result<Option<LogId>, LogError> {
    let mut last = None;
    let mut next = log.purged().map_or(0, |purged| purged.index.saturating_add(1));
    while let Some(entry) = read(log, next, u64::MAX, REPLICATED_BYTES_MAX)?.pop() {
        next = entry.log_id.index.saturating_add(1);
        last = Some(entry.log_id);
    }
    Ok(last)
}

fn decode(record: &Record) -> Result<Entry, LogError> {
    let unreadable = |error: CodecError| LogError::Unreadable {
        what: format!("log entry {}", record.index),
        reason: error.to_string(),
    };
    let entry = codec::decode_entry(&record.bytes).map_err(unreadable)?;
    if entry.log_id.index != record.index {
        let found = entry.log_id.index;
        return Err(LogError::Gap { expected: record.index, found });
    }
    Ok(entry)
}

fn load<M: prost::Message + Default>(log: &dyn Log, key: MetaKey) -> Result<Option<M>, LogError> {
    let damaged = |error: prost::DecodeError| LogError::Damaged { what: key.to_string(), reason: error.to_string() };
    log.load(key)?.map(|bytes| M::decode(bytes.as_slice()).map_err(damaged)).transpose()
}

#[cfg(test)]
mod tests;
