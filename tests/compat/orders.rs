//! The orders in which somebody may upgrade, stop half-way, and go back. After each step a new list has to reach
//! everybody; meanwhile routers register, and witnesses look.

use super::builds::{self, Build};
use super::mixed::Mixed;

/// A snapshot soon, and few entries behind it: whoever was away for a moment needs it.
const SNAPSHOTS: &str = "[raft]\nsnapshot_every_entries = 100\n";
/// Whoever lacks so many entries gets a snapshot: more than are kept behind one, and one between two of them.
const AWAY_ENTRIES: u64 = 300;

/// Plays an order with every older build that is to be tried.
async fn with_each(order: &str, tables: &'static str, play: impl AsyncFn(&mut Mixed, &Build, &Build)) {
    let _alone = super::ALONE.lock().await;
    for older in builds::older() {
        let mut mixed = Mixed::all_older(&older, tables).await;
        let newer = mixed.newer.clone();
        play(&mut mixed, &older, &newer).await;
        mixed.end(&format!("{order}, from {}", older.version)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_first_and_the_leader_last() {
    with_each("controllers first, the leader last", "", async |mixed, _, newer| {
        // Old routers are on new controllers, and an old leader writes for new followers.
        let (leader, followers) = mixed.leader_and_others().await;
        for place in followers {
            mixed.replace_controller(place, newer).await;
            mixed.transfer_to(leader).await;
        }
        mixed.replace_controller(leader, newer).await;
        mixed.replace_routers(newer).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_first_and_then_the_leader() {
    with_each("routers first, then the leader", "", async |mixed, _, newer| {
        // New routers are on old controllers, and a new leader writes for old followers.
        mixed.replace_routers(newer).await;
        let (leader, followers) = mixed.leader_and_others().await;
        mixed.replace_controller(leader, newer).await;
        mixed.transfer_to(leader).await;
        mixed.change_the_list().await;
        // An entry of a level that both read, and to which the cluster comes with it.
        mixed.done(&["routers", "forget", "edge-9", "--ban"]).await;
        mixed.done(&["routers", "allow", "edge-9"]).await;
        for place in followers {
            mixed.replace_controller(place, newer).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_half_way_and_taken_back() {
    with_each("half-way, and back", "", async |mixed, older, newer| {
        let (leader, followers) = mixed.leader_and_others().await;
        mixed.replace_controller(followers[0], newer).await;
        mixed.replace_routers(newer).await;
        mixed.replace_controller(leader, newer).await;
        mixed.transfer_to(followers[0]).await;
        mixed.change_the_list().await;
        // What a new leader wrote and what new routers saved, older ones read.
        for place in [followers[0], leader] {
            mixed.replace_controller(place, older).await;
        }
        mixed.replace_routers(older).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgraded_as_a_whole_and_taken_back() {
    with_each("all of it, and back", SNAPSHOTS, async |mixed, older, newer| {
        let (leader, followers) = mixed.leader_and_others().await;
        let places = [followers[0], followers[1], leader];
        for place in places {
            mixed.replace_controller(place, newer).await;
        }
        mixed.replace_routers(newer).await;
        // Each makes a snapshot of its own of what only newer builds have written since, and an older one starts from it.
        let before = places.map(|place| mixed.newest_snapshot(place));
        mixed.entries_later(AWAY_ENTRIES).await;
        for (place, before) in places.into_iter().zip(before) {
            assert!(mixed.newest_snapshot(place) > before, "controller {} made no snapshot", place + 1);
            mixed.replace_controller(place, older).await;
        }
        mixed.replace_routers(older).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_of_both_builds_are_killed_half_way() {
    with_each("leaders are killed half-way", "", async |mixed, older, newer| {
        let (leader, followers) = mixed.leader_and_others().await;
        mixed.replace_controller(followers[0], newer).await;
        // One of the two builds takes over from the other, with what the other had written.
        for (place, build) in [(followers[0], newer), (leader, older)] {
            mixed.transfer_to(place).await;
            mixed.kill_controller(place).await;
            mixed.change_the_list().await;
            mixed.start_controller(place, build).await;
        }
        for place in [leader, followers[1]] {
            mixed.replace_controller(place, newer).await;
        }
        mixed.replace_routers(newer).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_go_from_old_to_new_and_from_new_to_old() {
    with_each("snapshots both ways", SNAPSHOTS, async |mixed, older, newer| {
        let (leader, followers) = mixed.leader_and_others().await;
        // From an old leader to a new follower.
        let before = mixed.snapshots_received(followers[0]);
        mixed.stop_controller(followers[0]).await;
        mixed.entries_later(AWAY_ENTRIES).await;
        mixed.start_controller(followers[0], newer).await;
        assert!(mixed.snapshots_received(followers[0]) > before, "the new one caught up without a snapshot");
        mixed.change_the_list().await;
        // From a new leader to an old follower.
        mixed.transfer_to(followers[0]).await;
        let before = mixed.snapshots_received(followers[1]);
        mixed.stop_controller(followers[1]).await;
        mixed.entries_later(AWAY_ENTRIES).await;
        mixed.start_controller(followers[1], older).await;
        assert!(mixed.snapshots_received(followers[1]) > before, "the old one caught up without a snapshot");
        mixed.change_the_list().await;
        for place in [leader, followers[1]] {
            mixed.replace_controller(place, newer).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_of_either_build_join_and_leave() {
    with_each("both builds join and leave", "", async |mixed, older, newer| {
        let (leader, followers) = mixed.leader_and_others().await;
        // A new one joins under an old leader, an old one leaves.
        let joined = mixed.join(newer).await;
        mixed.leave(followers[0]).await;
        assert_eq!(mixed.leader_and_others().await.0, leader, "the leader is still an old one");
        // An old one joins under a new leader, another old one leaves.
        mixed.transfer_to(joined).await;
        let late = mixed.join(older).await;
        mixed.leave(followers[1]).await;
        mixed.replace_controller(leader, newer).await;
        mixed.replace_controller(late, newer).await;
        mixed.replace_routers(newer).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_is_finalized_an_older_build_refuses_to_go_on_and_the_newer_one_does() {
    with_each("finalized", "", async |mixed, older, newer| {
        if older.levels.1 == newer.levels.1 {
            println!("{} reads every level: there is nothing to finalize", older.version);
            return;
        }
        let (leader, followers) = mixed.leader_and_others().await;
        mixed.replace_controller(followers[0], newer).await;
        mixed.whoever_knows_upgrades_is_asked(leader).await;
        mixed.finalizing_is_refused(followers[0], "which leads, runs a version that knows no upgrades yet").await;
        mixed.transfer_to(followers[0]).await;
        let (min, max) = older.levels;
        let reads = format!("runs {}, which reads feature levels {min} to {max}", older.version);
        mixed.finalizing_is_refused(followers[0], &reads).await;
        mixed.replace_controller(followers[1], newer).await;
        mixed.replace_controller(leader, newer).await;
        mixed.finalize().await;
        // Older routers are served on, older controllers are not taken back, and none joins.
        mixed.change_the_list().await;
        mixed.stop_controller(followers[0]).await;
        mixed.start_is_refused(followers[0], older).await;
        mixed.start_controller(followers[0], newer).await;
        mixed.joining_is_refused(older).await;
        mixed.replace_routers(newer).await;
    })
    .await;
}
