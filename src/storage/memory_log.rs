//! The log's twin in memory, for simulation and tests. It knows what was synced: [`MemoryLog::after_crash`] is what a
//! power cut would have left.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::extent::{Extent, Gatherer};
use super::log::ENTRY_BYTES_MAX;
use super::{Log, LogError, MetaKey, Record};
use crate::domain::state::LogPosition;

/// A log in memory.
#[derive(Debug, Default)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    current: Content,
    synced: Content,
    /// What was written since the last sync.
    pending: Vec<Write>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    extent: Extent,
    meta: BTreeMap<MetaKey, Vec<u8>>,
    entries: BTreeMap<u64, Bytes>,
}

#[derive(Debug, Clone)]
enum Write {
    Meta(MetaKey, Vec<u8>),
    Append(Extent, Vec<Record>),
    Truncate(Extent),
    Purge(Extent),
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is left when the power is cut now: everything up to the last sync.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let synced = self.lock().synced.clone();
        Self { inner: Mutex::new(Inner { current: synced.clone(), synced, pending: Vec::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, write: Write) {
        self.current.make(&write);
        self.pending.push(write);
    }
}

impl Content {
    fn make(&mut self, write: &Write) {
        match write {
            Write::Meta(key, value) => {
                self.meta.insert(*key, value.clone());
            }
            Write::Append(extent, records) => {
                self.extent = *extent;
                self.entries.extend(records.iter().map(|record| (record.index, record.bytes.clone())));
            }
            Write::Truncate(extent) => {
                self.extent = *extent;
                let kept = extent.last.map_or(extent.first(), |last| last.saturating_add(1));
                self.entries.split_off(&kept);
            }
            Write::Purge(extent) => {
                self.extent = Extent { stored_from: extent.first(), ..*extent };
                self.entries = self.entries.split_off(&extent.first());
            }
        }
    }
}

impl Log for MemoryLog {
    fn load(&self, key: MetaKey) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.lock().current.meta.get(&key).cloned())
    }

    fn save(&self, key: MetaKey, value: &[u8]) -> Result<(), LogError> {
        self.lock().write(Write::Meta(key, value.to_vec()));
        Ok(())
    }

    fn append(&self, records: &[Record]) -> Result<(), LogError> {
        check_sizes(records)?;
        let mut inner = self.lock();
        let extent = inner.current.extent.after_append(records)?;
        inner.write(Write::Append(extent, records.to_vec()));
        Ok(())
    }

    fn truncate_after(&self, index: Option<u64>) -> Result<(), LogError> {
        let mut inner = self.lock();
        let extent = inner.current.extent.after_truncation(index);
        inner.write(Write::Truncate(extent));
        Ok(())
    }

    fn purge_to(&self, position: LogPosition) -> Result<(), LogError> {
        let mut inner = self.lock();
        let extent = inner.current.extent.after_purge(position);
        inner.write(Write::Purge(extent));
        Ok(())
    }

    fn purge_step(&self) -> Result<bool, LogError> {
        Ok(false)
    }

    fn range(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        let inner = self.lock();
        let wanted = inner.current.extent.clamp(start, end);
        let mut gatherer = Gatherer::new(wanted.start, bytes_max);
        for (index, bytes) in inner.current.entries.range(wanted) {
            if !gatherer.take(Record { index: *index, bytes: bytes.clone() })? {
                break;
            }
        }
        Ok(gatherer.finish())
    }

    fn last_index(&self) -> Option<u64> {
        self.lock().current.extent.last
    }

    fn purged(&self) -> Option<LogPosition> {
        self.lock().current.extent.purged
    }

    fn sync(&self) -> Result<(), LogError> {
        let inner = &mut *self.lock();
        for write in inner.pending.drain(..) {
            inner.synced.make(&write);
        }
        Ok(())
    }
}

/// Refuses entries over their limit before anything is written.
pub(super) fn check_sizes(records: &[Record]) -> Result<(), LogError> {
    match records.iter().find(|record| record.bytes.len() > ENTRY_BYTES_MAX) {
        Some(Record { index, bytes }) => {
            Err(LogError::TooLarge { index: *index, bytes: bytes.len(), limit: ENTRY_BYTES_MAX })
        }
        None => Ok(()),
    }
}
