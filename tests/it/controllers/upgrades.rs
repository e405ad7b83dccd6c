//! The feature level of a running cluster: who is in its way, how it is raised, and that states which differ stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilothouse::controller::Parts;
use pilothouse::controller::upgrade::watching::Pace;
use pilothouse::domain::feature::FeatureLevel;
use pilothouse::domain::ids::RouterId;
use pilothouse::domain::state::ClusterState;
use pilothouse::ops::events::Event;
use pilothouse::proto::admin::{FinalizeUpgradeRequest, UpgradeRequest, UpgradeResponse};
use pilothouse::raft::snapshot;
use pilothouse::rpc::client::ClientError;
use pilothouse::storage::Directory;

use super::cluster::{Cluster, Seat, eventually};
use super::router::{register, registration};
use crate::support::http;

fn often() -> Parts {
    let looks = Pace { look_every: Duration::from_millis(50), blocked_patience: Duration::ZERO, ..Pace::default() };
    Parts { looks, ..Parts::default() }
}

/// A cluster one of whose followers has, as a fault of a disk, of memory or of a build might leave it, one record that is
/// another one: everything is well formed. Leader and follower.
async fn with_another_state(parts: Parts) -> (Cluster, usize, usize) {
    let mut cluster = Cluster::with(3, parts).await;
    let (leader, wrong) = (cluster.leader().await, cluster.follower().await);
    register(cluster.seats[leader].router, registration("edge-1", 1, 1)).await.unwrap();
    announced(&cluster, leader).await;
    let state = eventually("it has applied the registration", async || {
        let state = cluster.seats[wrong].running().backend().node().read(ClusterState::clone);
        state.routers.contains_key(&RouterId::new("edge-1").unwrap()).then_some(state)
    })
    .await;
    cluster.stop(wrong).await;
    let mut other = state;
    let record = other.routers.values_mut().next().unwrap();
    Arc::make_mut(record).updated_ms += 1;
    let directory = eventually("the directory is free", async || Directory::open(cluster.data_dir(wrong)).ok()).await;
    snapshot::write(&directory.snapshots(), &other).unwrap();
    drop(directory);
    cluster.restart(wrong).await;
    cluster.serves(wrong).await;
    (cluster, leader, wrong)
}

async fn report(cluster: &Cluster, through: usize, plan: bool) -> UpgradeResponse {
    cluster.seats[through].admin_client().await.upgrade(UpgradeRequest { level: 0, plan }).await.unwrap()
}

/// Finalizes through one of the controllers: the level, and what was said on the way.
async fn finalize(cluster: &Cluster, through: usize, wait: bool) -> Result<(u32, Vec<String>), ClientError> {
    let mut client = cluster.seats[through].admin_client().await;
    let mut progress = client.finalize_upgrade(FinalizeUpgradeRequest { level: 0, wait }).await?;
    let mut said = Vec::new();
    while let Some(step) = progress.next().await? {
        if step.done {
            return Ok((step.feature_level, said));
        }
        said.push(step.message);
    }
    panic!("the stream ended early, after {said:?}");
}

fn level(cluster: &Cluster, seat: usize) -> Option<FeatureLevel> {
    cluster.seats[seat].running().backend().node().read(|state| state.level)
}

fn events(cluster: &Cluster, seat: usize, code: &str) -> usize {
    let kept = cluster.seats[seat].running().events().kept();
    kept.iter().filter(|recorded| recorded.event.code() == code).count()
}

