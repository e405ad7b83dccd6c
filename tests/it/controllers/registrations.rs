//! Registrations through any controller, in quiet and in trouble.

use pilothouse::controller::pacing::REGISTRATIONS_PER_ROUTER;
use pilothouse::proto::admin::ListRoutersRequest;
use pilothouse::proto::router::register_response::Effect;
use pilothouse::rpc::status::{reason_of, retry_after_of};
use tonic::Code;

use super::cluster::{Cluster, eventually};
use super::router::{client, register, registration};

#[tokio::test(flavor = "multi_thread")]
async fn any_controller_takes_a_registration_and_every_controller_shows_it() {
    let cluster = Cluster::of(3).await;
    for (n, seat) in cluster.seats.iter().enumerate() {
        assert_eq!(register(seat.router, registration(&format!("edge-{n}"), 1, 1)).await.unwrap(), Effect::New);
    }
    for seat in &cluster.seats {
        let listed = seat.admin_client().await.list_routers(ListRoutersRequest::default()).await.unwrap();
        let ids: Vec<_> = listed.routers.iter().map(|router| router.id.as_str()).collect();
        assert_eq!(ids, ["edge-0", "edge-1", "edge-2"]);
        assert!(listed.routers.iter().all(|router| router.registered && router.registered_ms > 0));
        assert!(!listed.more && listed.unreachable.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identical_registration_writes_no_log_entry() {
    let cluster = Cluster::of(3).await;
    let leader = &cluster.seats[cluster.leader().await];
    assert_eq!(register(leader.router, registration("edge-1", 1, 1)).await.unwrap(), Effect::New);
    // The announcements of the controllers come into the log by themselves: wait until the last one has.
    let announced = |state: &pilothouse::domain::state::ClusterState| state.announcements.len();
    let node = leader.running().backend().node();
    eventually("all have announced themselves", async || (node.read(announced) == 3).then_some(())).await;

    // An election on a busy machine writes an entry too: then it is tried again.
    let applied = || node.read(|state| state.applied.unwrap());
    eventually("a quiet moment", async || {
        let before = applied();
        // Few enough that the pace of one router allows it several times over.
        for seat in cluster.seats.iter().cycle().take(9) {
            assert_eq!(register(seat.router, registration("edge-1", 1, 1)).await.unwrap(), Effect::Unchanged);
        }
        let after = applied();
        assert!(after == before || after.term > before.term, "identical registrations wrote log entries");
        (after == before).then_some(())
    })
    .await;
    let before = applied();
    assert_eq!(register(leader.router, registration("edge-1", 1, 2)).await.unwrap(), Effect::Updated);
    assert!(applied().index > before.index);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_registrations_share_log_entries_and_each_has_its_own_outcome() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    let before = seat.last_log().unwrap();
    let mut joined = tokio::task::JoinSet::new();
    let channel = client(seat.router).await;
    for n in 0..100 {
        let mut channel = channel.clone();
        joined.spawn(async move { channel.register(registration(&format!("edge-{n}"), 1, 1)).await });
    }
    while let Some(answer) = joined.join_next().await {
        assert_eq!(answer.unwrap().unwrap().into_inner().effect(), Effect::New);
    }
    let entries = seat.last_log().unwrap() - before;
    assert!(entries < 60, "{entries} entries for 100 registrations");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_during_an_election_waits_for_the_next_leader() {
    let cluster = Cluster::of(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.network.cut(cluster.seats[leader].peer.port());
    let effect = register(cluster.seats[follower].router, registration("edge-1", 1, 1)).await.unwrap();
    assert!(matches!(effect, Effect::New | Effect::Unchanged), "{effect:?}");
    assert_ne!(cluster.seats.iter().enumerate().filter(|(n, s)| *n != leader && s.leads()).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_reply_was_lost_can_be_repeated() {
    let cluster = Cluster::of(3).await;
    let follower = &cluster.seats[cluster.follower().await];
    // Twice as many as one router may register at once.
    for sequence in 1..=u64::from(REGISTRATIONS_PER_ROUTER.burst / 2) {
        let mut channel = client(follower.router).await;
        // The router is gone before the answer comes; whether the entry was written nobody knows.
        let mut lost = std::pin::pin!(channel.register(registration("edge-1", 1, sequence)));
        tokio::select! {
            biased;
            _ = &mut lost => {}
            () = tokio::task::yield_now() => {}
        }
        let effect = register(follower.router, registration("edge-1", 1, sequence)).await.unwrap();
        assert_ne!(effect, Effect::Unspecified);
    }
    let listed = follower.admin_client().await.list_routers(ListRoutersRequest::default()).await.unwrap();
    assert_eq!(listed.routers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_older_registration_is_refused_on_every_controller() {
    let cluster = Cluster::of(3).await;
    let seat = &cluster.seats[0];
    register(seat.router, registration("edge-1", 1, 5)).await.unwrap();
    register(seat.router, registration("edge-1", 2, 1)).await.unwrap();
    register(seat.router, registration("edge-1", 2, 3)).await.unwrap();
    for seat in &cluster.seats {
        for older in [registration("edge-1", 2, 2), registration("edge-1", 1, 9)] {
            let refused = register(seat.router, older).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert_eq!(reason_of(&refused), Some("stale_registration"));
        }
        let mut other = registration("edge-1", 2, 3);
        other.labels.clear();
        let refused = register(seat.router, other).await.unwrap_err();
        assert_eq!(reason_of(&refused), Some("registration_conflict"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_registrations_get_a_clear_status_and_disturb_nothing() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    for (router, says) in [("", "router id is empty"), (&*"x".repeat(10_240), "10240 bytes"), ("a b", "' '")] {
        let refused = register(seat.router, registration(router, 1, 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(says), "{refused}");
    }
    let mut heavy = registration("edge-1", 1, 1);
    heavy.labels = [("k".to_owned(), "v".repeat(5_000))].into();
    let refused = register(seat.router, heavy).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::InvalidArgument, Some("over_limit")));
    assert_eq!(register(seat.router, registration("edge-1", 1, 1)).await.unwrap(), Effect::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_without_a_majority_ends_within_its_deadline_and_says_so() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    for seat in &cluster.seats {
        cluster.network.cut(seat.peer.port());
    }
    let began = std::time::Instant::now();
    let refused = register(cluster.seats[leader].router, registration("edge-1", 1, 1)).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::Unavailable, Some("no_leader")), "{refused}");
    assert!(began.elapsed() < std::time::Duration::from_secs(13), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_registers_too_often_is_told_when_to_try_again_and_disturbs_nobody() {
    let cluster = Cluster::of(3).await;
    let (seat, other) = (&cluster.seats[0], &cluster.seats[1]);
    register(seat.router, registration("edge-1", 1, 1)).await.unwrap();
    let refused =
        eventually("it is too often", async || register(seat.router, registration("edge-1", 1, 1)).await.err()).await;
    assert_eq!((refused.code(), reason_of(&refused)), (Code::ResourceExhausted, Some("too_fast")), "{refused}");
    let retry_after = retry_after_of(&refused).unwrap();
    assert!(retry_after.as_millis() > 0, "{refused}");
    assert!(retry_after.as_millis() <= REGISTRATIONS_PER_ROUTER.every_ms.into(), "{refused}");
    register(seat.router, registration("edge-2", 1, 1)).await.expect("another router");
    register(other.router, registration("edge-1", 1, 1)).await.expect("another controller");
    eventually("after a while it may again", async || register(seat.router, registration("edge-1", 1, 1)).await.ok())
        .await;
}
