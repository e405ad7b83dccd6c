//! Banned routers: their sessions end on every controller, nobody takes them, and a lifted ban leaves nothing behind.

use std::time::{Duration, Instant};

use pilothouse::domain::ids::RouterId;
use pilothouse::proto::admin::ListRoutersRequest;
use pilothouse::proto::router::WatchRequest;
use pilothouse::proto::router::register_response::Effect;
use pilothouse::router::config::RouterFile;
use pilothouse::router::{Agent, Parts, Timing};
use pilothouse::rpc::status::reason_of;
use tonic::Code;

use super::cluster::{Cluster, eventually};
use super::router::{Session, client, hello, register, registration};

/// A ban ends live sessions within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_ends_the_sessions_of_its_router_on_every_controller_and_nobody_takes_it_until_it_is_lifted() {
    let cluster = Cluster::of(3).await;
    let edge = RouterId::new("edge-1").unwrap();
    register(cluster.seats[0].router, registration("edge-1", 1, 1)).await.unwrap();
    let (mut banned, mut others) = (Vec::new(), Vec::new());
    for (n, seat) in cluster.seats.iter().enumerate() {
        let (mut session, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
        session.adopt().await;
        banned.push(session);
        others.push(Session::welcomed(seat.router, hello(&format!("other-{n}"), 1)).await.0);
    }

    let watch = WatchRequest { router_id: "edge-1".into(), protocol_min: 2, protocol_max: 2 };
    let mut watched = client(cluster.seats[0].router).await.watch(watch.clone()).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());

    let mut operator = cluster.seats[cluster.follower().await].admin_client().await;
    assert!(operator.ban(&edge).await.unwrap(), "it was registered");
    let began = Instant::now();
    for mut session in banned {
        let goodbye = session.goodbye().await;
        assert_eq!(goodbye.reason, "banned");
        assert!(goodbye.hint.contains("pilothouse routers allow") && goodbye.retry_after_ms > 0, "{goodbye:?}");
    }
    assert_eq!(reason_of(&watched.message().await.unwrap_err()), Some("banned"));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(!operator.ban(&edge).await.unwrap(), "once more changes nothing");

    for seat in &cluster.seats {
        let refused = register(seat.router, registration("edge-1", 2, 1)).await.unwrap_err();
        assert_eq!((refused.code(), reason_of(&refused)), (Code::PermissionDenied, Some("banned")), "{refused}");
        assert!(refused.message().contains("pilothouse routers allow"), "{refused}");
        let refused = Session::open(seat.router, hello("edge-1", 2)).await.refused().await;
        assert_eq!(refused.reason, "banned");
        let refused = client(seat.router).await.watch(watch.clone()).await.unwrap_err();
        assert_eq!(reason_of(&refused), Some("banned"));
        let listed = seat.admin_client().await.list_routers(ListRoutersRequest::default()).await.unwrap().routers;
        let shown = listed.iter().find(|router| router.id == "edge-1").unwrap();
        assert!(shown.banned && !shown.registered && shown.controllers.is_empty(), "{shown:?}");
    }
    for session in &mut others {
        session.adopt().await;
    }

    assert!(operator.allow(&edge).await.unwrap());
    assert!(!operator.allow(&edge).await.unwrap());
    for (n, seat) in (1..).zip(&cluster.seats) {
        let lifted = || seat.running().backend().node().read(|state| !state.banned.contains(&edge));
        eventually("the ban is lifted here too", async || lifted().then_some(())).await;
        let expected = if n == 1 { Effect::New } else { Effect::Updated };
        assert_eq!(register(seat.router, registration("edge-1", 2, n)).await.unwrap(), expected);
        let (mut session, _) = Session::welcomed(seat.router, hello("edge-1", 2)).await;
        session.adopt().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_outlives_a_restart_and_reaches_a_router_that_was_never_here() {
    let mut cluster = Cluster::of(1).await;
    let edge = RouterId::new("edge-1").unwrap();
    let mut operator = cluster.seats[0].admin_client().await;
    assert!(!operator.ban(&edge).await.unwrap(), "it was never registered, and is banned all the same");
    cluster.restart(0).await;
    cluster.serves(0).await;
    let refused = Session::open(cluster.seats[0].router, hello("edge-1", 1)).await.refused().await;
    assert_eq!(refused.reason, "banned");
    let only = ListRoutersRequest { only: "edge-1".into(), ..Default::default() };
    let mut operator = cluster.seats[0].admin_client().await;
    assert!(operator.list_routers(only).await.unwrap().routers[0].banned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_router_stays_up_with_its_list_and_comes_back_by_itself_once_it_is_allowed() {
    let cluster = Cluster::of(3).await;
    let directory = tempfile::tempdir().unwrap();
    let file = RouterFile {
        id: Some("edge-1".into()),
        data_dir: Some(directory.path().into()),
        seeds: cluster.seats.iter().map(|seat| format!("http://{}", seat.router)).collect(),
        tls: pilothouse::tls::TlsFile::plain(),
        ..RouterFile::default()
    };
    let timing = Timing { retry_after_max: Duration::from_millis(300), ..Timing::DEFAULT };
    let parts = Parts { timing, ..Parts::default() };
    let router = Agent::start(file.validate().unwrap(), parts).await.unwrap();
    let status = router.status();
    eventually("it has its sessions", async || (status.borrow().sessions.len() == 2).then_some(())).await;
    let live = || cluster.seats.iter().map(|seat| seat.running().backend().hub().session_count()).sum::<usize>();
    eventually("on two controllers", async || (live() == 2 && status.borrow().registered).then_some(())).await;
    let held = || status.borrow().held.as_ref().map(|held| held.version_text.clone());
    let before = eventually("it holds a list", async || held()).await;

    let edge = RouterId::new("edge-1").unwrap();
    let mut operator = cluster.seats[0].admin_client().await;
    assert!(operator.ban(&edge).await.unwrap());
    eventually("no session is left", async || (live() == 0).then_some(())).await;
    assert_eq!(held(), Some(before), "it keeps its list");
    assert!(operator.allow(&edge).await.unwrap());
    eventually("it is back", async || (live() == 2).then_some(())).await;
    let registered = || cluster.seats[0].running().backend().node().read(|state| state.routers.contains_key(&edge));
    eventually("and registered", async || registered().then_some(())).await;
    router.stop().await;
}
