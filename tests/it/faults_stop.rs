//! Stops of real processes: in order within 8 s, at once on a second signal.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::fleet::Fleet;
use crate::support::probe::Probe;
use crate::support::{SOON, eventually, expect, http};

/// What a stop may take.
const STOP_MAX: Duration = Duration::from_secs(8);
/// What a second signal may take, on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Longest gap in acknowledgements around a stop: leadership is handed over, nobody waits for an election.
const HANDOVER_GAP_MAX: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_hands_everything_over_and_exits_with_0() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|place| *place != leader).map(|place| fleet.router_ports()[place]).collect();
    let probe = Probe::start("probe", &others);
    let mark = probe.mark().await;
    fleet.controllers[leader].1.process().signal(Signal::SIGTERM);
    let status = fleet.controllers[leader].1.ended(STOP_MAX).await;
    assert_eq!(status.code(), Some(0), "{}", fleet.controllers[leader].1.log());
    let after = probe.mark().await;
    probe.acked_for(after, Duration::from_secs(1)).await;
    let gap = probe.longest_gap(mark);
    println!("the longest gap around the stop of a leader was {gap:?}");
    assert!(gap < HANDOVER_GAP_MAX, "{gap:?}");
    // The router is with the others, with the list that it had.
    let port = fleet.routers[0].0;
    let gone = u64::try_from(leader).unwrap() + 1;
    eventually("the router's sessions are with the others", SOON, || async {
        let status = http::get_json(port, "/api/v1/status").await?;
        let sessions = status["sessions"].as_array().cloned().unwrap_or_default();
        let open: Vec<_> = sessions.iter().filter(|session| session["state"] != "connecting").collect();
        let moved = open.len() == 2 && open.iter().all(|session| session["controller"] != gone);
        expect(moved, || status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_stop_at_once() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let leader = fleet.leader().await;
    let unit = &mut fleet.controllers[leader].1;
    unit.process().signal(Signal::SIGTERM);
    // It may be so quick that there is nothing left to hurry.
    if unit.process().is_running() {
        unit.process().signal(Signal::SIGTERM);
    }
    unit.ended(AT_ONCE).await;
    // It comes back with everything.
    unit.run();
    fleet.settled(3).await;
    fleet.routers_are_current().await;
}
