//! Controllers that are cut off, stopped and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilothouse::controller::listeners::Listeners;
use pilothouse::controller::{ControllerError, Parts};
use pilothouse::domain::membership::Step;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::raft::Seams;
use pilothouse::rpc::client::AdminClient;
use pilothouse::rpc::list_codec::Codec;
use pilothouse::rpc::router_service::Pace;
use pilothouse::tls::Security;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, PATIENCE, Seat, endpoint, eventually};
use super::router::{Session, hello, named, register, registration, structured};

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_change_of_a_leader_that_is_cut_off_never_reaches_a_router() {
    let cluster = Cluster::of(3).await;
    let leader = &cluster.seats[cluster.leader().await];
    let id = leader.id().unwrap();
    let (mut session, _) = Session::welcomed(leader.router, hello("edge-1", 1)).await;
    let before = session.adopt().await;

    // Cut off, it still appends: a change that would take a controller's address away.
    let node = leader.running().backend().node().clone();
    let applied = node.read(|state| state.membership.clone()).unwrap();
    let mut member = applied.membership.member(id).unwrap().clone();
    member.router = vec!["http://192.0.2.1:9".parse().unwrap()];
    let last_log = leader.last_log().unwrap();
    cluster.network.cut(leader.peer.port());
    let change = tokio::spawn({
        let node = node.clone();
        async move { node.carry_out(&Step::ReplaceMember(member), applied.position).await }
    });
    eventually("the change is in its log", async || (leader.last_log() > Some(last_log)).then_some(())).await;

    // The others go on without it, and it comes back.
    let others = || cluster.seats.iter().filter(|seat| seat.id() != Some(id));
    let next = eventually("another one leads", async || others().find(|seat| seat.leads())).await;
    register(next.router, registration("edge-2", 1, 1)).await.unwrap();
    cluster.network.heal(leader.peer.port());
    let written = next.last_log();
    eventually("it has followed", async || {
        let status = node.status();
        let applied = status.borrow().applied.map(|applied| applied.index);
        (applied >= written).then_some(())
    })
    .await;
    assert!(change.await.unwrap().is_err(), "the change was not committed");

    // Whatever the router was sent meanwhile, the change was not in it.
    let (mut fresh, _) = Session::welcomed(leader.router, hello("edge-3", 1)).await;
    let after = fresh.adopt().await;
    assert_eq!((&after.controllers, after.version), (&before.controllers, before.version));
    session.say(pilothouse::proto::router::router_message::Kind::Heartbeat(Default::default())).await;
    for _ in 0..3 {
        if let Some(Ok(Kind::Update(update))) = session.next().await {
            assert_eq!(structured(&update).controllers, before.controllers);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_hands_leadership_over_says_goodbye_and_ends_in_time() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let (mut session, _) = Session::welcomed(cluster.seats[leader].router, hello("edge-1", 1)).await;
    session.adopt().await;
    let began = Instant::now();
    cluster.stop(leader).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(cluster.seats.iter().any(Seat::leads), "another one leads already: nobody had to wait for an election");
    let goodbye = session.goodbye().await;
    assert_eq!(goodbye.reason, "draining");
    assert!(goodbye.retry_after_ms > 0);
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    register(cluster.seats[next].router, registration("edge-1", 1, 1)).await.unwrap();

    // It comes back where it was, with everything that was acknowledged meanwhile.
    cluster.restart(leader).await;
    cluster.serves(leader).await;
    let node = cluster.seats[leader].running().backend().node();
    eventually("the registration is there", async || (node.read(|state| state.routers.len()) == 1).then_some(())).await;
    let (mut session, _) = Session::welcomed(cluster.seats[leader].router, hello("edge-1", 1)).await;
    assert_eq!(named(&session.adopt().await), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_restarted_alone_serves_no_session_before_it_has_caught_up() {
    let mut cluster = Cluster::of(3).await;
    let follower = cluster.follower().await;
    let seat = &cluster.seats[follower];
    cluster.network.cut(seat.peer.port());
    cluster.restart(follower).await;
    let seat = &cluster.seats[follower];
    let hub = seat.running().backend().hub().clone();
    eventually("it knows the list from its disk", async || hub.newest()).await;
    let refused = Session::open(seat.router, hello("edge-1", 1)).await.refused().await;
    assert_eq!(refused.reason, "not_ready");
    cluster.network.heal(seat.peer.port());
    cluster.serves(follower).await;
    let (mut session, _) = Session::welcomed(cluster.seats[follower].router, hello("edge-1", 1)).await;
    session.adopt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_before_anything_is_touched() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let file = pilothouse::controller::config::ControllerFile {
        name: Some("controller-1".into()),
        data_dir: Some("/nonexistent".into()),
        join: Some(true),
        listen: pilothouse::controller::config::ListenFile {
            peer: Some("127.0.0.1:0".into()),
            router: Some(address.to_string()),
            admin: Some("127.0.0.1:0".into()),
            http: Some("127.0.0.1:0".into()),
        },
        tls: pilothouse::tls::ControllerTlsFile::plain(),
        ..Default::default()
    };
    let refused = Listeners::bind(&file.validate().unwrap()).await.unwrap_err();
    assert!(matches!(refused, ControllerError::Bind { key: "listen.router", .. }));
    assert!(refused.to_string().contains(&address.to_string()) && refused.to_string().contains("another port"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_any_of_its_tasks_ends_a_controller_and_names_the_task() {
    let codec = Codec::with_encoder(|_, _| panic!("planted"));
    let mut cluster = Cluster::with(0, Parts { codec, ..Parts::default() }).await;
    let seat = cluster.founder_alone().await;
    let ended = tokio::time::timeout(PATIENCE, cluster.take(seat).until(CancellationToken::new())).await;
    let ended = ended.expect("it ends by itself").unwrap_err();
    assert!(matches!(&ended, ControllerError::Panicked { task: "list publication" }), "{ended}");
    assert!(ended.to_string().contains("list publication"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_session_ends_the_controller() {
    let planted = Arc::new(AtomicBool::new(false));
    let random: Arc<dyn Fn() -> u32 + Send + Sync> = Arc::new({
        let planted = planted.clone();
        move || if planted.load(Ordering::Relaxed) { panic!("planted") } else { 7 }
    });
    let raft = Seams { random, ..Seams::default() };
    let mut cluster = Cluster::with(1, Parts { raft, ..Parts::default() }).await;
    let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    session.adopt().await;
    let running = cluster.take(0);
    planted.store(true, Ordering::Relaxed);
    // A session draws by lot when it leaves.
    running.backend().hub().drain();
    let ended = tokio::time::timeout(PATIENCE, running.until(CancellationToken::new())).await;
    let ended = ended.expect("it ends by itself").unwrap_err();
    assert!(matches!(&ended, ControllerError::Panicked { task: "router session" }), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_does_not_name_the_leader_that_it_has_lost() {
    let pace = Pace { heartbeat: Duration::from_millis(100), ..Pace::default() };
    let cluster = Cluster::with(3, Parts { pace, ..Parts::default() }).await;
    let follower = &cluster.seats[cluster.follower().await];
    let (mut session, welcome) = Session::welcomed(follower.router, hello("edge-1", 1)).await;
    assert_ne!(welcome.leader_hint, 0);
    cluster.network.cut(follower.peer.port());
    let hint = eventually("it says so in a heartbeat", async || {
        session.say(Says::Heartbeat(Default::default())).await;
        match session.next().await {
            Some(Ok(Kind::Heartbeat(heartbeat))) => {
                let lost = heartbeat.leader_contact_age_ms > 5_000;
                assert!(heartbeat.leader_contact_age_ms > 4_000 || heartbeat.leader_hint != 0, "{heartbeat:?}");
                lost.then_some(heartbeat.leader_hint)
            }
            _ => None,
        }
    })
    .await;
    assert_eq!(hint, 0);
    let (_fresh, welcome) = Session::welcomed(follower.router, hello("edge-2", 1)).await;
    assert_eq!(welcome.leader_hint, 0);
    // Forwarded so often that it answers from what it knows itself.
    let mut asked = AdminClient::forwarding(&[endpoint(follower.admin)], None, 3, Security::default());
    assert_eq!(asked.status().await.unwrap().leader, 0);
}
