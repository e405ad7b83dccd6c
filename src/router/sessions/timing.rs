//! How long a router's sessions wait for what. Tests bring shorter ones.

use std::time::Duration;

use crate::domain::retry::Backoff;

/// Every wait of a session, each with the reason for its length at [`Timing::DEFAULT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A connection must stand within this time.
    pub dial: Duration,
    /// A hello must be answered within this time.
    pub welcome: Duration,
    /// A message must be taken by the controller within this time.
    pub send: Duration,
    /// Bounds of the heartbeat interval that a controller may ask for.
    pub heartbeat: (Duration, Duration),
    /// After a farewell, how long messages under way may take to arrive.
    pub close: Duration,
    /// Between two rounds over all candidates.
    pub retry: Backoff,
    /// A session that lived for this long was a good one: its end starts a new count of attempts.
    pub stable: Duration,
    /// Longest pause that a controller may ask for.
    pub retry_after_max: Duration,
    /// After another router took the session: long, so that the two do not fight.
    pub superseded: Backoff,
    /// A controller that has not heard from a leader for this long is left, when another one has.
    pub leader_contact_age_max: Duration,
    /// Between two attempts to find a better controller while the present one still serves.
    pub improve: Backoff,
    /// A registration must be answered within this time.
    pub register: Duration,
    /// Between two attempts to register.
    pub register_again: Backoff,
}

/// Heartbeats that may be missed before a controller counts as gone.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;

impl Timing {
    /// What routers use.
    pub const DEFAULT: Self = Self {
        // A SYN that is lost once is repeated after 1 s.
        dial: Duration::from_secs(2),
        // The protocol's own bound for a hello.
        welcome: Duration::from_secs(5),
        send: Duration::from_secs(5),
        heartbeat: (Duration::from_millis(100), Duration::from_secs(30)),
        close: Duration::from_millis(200),
        retry: Backoff::DIAL,
        stable: Duration::from_secs(10),
        retry_after_max: Duration::from_secs(60),
        superseded: Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(600) },
        // Several elections at the largest usual timeout.
        leader_contact_age_max: Duration::from_secs(10),
        improve: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
        // The controllers wait for an election; they answer sooner than this.
        register: Duration::from_secs(15),
        register_again: Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30) },
    };
}

impl Timing {
    /// No pause between two attempts is longer.
    #[must_use]
    pub fn pause_max(&self) -> Duration {
        self.retry_after_max.max(self.retry.cap).max(self.superseded.cap)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}
