//! How long to wait before the next attempt: exponential backoff with full jitter.
//!
//! Source of the rule: Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), "full jitter",
//! with a floor so that a lucky draw of 0 does not become a busy loop. Randomness is an argument.

use std::time::Duration;

/// The shape of a retry loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
}

impl Backoff {
    /// For a router that looks for a controller: first retry within 200 ms, then at most every 5 s, for ever.
    pub const DIAL: Self = Self { base: Duration::from_millis(200), cap: Duration::from_secs(5) };
    /// For one controller that dials another: quick, since Raft waits for it.
    pub const PEER: Self = Self { base: Duration::from_millis(50), cap: Duration::from_secs(1) };
}

/// The delay before attempt number `attempt` (0 is the first retry), from a `random` number that the caller drew
/// uniformly over all of `u32`.
///
/// Always between a quarter of `base` and `cap`; the bound doubles each time until it reaches `cap`.
#[must_use]
pub fn delay(backoff: Backoff, attempt: u32, random: u32) -> Duration {
    let floor = (backoff.base / 4).min(backoff.cap);
    let bound = backoff.base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(backoff.cap);
    let spread_ns = bound.saturating_sub(floor).as_nanos();
    // In whole numbers, so that rounding never leads past the bound.
    let drawn_ns = spread_ns.saturating_mul(u128::from(random)) / u128::from(u32::MAX);
    floor + Duration::from_nanos(u64::try_from(drawn_ns).unwrap_or(u64::MAX))
}
