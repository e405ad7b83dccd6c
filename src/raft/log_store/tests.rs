//! Raft hears of nothing before it is synced. The engine here holds its syncs back, and knows what a power cut leaves.
#![allow(clippy::await_holding_lock, reason = "the held lock is what keeps the disk waiting; nothing awaited needs it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use prost::Message as _;

use super::LogStore;
use crate::domain::state::LogPosition;
use crate::raft::codec::{self, log_id_at};
use crate::raft::types::{Entry, TypeConfig, Vote};
use crate::storage::{Flusher, Log, LogError, MemoryLog, MetaKey, OnFatal, Record, Work};

/// Longest time in which something that may happen does.
const SOON: Duration = Duration::from_secs(10);

/// The twin in memory; a sync waits until the test lets it go.
#[derive(Debug, Default)]
struct Held {
    inner: MemoryLog,
    gate: Mutex<()>,
}

impl Log for Held {
    fn load(&self, key: MetaKey) -> Result<Option<Vec<u8>>, LogError> {
        self.inner.load(key)
    }

    fn save(&self, key: MetaKey, value: &[u8]) -> Result<(), LogError> {
        self.inner.save(key, value)
    }

    fn append(&self, records: &[Record]) -> Result<(), LogError> {
        self.inner.append(records)
    }

    fn truncate_after(&self, index: Option<u64>) -> Result<(), LogError> {
        self.inner.truncate_after(index)
    }

    fn purge_to(&self, position: LogPosition) -> Result<(), LogError> {
        self.inner.purge_to(position)
    }

    fn purge_step(&self) -> Result<bool, LogError> {
        self.inner.purge_step()
    }

    fn range(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        self.inner.range(start, end, bytes_max)
    }

    fn last_index(&self) -> Option<u64> {
        self.inner.last_index()
    }

    fn purged(&self) -> Option<LogPosition> {
        self.inner.purged()
    }

    fn sync(&self) -> Result<(), LogError> {
        let _open = self.gate.lock().unwrap();
        self.inner.sync()
    }
}

fn store(log: &Arc<Held>) -> LogStore {
    let log: Arc<dyn Log> = Arc::clone(log) as _;
    LogStore::on(Flusher::start(log, Work::Threads, OnFatal::call(|_| {})).unwrap()).unwrap()
}

fn entry(index: u64) -> Entry {
    Entry { log_id: log_id_at(LogPosition { term: 1, index }), payload: EntryPayload::Blank }
}

#[tokio::test]
async fn an_append_is_readable_at_once_and_acknowledged_when_it_is_synced() {
    let log = Arc::new(Held::default());
    let mut store = store(&log);
    let (told, mut flushed) = TypeConfig::oneshot();
    let held = log.gate.lock().unwrap();
    store.append([entry(0), entry(1)], IOFlushed::signal(told)).await.unwrap();
    assert_eq!(log.last_index(), Some(1), "readers see it");
    assert!(flushed.try_recv().is_err(), "acknowledged before it was synced");
    assert_eq!((log.inner.after_crash().last_index(), store.durable().borrow().below), (None, 0));
    drop(held);
    tokio::time::timeout(SOON, flushed).await.unwrap().unwrap().unwrap();
    assert_eq!((log.inner.after_crash().last_index(), store.durable().borrow().below), (Some(1), 2));
}

#[tokio::test]
async fn a_vote_is_acknowledged_when_it_and_every_append_before_it_are_synced() {
    let log = Arc::new(Held::default());
    let mut store = store(&log);
    let held = log.gate.lock().unwrap();
    store.append([entry(0)], IOFlushed::noop()).await.unwrap();
    let vote = Vote::new(2, 1);
    let mut saving = Box::pin(store.save_vote(&vote));
    assert!(futures::poll!(&mut saving).is_pending(), "acknowledged before it was synced");
    assert_eq!(log.inner.after_crash().load(MetaKey::Vote).unwrap(), None);
    drop(held);
    tokio::time::timeout(SOON, saving).await.unwrap().unwrap();
    let left = log.inner.after_crash();
    assert_eq!(left.load(MetaKey::Vote).unwrap(), Some(codec::encode_vote(&vote).encode_to_vec()));
    assert_eq!(left.last_index(), Some(0));
}

#[tokio::test]
async fn a_truncation_is_done_when_it_is_synced_and_nothing_of_it_comes_back() {
    let log = Arc::new(Held::default());
    let mut store = store(&log);
    store.append([entry(0), entry(1), entry(2)], IOFlushed::noop()).await.unwrap();
    let held = log.gate.lock().unwrap();
    let mut truncating = Box::pin(store.truncate_after(Some(entry(0).log_id)));
    assert!(futures::poll!(&mut truncating).is_pending(), "done before it was synced");
    drop(held);
    tokio::time::timeout(SOON, truncating).await.unwrap().unwrap();
    assert_eq!(log.inner.after_crash().last_index(), Some(0));
    assert_eq!(store.durable().borrow().below, 1, "what follows is durable only when it was written anew");
}

#[tokio::test]
async fn a_flusher_that_waits_for_the_disk_does_not_answer() {
    let log = Arc::new(Held::default());
    let mut store = store(&log);
    let flusher = store.shared.flusher.clone();
    assert!(tokio::time::timeout(SOON, flusher.answers()).await.unwrap());
    let syncs = flusher.counts().syncs();
    let held = log.gate.lock().unwrap();
    store.append([entry(0)], IOFlushed::noop()).await.unwrap();
    // One that comes together with what has to be synced is answered before that; the next one has to wait.
    let _ = tokio::time::timeout(Duration::from_millis(100), flusher.answers()).await;
    let mut asked = Box::pin(flusher.answers());
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut asked).await.is_err(), "it answered while it waits");
    drop(held);
    assert!(tokio::time::timeout(SOON, asked).await.unwrap());
    assert_eq!(flusher.counts().syncs(), syncs + 1, "a question is no reason to sync");
}

#[tokio::test]
async fn what_was_known_to_be_committed_is_never_ahead_of_the_log() {
    let log = Arc::new(Held::default());
    let ahead = LogPosition { term: 1, index: 9 };
    {
        let mut store = store(&log);
        store.append([entry(0), entry(1)], IOFlushed::noop()).await.unwrap();
        store.save_committed(Some(log_id_at(ahead))).await.unwrap();
        store.save_vote(&Vote::new(1, 1)).await.unwrap();
    }
    // After a crash that lost the end of the log, Raft could not start with a committed position behind it.
    let reopened = store(&log).read_committed().await.unwrap();
    assert_eq!(reopened, Some(entry(1).log_id));
}

#[tokio::test]
async fn an_entry_that_needs_a_newer_build_stops_the_start() {
    let log = Arc::new(Held::default());
    let newer = crate::proto::store::Entry {
        log_id: Some(crate::proto::store::LogId { term: 1, index: 0 }),
        level: u32::MAX,
        payload: Some(crate::proto::store::entry::Payload::Blank(crate::proto::store::Blank {})),
    };
    log.append(&[Record { index: 0, bytes: newer.encode_to_vec().into() }]).unwrap();
    let flusher = Flusher::start(Arc::clone(&log) as _, Work::Threads, OnFatal::call(|_| {})).unwrap();
    let refused = LogStore::on(flusher).unwrap_err();
    assert!(matches!(&refused, LogError::Unreadable { what, .. } if what == "log entry 0"), "{refused}");
}
