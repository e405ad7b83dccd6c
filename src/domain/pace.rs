//! How often somebody may do something: so many at once, and one more every so often.
//!
//! A [`Bucket`] is one number, the moment at which it would be full again; [`Buckets`] keeps one for each of a bounded
//! number of keys, and forgets first whose is closest to full. Time is an argument: milliseconds of any clock that does not
//! go back.

use std::collections::{BTreeMap, BTreeSet};

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// One more after so many milliseconds.
    pub every_ms: u64,
}

impl Rate {
    fn depth_ms(self) -> u64 {
        self.every_ms.saturating_mul(self.burst.into())
    }
}

/// Too often: try again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften {
    /// Milliseconds until there is one more.
    pub retry_after_ms: u64,
}

/// A bucket of permissions. A new one is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    full_at_ms: u64,
}

impl Bucket {
    /// Takes one.
    ///
    /// # Errors
    /// [`TooOften`] when there is none; then nothing is taken.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), TooOften> {
        let full_at_ms = self.full_at_ms.max(now_ms).saturating_add(rate.every_ms);
        let latest_ms = now_ms.saturating_add(rate.depth_ms());
        if full_at_ms > latest_ms {
            return Err(TooOften { retry_after_ms: full_at_ms - latest_ms });
        }
        self.full_at_ms = full_at_ms;
        Ok(())
    }

    /// Gives one back that was taken for nothing.
    pub fn give_back(&mut self, rate: Rate) {
        self.full_at_ms = self.full_at_ms.saturating_sub(rate.every_ms);
    }
}

/// A bucket for each key. A key that is not kept has a full one.
#[derive(Debug, Clone)]
pub struct Buckets<K> {
    rate: Rate,
    kept_max: usize,
    by_key: BTreeMap<K, Bucket>,
    /// The same, by when they are full.
    by_time: BTreeSet<(Bucket, K)>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// All full. `kept_max` is at least 1.
    #[must_use]
    pub const fn new(rate: Rate, kept_max: usize) -> Self {
        Self { rate, kept_max, by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Takes one of this key's.
    ///
    /// # Errors
    /// [`TooOften`] when it has none; then nothing is taken.
    pub fn take(&mut self, key: &K, now_ms: u64) -> Result<(), TooOften> {
        let mut bucket = self.by_key.get(key).copied().unwrap_or_default();
        bucket.take(self.rate, now_ms)?;
        self.keep(key, bucket);
        Ok(())
    }

    /// Gives one back that was taken for nothing.
    pub fn give_back(&mut self, key: &K) {
        if let Some(mut bucket) = self.by_key.get(key).copied() {
            bucket.give_back(self.rate);
            self.keep(key, bucket);
        }
    }

    /// How many keys are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.by_key.len()
    }

    fn keep(&mut self, key: &K, bucket: Bucket) {
        if let Some(before) = self.by_key.insert(key.clone(), bucket) {
            self.by_time.remove(&(before, key.clone()));
        }
        self.by_time.insert((bucket, key.clone()));
        while self.by_key.len() > self.kept_max
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.by_key.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, every_ms: 500 };

    #[test]
    fn so_many_at_once_and_one_more_every_so_often() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, 10_000), Ok(()));
        }
        assert_eq!(bucket.take(RATE, 10_000), Err(TooOften { retry_after_ms: 500 }));
        assert_eq!(bucket.take(RATE, 10_499), Err(TooOften { retry_after_ms: 1 }));
        assert_eq!(bucket.take(RATE, 10_500), Ok(()));
        assert_eq!(bucket.take(RATE, 10_500), Err(TooOften { retry_after_ms: 500 }));
        // After a long pause it is full, and not fuller.
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, 99_000), Ok(()));
        }
        assert!(bucket.take(RATE, 99_000).is_err());
        bucket.give_back(RATE);
        assert_eq!(bucket.take(RATE, 99_000), Ok(()));
        assert!(bucket.take(RATE, 99_000).is_err());
    }

    #[test]
    fn keys_do_not_disturb_each_other_and_only_so_many_are_kept() {
        let mut buckets = Buckets::new(RATE, 2);
        for _ in 0..3 {
            buckets.take(&"a", 0).unwrap();
        }
        assert!(buckets.take(&"a", 0).is_err());
        buckets.take(&"b", 0).unwrap();
        buckets.take(&"b", 0).unwrap();
        // A third key costs the one that is closest to full; the one that is exhausted stays so.
        buckets.take(&"c", 0).unwrap();
        assert_eq!(buckets.kept(), 2);
        assert!(buckets.take(&"a", 0).is_err());
        buckets.give_back(&"a");
        buckets.give_back(&"nobody");
        assert!(buckets.take(&"a", 0).is_ok());
        assert_eq!((buckets.by_time.len(), buckets.kept()), (2, 2));
    }

    #[test]
    fn a_clock_at_its_end_stops_nothing() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(RATE, u64::MAX), Ok(()));
    }
}
