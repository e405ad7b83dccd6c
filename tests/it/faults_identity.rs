//! Controllers that are not who they say: a second one with the same id, a wiped one, a majority of wiped ones, one with
//! the disk of another cluster. The cluster goes on undisturbed, and a second cluster never forms.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::fleet::{Fleet, Ports};
use crate::support::probe::{Probe, client, registration};
use crate::support::{SOON, eventually, expect, http};

/// How long an intruder is watched while the cluster works: several elections.
const WATCHED: Duration = Duration::from_secs(4);
/// Longest gap in acknowledgements that an intruder may cause, on a loaded machine.
const DISTURBED_MAX: Duration = Duration::from_secs(1);

/// What must stay the same whatever an intruder does.
fn identity(status: &Value) -> [Value; 4] {
    ["cluster_id", "term", "leader", "list_version"].map(|key| status[key].clone())
}

/// Watches the cluster while the intruder runs; nothing may change, and writes go on.
async fn undisturbed(fleet: &Fleet, before: &Value) {
    let probe = Probe::start("probe", &fleet.router_ports());
    let mark = probe.mark().await;
    probe.acked_for(mark, WATCHED).await;
    let gap = probe.longest_gap(mark);
    assert!(gap < DISTURBED_MAX, "{gap:?}");
    assert_eq!(identity(&fleet.status().await), identity(before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_controller_with_an_id_in_use_never_joins_and_disturbs_nobody() {
    let fleet = Fleet::found(3).await;
    let before = fleet.settled(3).await;
    // The founder's id is the worst: only the founder may found a cluster.
    for (place, name) in [(0, "second-controller-1"), (1, "second-controller-2")] {
        let (theirs, own) = (fleet.controllers[place].0, Ports::free());
        let data = fleet.data(name);
        let mut second = fleet.stray(place, name, |config| {
            let (members, rest) = config.split_once("[listen]").unwrap();
            let members = members
                .replace(fleet.data(&format!("controller-{}", place + 1)).to_str().unwrap(), data.to_str().unwrap());
            let ports = [
                (theirs.peer, own.peer),
                (theirs.router, own.router),
                (theirs.admin, own.admin),
                (theirs.http, own.http),
            ];
            let rest =
                ports.iter().fold(rest.to_owned(), |rest, (from, to)| rest.replace(&from.to_string(), &to.to_string()));
            format!("{members}[listen]{rest}")
        });
        undisturbed(&fleet, &before).await;
        // It stays blank: no router gets a list from it, and no write is taken.
        assert!(second.process().is_running());
        second.says("belongs to cluster").await;
        let refused = client(own.router).register(registration("edge-1")).await.unwrap_err();
        assert!(!refused.message().is_empty());
        let (ready, why) = http::get(own.http, "/readyz").await.unwrap();
        assert_eq!(ready, 503, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_controller_does_not_come_back_under_its_old_id() {
    let mut fleet = Fleet::found(3).await;
    let leader = fleet.leader().await;
    let wiped = (leader + 1) % 3;
    fleet.controllers[wiped].1.kill().await;
    fs::remove_dir_all(fleet.data(&format!("controller-{}", wiped + 1))).unwrap();
    fleet.settled(2).await;
    let before = fleet.status().await;
    fleet.controllers[wiped].1.run();
    undisturbed(&fleet, &before).await;
    fleet.controllers[wiped].1.says("cluster remove").await;
    let after = fleet.status().await;
    let member = &after["members"][wiped];
    assert_ne!(member["state"], "up", "it must not count as the voter that it was: {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wiped_out_of_three_form_no_second_cluster_and_heal_when_their_data_returns() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let before = fleet.status().await;
    let wiped = ["controller-1", "controller-2"];
    for (place, name) in wiped.iter().enumerate() {
        fleet.controllers[place].1.kill().await;
        fs::rename(fleet.data(name), fleet.data(&format!("{name}-kept"))).unwrap();
    }
    fleet.controllers[2].1.kill().await;
    // The wiped ones come first, while nobody can tell them that there is a cluster.
    for place in 0..2 {
        fleet.controllers[place].1.run();
    }
    fleet.controllers[0].1.says("waiting for controller 3").await;
    fleet.controllers[2].1.run();
    fleet.controllers[0].1.says("no second one is founded").await;
    let own = ["cluster", "status", "-o", "json"];
    for place in 0..3 {
        let alone = fleet.cli_at(place, &own).await;
        assert_eq!(alone.code, 1, "nobody leads: {alone:?}");
        let alone: Value = serde_json::from_str(&alone.out).unwrap_or(Value::Null);
        assert!(alone["leader"].is_null(), "{alone}");
        assert!(alone["cluster_id"].is_null() || alone["cluster_id"] == before["cluster_id"], "{alone}");
    }
    // The router has what it had.
    let status = http::get_json(fleet.routers[0].0, "/api/v1/status").await.unwrap();
    assert_eq!(status["held"]["version_text"], before["list_version"]);

    for (place, name) in wiped.iter().enumerate() {
        fleet.controllers[place].1.kill().await;
        fs::remove_dir_all(fleet.data(name)).unwrap();
        fs::rename(fleet.data(&format!("{name}-kept")), fleet.data(name)).unwrap();
        fleet.controllers[place].1.run();
    }
    let after = fleet.settled(3).await;
    assert_eq!((&after["cluster_id"], &after["list_version"]), (&before["cluster_id"], &before["list_version"]));
    fleet.routers_are_current().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_the_disk_of_another_cluster_joins_nothing() {
    let (mut fleet, mut other) = (Fleet::found(3).await, Fleet::found(3).await);
    let foreign = (fleet.leader().await + 1) % 3;
    let name = format!("controller-{}", foreign + 1);
    fleet.controllers[foreign].1.kill().await;
    other.controllers[foreign].1.kill().await;
    fs::remove_dir_all(fleet.data(&name)).unwrap();
    fs::rename(other.data(&name), fleet.data(&name)).unwrap();
    fleet.settled(2).await;
    let before = fleet.status().await;
    let theirs = other.settled(2).await;
    fleet.controllers[foreign].1.run();
    undisturbed(&fleet, &before).await;
    eventually("the other cluster has its own id still", SOON, || async {
        let status = other.status().await;
        expect(status["cluster_id"] == theirs["cluster_id"] && status["leader"].is_u64(), || status.to_string())
    })
    .await;
    assert_ne!(before["cluster_id"], theirs["cluster_id"]);
    assert_ne!(fleet.status().await["members"][foreign]["state"], "up");
}
