//! Controllers that are killed and restarted under a steady load of registrations: nothing acknowledged is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::fleet::Fleet;
use crate::support::probe::Probe;
use crate::support::{SOON, eventually, expect, http};

/// Longest gap in acknowledgements when a leader dies: the lease, an election, and a loaded machine's share.
const FAILOVER_MAX: Duration = Duration::from_secs(8);

async fn registered(fleet: &Fleet) -> BTreeSet<String> {
    // A controller that has just come back may not know a leader yet, and says so.
    let list = eventually("routers are listed", SOON, || async {
        let answer = fleet.cli(&["routers", "list", "-o", "json"]).await;
        if answer.code == 0 { Ok(answer.json()) } else { Err(answer.err) }
    })
    .await;
    let routers = list["routers"].as_array().unwrap().iter();
    routers
        .filter(|router| router["registered"] == true)
        .map(|router| router["id"].as_str().unwrap().to_owned())
        .collect()
}

fn missing(acked: &BTreeSet<String>, registered: &BTreeSet<String>) -> Vec<String> {
    acked.difference(registered).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_an_election_and_no_registration() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let probe = Probe::start("probe", &fleet.router_ports());
    let mark = probe.mark().await;

    let leader = fleet.leader().await;
    fleet.controllers[leader].1.kill().await;
    probe.acked_for(mark, FAILOVER_MAX / 2).await;
    let gap = probe.longest_gap(mark);
    println!("the longest gap after a killed leader was {gap:?}");
    assert!(gap < FAILOVER_MAX, "{gap:?}");

    fleet.controllers[leader].1.run();
    fleet.settled(3).await;
    let acked = probe.stop();
    assert_eq!(missing(&acked, &registered(&fleet).await), Vec::<String>::new(), "of {}", acked.len());
    fleet.routers_are_current().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_killed_at_once_come_back_with_everything_and_no_list_goes_back() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let before = fleet.status().await;
    let probe = Probe::start("probe", &fleet.router_ports());
    let mark = probe.mark().await;
    probe.acked_for(mark, Duration::from_secs(1)).await;
    for (_, unit) in &mut fleet.controllers {
        unit.kill().await;
    }
    let acked = probe.stop();

    // The router stays up with its list while nobody answers.
    let (port, router) = &mut fleet.routers[0];
    let port = *port;
    assert!(router.process().is_running());
    let held = held(port).await;
    assert_eq!(held, before["list_version"]);

    for (_, unit) in &mut fleet.controllers {
        unit.run();
    }
    let after = fleet.settled(3).await;
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(after["list_version"], before["list_version"], "the same membership is the same list");
    assert_eq!(missing(&acked, &registered(&fleet).await), Vec::<String>::new(), "of {}", acked.len());
    fleet.routers_are_current().await;
    assert_eq!(self::held(port).await, after["list_version"]);
}

/// What the router says that it holds.
async fn held(port: u16) -> Value {
    http::get_json(port, "/api/v1/status").await.unwrap()["held"]["version_text"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_starts_and_stays_up_without_any_controller_and_recovers() {
    let mut fleet = Fleet::found(1).await;
    fleet.controllers[0].1.kill().await;
    fleet.router("edge-1");
    let port = fleet.routers[0].0;
    eventually("it says that it is not ready, and why", SOON, || async {
        let (status, body) = http::get(port, "/readyz").await?;
        expect(status == 503 && body.contains("seeds"), || format!("{status} {body}"))
    })
    .await;
    assert!(fleet.routers[0].1.process().is_running());
    fleet.controllers[0].1.run();
    fleet.routers_are_current().await;
    let (status, _) = http::get(port, "/readyz").await.unwrap();
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lost_its_majority_is_not_called_one() {
    let mut fleet = Fleet::found(3).await;
    let leader = fleet.leader().await;
    for place in (0..3).filter(|place| *place != leader) {
        fleet.controllers[place].1.kill().await;
    }
    eventually("the status says that nobody leads, and ends with 1", SOON, || async {
        let answer = fleet.cli_at(leader, &["cluster", "status", "-o", "json"]).await;
        let status: Value = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
        let right = answer.code == 1 && status["leader"].is_null() && status["failure_tolerance"] == 0;
        expect(right, || format!("{}: {status}", answer.code))
    })
    .await;
    let text = fleet.cli_at(leader, &["cluster", "status"]).await;
    assert!(text.out.contains("nobody leads"), "{}", text.out);
}
