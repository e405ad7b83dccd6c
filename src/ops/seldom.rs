//! Says yes at most once in a while: for what strangers cause, and what may not fill the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// At most once a second.
const EVERY_MS: u64 = 1_000;

/// Says yes at most once a second, whoever asks.
#[derive(Debug, Default)]
pub struct Seldom {
    last_ms: AtomicU64,
}

impl Seldom {
    /// The first one who asks hears yes.
    #[must_use]
    pub const fn new() -> Self {
        Self { last_ms: AtomicU64::new(0) }
    }

    /// Whether it is time again.
    #[must_use]
    pub fn now(&self) -> bool {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn at(&self, now_ms: u64) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        now_ms.saturating_sub(last) >= EVERY_MS
            && self.last_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_second_and_no_more() {
        let seldom = Seldom::new();
        let said = [5_000, 5_001, 5_999, 6_000, 6_500, 9_000].map(|now_ms| seldom.at(now_ms));
        assert_eq!(said, [true, false, false, true, false, true]);
    }
}