async fn announced(cluster: &Cluster, through: usize) {
    eventually("every build is announced", async || {
        let told = report(cluster, through, false).await;
        told.blockers.iter().all(|blocker| blocker.reason == "not_compared").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_finalized_through_any_controller_while_writes_go_on() {
    let cluster = Cluster::of(3).await;
    let follower = cluster.follower().await;
    announced(&cluster, follower).await;
    let before = report(&cluster, follower, true).await;
    assert_eq!((before.feature_level, before.target, before.builds.len()), (1, 3, 3));
    assert!(before.builds.iter().all(|build| build.running && build.level_max == 3), "{:?}", before.builds);
    let plan = before.plan.unwrap();
    assert!(plan.trials.len() == 3 && plan.trials.iter().all(|trial| trial.failure.is_empty()), "{:?}", plan.trials);
    assert_eq!((plan.refused, plan.changed), (0, 0));
    assert!((0..3).all(|seat| level(&cluster, seat) == Some(FeatureLevel::ONE)), "a plan changes nothing");

    let stop = Arc::new(AtomicBool::new(false));
    let (router, stopped) = (cluster.seats[follower].router, stop.clone());
    let writing = tokio::spawn(async move {
        let mut acknowledged = 0;
        while !stopped.load(Ordering::Relaxed) {
            acknowledged += 1;
            register(router, registration(&format!("edge-{acknowledged}"), 1, 1)).await.unwrap();
        }
        acknowledged
    });
    let (raised, _) = finalize(&cluster, follower, false).await.unwrap();
    assert_eq!(raised, 3);
    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 0);
    for seat in 0..3 {
        eventually("the level is raised here too", async || {
            (level(&cluster, seat) == Some(FeatureLevel::THREE)).then_some(())
        })
        .await;
    }
    let after = report(&cluster, follower, false).await;
    assert_eq!((after.feature_level, after.blockers.len()), (3, 0));
    assert!(after.builds.iter().all(|build| build.state == "equal" && build.compared_at > 0), "{:?}", after.builds);
    let counted: u64 = after.router_builds.iter().map(|kind| kind.count).sum();
    assert!(counted > 0);
    assert_eq!(finalize(&cluster, follower, false).await.unwrap().0, 3, "once more changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_down_is_in_the_way_until_it_is_back() {
    let mut cluster = Cluster::with(3, often()).await;
    let (leader, away) = (cluster.leader().await, cluster.follower().await);
    announced(&cluster, leader).await;
    let id = cluster.seats[away].id().unwrap().get();
    cluster.stop(away).await;

    let refused = finalize(&cluster, leader, false).await.unwrap_err();
    let ClientError::Refused { reason, message, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "upgrade_blocked");
    assert!(message.contains(&format!("controller {id} does not answer")), "{message}");
    assert_eq!(level(&cluster, leader), Some(FeatureLevel::ONE));
    eventually("somebody is told that the upgrade is blocked", async || {
        (events(&cluster, leader, "upgrade_blocked") > 0).then_some(())
    })
    .await;

    let mut client = cluster.seats[leader].admin_client().await;
    let mut progress = client.finalize_upgrade(FinalizeUpgradeRequest { level: 0, wait: true }).await.unwrap();
    let first = progress.next().await.unwrap().unwrap();
    assert!(first.message.contains("does not answer") && !first.done, "{first:?}");
    cluster.restart(away).await;
    let done = async {
        loop {
            match progress.next().await.unwrap() {
                Some(step) if step.done => return step.feature_level,
                Some(_) => {}
                None => panic!("it ended early"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(super::cluster::PATIENCE, done).await.unwrap(), 3);
    let blocked = |event: &Event| event.code() == "upgrade_blocked";
    eventually("it is over, whoever leads", async || {
        let lasts = |seat: &Seat| seat.running().events().lasting().iter().any(|lasting| blocked(&lasting.event));
        (!cluster.seats.iter().any(lasts)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_leader_sees_is_shown_by_nobody_else() {
    let cluster = Cluster::with(3, often()).await;
    let (leader, next) = (cluster.leader().await, cluster.follower().await);
    let newest = async |seat: usize| {
        let (_, text) = http::get(cluster.seats[seat].http.port(), "/metrics").await.unwrap();
        let shown = text.lines().find_map(|line| line.strip_prefix("pilothouse_feature_level_newest "));
        shown.unwrap().to_owned()
    };
    eventually("the leader shows it", async || (newest(leader).await == "3").then_some(())).await;
    let id = cluster.seats[next].id();
    assert_eq!(cluster.seats[leader].admin_client().await.transfer(id).await.unwrap(), id);
    for (seat, shown) in [(next, "3"), (leader, "0")] {
        eventually("whoever leads shows it", async || (newest(seat).await == shown).then_some(())).await;
    }
}

/// A level cannot be lowered again: nobody expects it to rise after the command was ended.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_for_an_upgrade_has_stopped_it() {
    let mut cluster = Cluster::with(3, often()).await;
    let (leader, away) = (cluster.leader().await, cluster.follower().await);
    let other = (0..3).find(|seat| *seat != leader && *seat != away).unwrap();
    announced(&cluster, leader).await;
    cluster.stop(away).await;
    // Asked directly, and through somebody who passes it on.
    for through in [leader, other] {
        let mut client = cluster.seats[through].admin_client().await;
        let mut progress = client.finalize_upgrade(FinalizeUpgradeRequest { level: 0, wait: true }).await.unwrap();
        assert!(progress.next().await.unwrap().unwrap().message.contains("does not answer"));
        drop((progress, client));
    }
    cluster.restart(away).await;
    cluster.serves(away).await;
    announced(&cluster, leader).await;
    let possible = Instant::now();
    eventually("three looks have passed", async || {
        assert!((0..3).all(|seat| level(&cluster, seat) == Some(FeatureLevel::ONE)), "it was raised for nobody");
        (possible.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    assert_eq!(finalize(&cluster, leader, false).await.unwrap().0, 3, "it was possible all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_differs_is_an_event_and_stops_finalizing() {
    let (cluster, leader, wrong) = with_another_state(often()).await;
    let id = cluster.seats[wrong].id().unwrap().get();

    let refused = finalize(&cluster, leader, false).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("state of controller {id} differs")), "{refused}");
    assert_eq!(level(&cluster, leader), Some(FeatureLevel::ONE));
    eventually("it is an event", async || (events(&cluster, leader, "state_differs") == 1).then_some(())).await;
    let told = report(&cluster, leader, false).await;
    let build = told.builds.iter().find(|build| build.id == id).unwrap();
    assert_eq!(build.state, "differs", "{build:?}");
    let waited = finalize(&cluster, leader, true).await.unwrap_err();
    assert!(waited.to_string().contains("differs"), "it is not waited for: {waited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_finalized_by_itself_after_it_has_soaked() {
    let cluster = Cluster::finalizing(3, often(), 1).await;
    let leader = cluster.leader().await;
    let soaking = eventually("it soaks", async || {
        let told = report(&cluster, leader, false).await;
        (told.soaked_ms.is_some() || told.feature_level == 3).then_some(told)
    })
    .await;
    assert_eq!((soaking.feature_level, soaking.soak_ms), (1, Some(1_000)), "not before its time");
    for seat in 0..3 {
        eventually("it is finalized", async || (level(&cluster, seat) == Some(FeatureLevel::THREE)).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_soak_time_nobody_finalizes() {
    let cluster = Cluster::with(1, often()).await;
    eventually("it is possible", async || {
        let told = report(&cluster, 0, false).await;
        (told.blockers.is_empty() && told.soaked_ms.is_some_and(|soaked| soaked > 500)).then_some(())
    })
    .await;
    assert_eq!(level(&cluster, 0), Some(FeatureLevel::ONE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_differs_is_found_in_the_background() {
    let often = often();
    let looks = Pace { hash_every: Duration::from_millis(500), ..often.looks };
    let (cluster, leader, _) = with_another_state(Parts { looks, ..often }).await;
    eventually("it is an event", async || (events(&cluster, leader, "state_differs") == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_at_the_address_of_a_member_is_not_taken_for_it() {
    let mut cluster = Cluster::of(3).await;
    let (leader, wiped) = (cluster.leader().await, cluster.follower().await);
    announced(&cluster, leader).await;
    let id = cluster.seats[wiped].id().unwrap().get();
    cluster.stop(wiped).await;
    let wipe = || std::fs::remove_dir_all(cluster.data_dir(wiped)).ok();
    eventually("its last thread has let go of its directory", async || wipe()).await;
    cluster.restart(wiped).await;
    let told = report(&cluster, leader, false).await;
    let blocked: Vec<_> = told.blockers.iter().map(|blocker| (blocker.reason.as_str(), blocker.controller)).collect();
    assert!(blocked.contains(&("down", id)), "{blocked:?}");
}
