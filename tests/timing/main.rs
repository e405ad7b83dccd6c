//! Tests of what a tenth of a second decides. They are a binary of their own because `cargo test` runs one binary after
//! the other: nothing else of ours loads the machine meanwhile. One test at a time, for the same reason.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod floods;

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::fleet::Fleet;
use crate::support::probe::Probe;

#[allow(dead_code, reason = "shared with the integration tests, which use all of it")]
#[path = "../it/support/mod.rs"]
mod support;

/// One test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long a follower is paused.
const PAUSE: Duration = Duration::from_secs(30);
/// How long writes are watched after a follower was killed, and after it was started again.
const WATCHED: Duration = Duration::from_secs(3);
/// Longest gap in acknowledgements, whatever happens to a follower.
const GAP_MAX: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_paused_for_half_a_minute_or_killed_costs_no_election_and_no_gap() {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::found(3).await;
    let leader = fleet.leader().await;
    let before = fleet.status().await;
    let away = (leader + 1) % 3;
    let ports: Vec<_> = (0..3).filter(|place| *place != away).map(|place| fleet.router_ports()[place]).collect();
    let probe = Probe::start("probe", &ports);
    let narrow = async |what: &str, at_least: Duration, mark| {
        probe.acked_for(mark, at_least).await;
        let gap = probe.longest_gap(mark);
        println!("the longest gap in writes was {gap:?} {what}");
        assert!(gap < GAP_MAX, "{gap:?} {what}");
    };

    let mark = probe.mark().await;
    fleet.controllers[away].1.process().signal(Signal::SIGSTOP);
    narrow("while a follower was paused", PAUSE, mark).await;
    let mark = probe.mark().await;
    fleet.controllers[away].1.process().signal(Signal::SIGCONT);
    narrow("when it came back after half a minute", WATCHED, mark).await;
    fleet.settled(3).await;
    // What was said to it meanwhile did not pile up: it found a few connections, not hundreds of cancelled calls.
    assert!(!fleet.controllers[away].1.log().contains("recv_reset"), "{}", fleet.controllers[away].1.log());

    let mark = probe.mark().await;
    fleet.controllers[away].1.kill().await;
    narrow("after a follower was killed", WATCHED, mark).await;
    let mark = probe.mark().await;
    fleet.controllers[away].1.run();
    narrow("while it started again", WATCHED, mark).await;
    let after = fleet.settled(3).await;
    assert_eq!((&after["term"], &after["leader"]), (&before["term"], &before["leader"]), "there was an election");
}
