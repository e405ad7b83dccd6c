//! What integration tests with real processes share: controllers, routers, the command line, a prober of writes.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

pub(crate) mod fleet;
pub(crate) mod http;
pub(crate) mod network;
pub(crate) mod pki;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod process;

/// How often a condition is looked at again.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// Longest wait for something that takes a moment: an election, a join, a restart on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Waits until `condition` has a value, or fails with what it said last.
pub(crate) async fn eventually<T, E, F>(what: &str, within: Duration, mut condition: impl FnMut() -> F) -> T
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match condition().await {
            Ok(value) => return value,
            Err(why) if began.elapsed() >= within => panic!("not within {within:?}: {what}; last seen: {why}"),
            Err(_) => {}
        }
    }
}

/// `Ok` when it holds, else what was seen instead.
pub(crate) fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
