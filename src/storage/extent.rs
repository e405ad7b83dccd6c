//! Which entries a log has: the arithmetic of appending, truncating and purging, without the entries.
//!
//! Both engines keep one of these in memory and change it together with what they store.

use super::log::PURGE_STEP_ENTRIES;
use super::{LogError, Record};
use crate::domain::state::LogPosition;

/// What a log holds: the entries after `purged` up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    /// Last purged position.
    pub(super) purged: Option<LogPosition>,
    /// Index of the last entry; `None` when there is none.
    pub(super) last: Option<u64>,
    /// Where the log began. A real one begins at 0 or behind a purge; suites begin anywhere.
    pub(super) begin: u64,
    /// Lowest index that may still be stored: hidden entries are below [`Extent::first`].
    pub(super) stored_from: u64,
}

impl Extent {
    /// Index of the first entry that may be read.
    pub(super) fn first(&self) -> u64 {
        self.purged.map_or(self.begin, |purged| purged.index.saturating_add(1))
    }

    /// Index of the last entry there ever was and still should be, purged ones included.
    pub(super) fn end(&self) -> Option<u64> {
        self.last.max(self.purged.map(|purged| purged.index))
    }

    /// The extent after an append. A log that holds nothing and has purged nothing takes any first index.
    pub(super) fn after_append(self, records: &[Record]) -> Result<Self, LogError> {
        let mut next = self;
        for record in records {
            let expected = next.last.map(|last| last.saturating_add(1)).or(next.purged.map(|_| next.first()));
            if let Some(expected) = expected.filter(|expected| *expected != record.index) {
                return Err(LogError::Gap { expected, found: record.index });
            }
            if expected.is_none() {
                next.begin = record.index;
            }
            next.last = Some(record.index);
        }
        Ok(next)
    }

    /// The extent after everything behind `index` is removed.
    pub(super) fn after_truncation(self, index: Option<u64>) -> Self {
        let kept = index.filter(|index| *index >= self.first());
        Self { last: self.last.and_then(|last| kept.map(|kept| kept.min(last))), ..self }
    }

    /// The extent after everything up to `position` is hidden. Purging never goes back.
    pub(super) fn after_purge(self, position: LogPosition) -> Self {
        if self.purged.is_some_and(|purged| purged.index >= position.index) {
            return self;
        }
        Self { purged: Some(position), last: self.last.filter(|last| *last > position.index), ..self }
    }

    /// The next hidden indexes to remove, as `from..to`; `None` when nothing hidden is stored.
    pub(super) fn purge_step(&self) -> Option<(u64, u64)> {
        let to = self.first().min(self.stored_from.saturating_add(PURGE_STEP_ENTRIES));
        (self.stored_from < to).then_some((self.stored_from, to))
    }

    /// The part of `start..end` that there is.
    pub(super) fn clamp(&self, start: u64, end: u64) -> std::ops::Range<u64> {
        let start = start.max(self.first());
        let end = end.min(self.last.map_or(0, |last| last.saturating_add(1)));
        start..end.max(start)
    }
}

/// Cuts a range off before it exceeds `bytes_max`, but not before it has one entry, and checks that nothing is missing.
#[derive(Debug)]
pub(super) struct Gatherer {
    next: u64,
    bytes_left: usize,
    records: Vec<Record>,
}

impl Gatherer {
    pub(super) fn new(start: u64, bytes_max: usize) -> Self {
        Self { next: start, bytes_left: bytes_max, records: Vec::new() }
    }

    /// Takes the next entry; `false` when it does not fit any more.
    pub(super) fn take(&mut self, record: Record) -> Result<bool, LogError> {
        if record.index != self.next {
            return Err(LogError::Gap { expected: self.next, found: record.index });
        }
        if record.bytes.len() > self.bytes_left && !self.records.is_empty() {
            return Ok(false);
        }
        self.next += 1;
        self.bytes_left = self.bytes_left.saturating_sub(record.bytes.len());
        self.records.push(record);
        Ok(true)
    }

    pub(super) fn finish(self) -> Vec<Record> {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn records(indexes: impl IntoIterator<Item = u64>) -> Vec<Record> {
        indexes.into_iter().map(|index| Record { index, bytes: Bytes::from_static(b"entry") }).collect()
    }

    fn at(index: u64) -> LogPosition {
        LogPosition { term: 1, index }
    }

    #[test]
    fn entries_follow_each_other() {
        let extent = Extent::default().after_append(&records(0..5)).unwrap();
        assert_eq!(extent.last, Some(4));
        assert!(matches!(extent.after_append(&records([6])), Err(LogError::Gap { expected: 5, found: 6 })));
        assert!(matches!(extent.after_append(&records([4])), Err(LogError::Gap { expected: 5, found: 4 })));
        assert!(extent.after_append(&records([5, 7])).is_err());
    }

    #[test]
    fn a_log_that_was_purged_goes_on_behind_the_purge() {
        let extent = Extent::default().after_append(&records(0..5)).unwrap().after_purge(at(10));
        assert_eq!((extent.first(), extent.last), (11, None));
        assert!(extent.after_append(&records([5])).is_err());
        assert_eq!(extent.after_append(&records([11])).unwrap().last, Some(11));
    }

    #[test]
    fn a_truncation_never_adds_entries_and_a_purge_never_goes_back() {
        let extent = Extent::default().after_append(&records(0..5)).unwrap().after_purge(at(1));
        assert_eq!(extent.after_truncation(Some(3)).last, Some(3));
        assert_eq!(extent.after_truncation(Some(9)).last, Some(4));
        assert_eq!(extent.after_truncation(Some(1)).last, None);
        assert_eq!(extent.after_truncation(None).last, None);
        assert_eq!(extent.after_purge(at(0)), extent);
    }

    #[test]
    fn hidden_entries_are_removed_in_bounded_steps() {
        let mut extent = Extent::default().after_append(&records(0..1000)).unwrap().after_purge(at(299));
        let mut steps = Vec::new();
        while let Some((from, to)) = extent.purge_step() {
            assert!(to - from <= PURGE_STEP_ENTRIES);
            steps.push((from, to));
            extent.stored_from = to;
        }
        assert_eq!((steps.first(), steps.last()), (Some(&(0, 128)), Some(&(256, 300))));
    }

    #[test]
    fn a_range_is_what_there_is_and_holds_at_least_one_entry() {
        let extent = Extent::default().after_append(&records(0..10)).unwrap().after_purge(at(2));
        assert_eq!(extent.clamp(0, 100), 3..10);
        assert!(extent.clamp(10, 20).is_empty());
        let mut gatherer = Gatherer::new(3, 1);
        assert!(gatherer.take(records([3]).remove(0)).unwrap());
        assert!(!gatherer.take(records([4]).remove(0)).unwrap());
        assert_eq!(gatherer.finish().len(), 1);
        assert!(Gatherer::new(3, 1).take(records([4]).remove(0)).is_err());
    }
}
