//! How often routers and strangers may ask something of this controller. Nothing of it is replicated: whoever asks many
//! controllers is slowed down by each.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::domain::ids::{RouterId, TokenId};
use crate::domain::pace::{Bucket, Buckets, Rate, TooOften};

/// Registrations of one router: more than all its sessions need at once, then 2 a second.
pub const REGISTRATIONS_PER_ROUTER: Rate = Rate { burst: 20, every_ms: 500 };
/// Renewals of one router's certificate: a few at once, for one that starts again and again, then 1 a minute.
pub const RENEWALS_PER_ROUTER: Rate = Rate { burst: 5, every_ms: 60_000 };
/// Most routers whose registrations and renewals are remembered: twice as many as have sessions here.
pub const PACED_ROUTERS_MAX: usize = 32_000;
/// Attempts with one token that may fail: 5 at once, then 5 a minute.
pub const FAILED_ENROLMENTS_PER_TOKEN: Rate = Rate { burst: 5, every_ms: 12_000 };
/// Attempts with tokens that nobody knows here, on one controller: more than a person makes, and few enough to be told.
pub const FAILED_ENROLMENTS: Rate = Rate { burst: 200, every_ms: 100 };
/// Most tokens whose failed attempts are remembered.
pub const PACED_TOKENS_MAX: usize = 10_000;

/// What is paced on one controller.
#[derive(Debug)]
pub(super) struct Pacing {
    /// Times are counted from here.
    began: Instant,
    failed: Mutex<Failed>,
    registrations: Mutex<Buckets<RouterId>>,
    renewals: Mutex<Buckets<RouterId>>,
}

#[derive(Debug)]
struct Failed {
    of_token: Buckets<TokenId>,
    of_unknown: Bucket,
}

impl Default for Pacing {
    fn default() -> Self {
        let of_token = Buckets::new(FAILED_ENROLMENTS_PER_TOKEN, PACED_TOKENS_MAX);
        Self {
            began: Instant::now(),
            failed: Mutex::new(Failed { of_token, of_unknown: Bucket::default() }),
            registrations: Mutex::new(Buckets::new(REGISTRATIONS_PER_ROUTER, PACED_ROUTERS_MAX)),
            renewals: Mutex::new(Buckets::new(RENEWALS_PER_ROUTER, PACED_ROUTERS_MAX)),
        }
    }
}

impl Pacing {
    /// A router came to register.
    pub(super) fn registration(&self, router: &RouterId) -> Result<(), TooOften> {
        lock(&self.registrations).take(router, self.now_ms())
    }

    /// A router came for its next certificate.
    pub(super) fn renewal(&self, router: &RouterId) -> Result<(), TooOften> {
        lock(&self.renewals).take(router, self.now_ms())
    }

    /// An attempt to enrol begins. It counts as a failed one until [`Pacing::enrolment_did_not_fail`]: else many at once
    /// would be more than may fail.
    pub(super) fn enrolment(&self, token: TokenId, known: bool) -> Result<(), TooOften> {
        let now_ms = self.now_ms();
        let mut failed = lock(&self.failed);
        if !known {
            // Of nobody's tokens there are as many as somebody likes to make up: they may not hold up real ones.
            return failed.of_unknown.take(FAILED_ENROLMENTS, now_ms);
        }
        failed.of_token.take(&token, now_ms)
    }

    /// It succeeded, or it was not about the token.
    pub(super) fn enrolment_did_not_fail(&self, token: TokenId, known: bool) {
        let mut failed = lock(&self.failed);
        if known {
            failed.of_token.give_back(&token);
        } else {
            failed.of_unknown.give_back(FAILED_ENROLMENTS);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_of_a_token_hold_it_up_and_nobody_else() {
        let pacing = Pacing::default();
        let [one, other] = [1, 2].map(TokenId::from_u128);
        for _ in 0..20 {
            pacing.enrolment(other, true).unwrap();
            pacing.enrolment_did_not_fail(other, true);
        }
        for _ in 0..5 {
            pacing.enrolment(one, true).unwrap();
        }
        let held_up = pacing.enrolment(one, true).unwrap_err();
        assert!((1..=12_000).contains(&held_up.retry_after_ms), "{held_up:?}");
        pacing.enrolment(other, true).unwrap();
    }

    #[test]
    fn many_failures_of_many_tokens_hold_up_everybody() {
        let pacing = Pacing::default();
        let refused = (1..=2 * FAILED_ENROLMENTS.burst)
            .filter(|n| pacing.enrolment(TokenId::from_u128((*n).into()), false).is_err());
        assert!(refused.count() > 0);
    }

    #[test]
    fn a_router_that_comes_too_often_holds_up_itself_alone() {
        let pacing = Pacing::default();
        let [one, other] = ["edge-1", "edge-2"].map(|id| RouterId::new(id).unwrap());
        let refused = (0..2 * REGISTRATIONS_PER_ROUTER.burst).filter(|_| pacing.registration(&one).is_err());
        assert!(refused.count() > 0);
        pacing.registration(&other).unwrap();
        let refused = (0..2 * RENEWALS_PER_ROUTER.burst).filter(|_| pacing.renewal(&one).is_err());
        assert_eq!(refused.count() as u32, RENEWALS_PER_ROUTER.burst);
        pacing.renewal(&other).unwrap();
    }
}
