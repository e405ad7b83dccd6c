//! Sessions: what routers are told, and what operators are told of them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use pilothouse::controller::Parts;
use pilothouse::domain::negotiation::ProtocolRange;
use pilothouse::ops::events::{Event, Severity, Subject};
use pilothouse::proto::admin::{AddMember, ListRoutersRequest, RouterStatus, change_request::Change};
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::proto::router::{Ack, FlatList, HeldVersion, Hello, Nack, RouterHeartbeat, WatchRequest};
use pilothouse::rpc::list_codec::{self, Codec};
use pilothouse::rpc::router_service::Pace;
use pilothouse::rpc::status::reason_of;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tonic::Code;

use super::cluster::{Cluster, Seat, eventually};
use super::router::{Session, client, hello, named, register, registration, structured};

async fn shown(seat: &Seat, router: &str) -> Option<RouterStatus> {
    let only = ListRoutersRequest { only: router.to_owned(), ..Default::default() };
    seat.admin_client().await.list_routers(only).await.unwrap().routers.pop()
}

fn quick() -> Parts {
    let pace = Pace { hello: Duration::from_millis(200), heartbeat: Duration::from_millis(100), ..Pace::default() };
    Parts { pace, ..Parts::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_router_acknowledges_is_shown_by_every_controller() {
    let cluster = Cluster::of(3).await;
    register(cluster.seats[0].router, registration("edge-1", 1, 1)).await.unwrap();
    let (mut first, welcome) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    let (mut second, _) = Session::welcomed(cluster.seats[1].router, hello("edge-1", 1)).await;
    assert_eq!((welcome.protocol, welcome.controller_id, welcome.heartbeat_ms), (2, 1, 1000));
    let list = first.adopt().await;
    assert_eq!(named(&list), [1, 2, 3]);
    assert_eq!(named(&second.adopt().await), [1, 2, 3]);
    let version = list.version.unwrap();
    for seat in &cluster.seats {
        let router = eventually("the acknowledgement is shown", async || {
            shown(seat, "edge-1").await.filter(|router| router.current && router.controllers == [1, 2])
        })
        .await;
        assert_eq!(router.held, format!("{}.{}", version.epoch, version.index));
        assert_eq!((router.protocol, router.registered, router.last_refusal.as_str()), (2, true, ""));
        assert!(router.last_heard_ms.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_never_comes_ends_the_stream_with_its_reason() {
    let cluster = Cluster::with(1, quick()).await;
    let mut session = Session::silent(cluster.seats[0].router).await;
    let refused = session.refused().await;
    assert_eq!(refused.reason, "no_hello");
    assert!(session.next().await.is_none());
    assert_eq!(cluster.seats[0].running().backend().hub().session_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_without_a_version_gets_protocol_1() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    let old = Hello { router_id: "old-1".into(), ..Hello::default() };
    let (mut session, welcome) = Session::welcomed(seat.router, old).await;
    assert_eq!(welcome.protocol, 1);
    let update = session.update().await;
    assert_eq!(update.protocol, 1);
    let list = FlatList::decode(update.list).unwrap();
    assert_eq!(list.addresses, [format!("http://{}", seat.router)]);
    assert_eq!(list.index >> 32, 1);
    let before = shown(seat, "old-1").await.unwrap();
    assert_eq!((before.protocol, before.held.as_str(), before.current), (1, "", false));

    // It knows no versions: what it acknowledges is what it holds, and a heartbeat without one changes nothing.
    session.say(Says::Heartbeat(RouterHeartbeat::default())).await;
    session.say(Says::Ack(Ack { nonce: update.nonce, ..Ack::default() })).await;
    session.say(Says::Heartbeat(RouterHeartbeat { source: "told twice".into(), ..Default::default() })).await;
    let held = eventually("the heartbeat after it was heard", async || {
        shown(seat, "old-1").await.filter(|router| router.source == "told twice")
    })
    .await;
    let newest = seat.running().backend().hub().newest().unwrap();
    assert_eq!((held.held, held.current), (newest.held().list.version().to_string(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_hellos_are_refused_in_the_protocols_own_words() {
    let cluster = Cluster::of(1).await;
    let port = cluster.seats[0].router;
    for (router, says) in [("", "router id is empty"), (&*"x".repeat(10_240), "10240 bytes"), ("a/b", "'/'")] {
        let refused = Session::open(port, hello(router, 1)).await.refused().await;
        assert_eq!(refused.reason, "invalid");
        assert!(refused.message.contains(says), "{}", refused.message);
    }
    let newer = Hello { protocol_min: 7, protocol_max: 9, ..hello("edge-1", 1) };
    let refused = Session::open(port, newer).await.refused().await;
    assert_eq!((refused.reason.as_str(), refused.supported_min, refused.supported_max), ("no_common_protocol", 1, 2));
    assert!(refused.message.contains("7 to 9") && !refused.hint.is_empty());
    assert_eq!((refused.offered_min, refused.offered_max), (7, 9));
    let needy = Hello { required_capabilities: vec!["endorsed-lists".into()], ..hello("edge-1", 1) };
    let refused = Session::open(port, needy).await.refused().await;
    assert_eq!((refused.reason.as_str(), refused.supported_min, refused.supported_max), ("missing_capability", 1, 2));
    assert_eq!(refused.missing_capabilities, ["endorsed-lists"]);
    assert!(refused.message.contains("endorsed-lists") && !refused.hint.is_empty(), "{refused:?}");
    let many = Hello { required_capabilities: (0..65).map(|n| n.to_string()).collect(), ..hello("edge-1", 1) };
    assert_eq!(Session::open(port, many).await.refused().await.reason, "invalid");

    let mut early = Session::silent(port).await;
    early.say(Says::Heartbeat(RouterHeartbeat::default())).await;
    assert_eq!(early.refused().await.reason, "invalid");

    let (mut twice, _) = Session::welcomed(port, hello("edge-1", 1)).await;
    twice.adopt().await;
    twice.say(Says::Hello(hello("edge-1", 1))).await;
    assert_eq!(twice.refused().await.reason, "invalid");
    assert!(twice.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_list_is_an_event_and_is_shown_to_operators() {
    let cluster = Cluster::of(3).await;
    let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    let update = session.update().await;
    let nack = Nack {
        nonce: update.nonce,
        reason: "foreign_cluster".into(),
        message: "of another cluster".into(),
        ..Nack::default()
    };
    session.say(Says::Nack(nack)).await;
    for seat in &cluster.seats {
        eventually("the refusal is shown", async || {
            shown(seat, "edge-1").await.filter(|router| router.last_refusal == "foreign_cluster")
        })
        .await;
    }
    let events = cluster.seats[0].running().events().kept();
    assert!(events.iter().any(|e| matches!(&e.event, Event::RouterRefused { router, .. } if router == "edge-1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_believed_that_an_offer_was_only_late_where_that_can_be() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    for (reason, router, severity) in
        [("stale", "edge-1", Severity::Info), ("foreign_cluster", "edge-2", Severity::Warning)]
    {
        let (mut session, _) = Session::welcomed(seat.router, hello(router, 1)).await;
        let nonce = session.update().await.nonce;
        session.say(Says::Nack(Nack { nonce, reason: reason.into(), late: true, ..Nack::default() })).await;
        let refused = eventually("it is an event", async || {
            let kept = seat.running().events().kept();
            kept.into_iter().find(|kept| kept.event.subject() == Subject::Router(router.into()))
        })
        .await;
        assert_eq!(refused.event.severity(), severity, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sessions_with_one_id_the_newer_stays() {
    let cluster = Cluster::of(2).await;
    let seat = &cluster.seats[0];
    let (mut older, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
    let (mut elsewhere, _) = Session::welcomed(cluster.seats[1].router, hello("edge-1", 1)).await;
    let (mut reconnected, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
    assert_eq!(older.goodbye().await.reason, "superseded");
    let superseded = || {
        let kept = seat.running().events().kept();
        kept.iter().filter(|e| matches!(e.event, Event::SessionSuperseded { .. })).count()
    };
    assert_eq!(superseded(), 0, "a reconnect of the same boot is no event");
    let (mut newer, _) = Session::welcomed(seat.router, hello("edge-1", 2)).await;
    assert_eq!(reconnected.goodbye().await.reason, "superseded");
    assert_eq!(superseded(), 1);
    newer.adopt().await;
    elsewhere.adopt().await;
    assert_eq!(shown(seat, "edge-1").await.unwrap().controllers, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_push_heals_with_the_next_heartbeat() {
    let cluster = Cluster::with(1, quick()).await;
    let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    let lost = session.update().await;
    eventually("the list comes again", async || {
        session.say(Says::Heartbeat(RouterHeartbeat::default())).await;
        match session.next().await {
            Some(Ok(pilothouse::proto::router::controller_message::Kind::Update(again))) => {
                assert!(again.nonce > lost.nonce);
                assert_eq!((&again.list, &again.digest), (&lost.list, &lost.digest));
                Some(())
            }
            Some(Ok(pilothouse::proto::router::controller_message::Kind::Heartbeat(heartbeat))) => {
                assert_eq!(heartbeat.digest, lost.digest);
                assert!(heartbeat.leader_contact_age_ms < 5_000);
                None
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_holds_a_newer_list_is_not_offered_an_older_one() {
    let cluster = Cluster::with(1, quick()).await;
    let port = cluster.seats[0].router;
    let (mut first, _) = Session::welcomed(port, hello("edge-1", 1)).await;
    let list = first.adopt().await;
    let mut version = list.version.unwrap();
    version.index += 100;
    let held = HeldVersion { cluster_id: list.cluster_id, version: Some(version), digest: None };
    let (mut second, _) = Session::welcomed(port, Hello { held: Some(held), ..hello("edge-2", 1) }).await;
    for _ in 0..5 {
        let next = second.next().await;
        assert!(
            matches!(next, Some(Ok(pilothouse::proto::router::controller_message::Kind::Heartbeat(_)))),
            "{next:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_the_list_and_every_later_one() {
    let mut cluster = Cluster::of(1).await;
    let watch = WatchRequest { router_id: String::new(), protocol_min: 2, protocol_max: 2 };
    let mut updates = client(cluster.seats[0].router).await.watch(watch).await.unwrap().into_inner();
    assert_eq!(named(&structured(&updates.message().await.unwrap().unwrap())), [1]);
    let newcomer = cluster.newcomer("controller-9").await;
    let peer = format!("http://{}", cluster.seats[newcomer].peer);
    cluster.change(0, Change::Add(AddMember { peer })).await.unwrap();
    assert_eq!(named(&structured(&updates.message().await.unwrap().unwrap())), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stuck_router_does_not_delay_the_others_and_loses_its_seat() {
    let pace = Pace { send: Duration::from_secs(2), ..quick().pace };
    let mut cluster = Cluster::with(1, Parts { pace, ..Parts::default() }).await;
    let port = cluster.seats[0].router;
    // It takes a few bytes, then nothing any more: whatever is sent to it waits.
    let narrow = tonic::transport::Endpoint::from_shared(format!("http://{port}")).unwrap();
    let channel = narrow.initial_stream_window_size(8).connect().await.unwrap();
    let stuck = Session::over(channel).await;
    stuck.say(Says::Hello(hello("stuck", 1))).await;
    let hub = cluster.seats[0].running().backend().hub().clone();
    eventually("it has its seat", async || (hub.session_count() == 1).then_some(())).await;

    let mut others = Vec::new();
    for n in 0..20 {
        let (mut session, _) = Session::welcomed(port, hello(&format!("edge-{n}"), 1)).await;
        session.adopt().await;
        others.push(session);
    }
    let newcomer = cluster.newcomer("controller-9").await;
    let peer = format!("http://{}", cluster.seats[newcomer].peer);
    let began = std::time::Instant::now();
    cluster.change(0, Change::Add(AddMember { peer })).await.unwrap();
    for session in &mut others {
        session.adopt_until(&[1, 2]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let stuck = || hub.sessions().iter().any(|session| session.router.as_str() == "stuck");
    eventually("the stuck one loses its seat", async || (!stuck()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_its_limit_ends_its_stream_only() {
    let cluster = Cluster::of(1).await;
    let port = cluster.seats[0].router;
    let (mut other, _) = Session::welcomed(port, hello("edge-2", 1)).await;
    let (mut session, _) = Session::welcomed(port, hello("edge-1", 1)).await;
    session.adopt().await;
    let heartbeat = RouterHeartbeat { source: "x".repeat(300 * 1024), ..Default::default() };
    session.say(Says::Heartbeat(heartbeat)).await;
    let status = loop {
        match session.next().await.expect("the stream ends with a status") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("256 KiB"), "{status}");
    other.adopt().await;
    let mut heavy = registration("edge-3", 1, 1);
    heavy.software_version = "x".repeat(300 * 1024);
    assert_eq!(register(port, heavy).await.unwrap_err().code(), Code::OutOfRange);
    register(port, registration("edge-3", 1, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_port_disturbs_nobody() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    let (mut session, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
    for port in [seat.peer, seat.router, seat.admin, seat.http] {
        for garbage in [&b"\xff\x00\x13garbage"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 100_000]] {
            throw(port, garbage).await;
        }
    }
    session.adopt().await;
    register(seat.router, registration("edge-1", 1, 1)).await.unwrap();
    assert_eq!(seat.admin_client().await.status().await.unwrap().leader, 1);
}

/// Writes bytes that are no request, and reads until the other side has enough of it.
async fn throw(port: SocketAddr, garbage: &[u8]) {
    let mut stream = tokio::net::TcpStream::connect(port).await.unwrap();
    // The other side may close at any moment, which is its good right.
    let _ = stream.write_all(garbage).await;
    let _ = stream.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_says_nothing_loses_its_seat_and_one_that_does_keeps_it() {
    let cluster = Cluster::with(1, quick()).await;
    let port = cluster.seats[0].router;
    let (talking, _) = Session::welcomed(port, hello("edge-1", 1)).await;
    let (mut mute, _) = Session::welcomed(port, hello("edge-2", 1)).await;
    let ended = eventually("the mute one is ended", async || {
        talking.say(Says::Heartbeat(RouterHeartbeat::default())).await;
        mute.next().await.expect("with a status").err()
    })
    .await;
    assert_eq!((ended.code(), reason_of(&ended)), (Code::DeadlineExceeded, Some("mute")), "{ended}");
    let hub = cluster.seats[0].running().backend().hub().clone();
    eventually("its seat is free", async || (hub.session_count() == 1).then_some(())).await;
    assert_eq!(hub.sessions()[0].router.as_str(), "edge-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_nothing_that_was_offered_ends_the_session_without_an_event() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    let refusals = || {
        let kept = seat.running().events().kept();
        kept.iter().filter(|e| matches!(e.event, Event::RouterRefused { .. })).count()
    };
    for (nonces, events) in [(vec![0], 0), (vec![99], 0), (vec![1, 1, 1], 1)] {
        let (mut session, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
        assert_eq!(session.update().await.nonce, 1);
        let before = refusals();
        for nonce in &nonces {
            session.say(Says::Nack(Nack { nonce: *nonce, reason: "stale".into(), ..Nack::default() })).await;
        }
        let ended = eventually("it ends", async || session.next().await.expect("with a status").err()).await;
        assert_eq!((ended.code(), reason_of(&ended)), (Code::InvalidArgument, Some("invalid")), "{ended}");
        assert_eq!(refusals() - before, events, "{nonces:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_routers_with_one_id_on_two_controllers_the_one_that_registered_last_stays() {
    let cluster = Cluster::of(2).await;
    let [first, second] = [&cluster.seats[0], &cluster.seats[1]];
    let superseded = |seat: &Seat| {
        let kept = seat.running().events().kept();
        kept.iter().filter(|e| matches!(e.event, Event::SessionSuperseded { .. })).count()
    };
    register(first.router, registration("edge-1", 1, 1)).await.unwrap();
    let (mut older, _) = Session::welcomed(first.router, hello("edge-1", 1)).await;
    let (mut other, _) = Session::welcomed(first.router, hello("edge-2", 1)).await;
    older.adopt().await;
    let (mut newer, _) = Session::welcomed(second.router, hello("edge-1", 2)).await;
    newer.adopt().await;
    register(second.router, registration("edge-1", 2, 1)).await.unwrap();
    assert_eq!(older.goodbye().await.reason, "superseded");
    assert_eq!((superseded(first), superseded(second)), (1, 0));

    // It does not come back in the place of the other, wherever it tries.
    for seat in [first, second] {
        let (mut again, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
        assert_eq!(again.goodbye().await.reason, "superseded");
    }
    assert_eq!((superseded(first), superseded(second)), (2, 1));
    eventually("one session of it is left", async || {
        let controllers = shown(first, "edge-1").await.unwrap().controllers;
        (controllers == [second.id().unwrap().get()]).then_some(())
    })
    .await;
    other.adopt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_encoder_lets_nothing_out() {
    for wrong in ProtocolRange::SUPPORTED.versions() {
        withholds(Codec::with_encoder(move |list, protocol| {
            if protocol == wrong { Bytes::new() } else { list_codec::encode(list, protocol) }
        }))
        .await;
    }
}

async fn withholds(codec: Codec) {
    let mut cluster = Cluster::with(0, Parts { codec, ..Parts::default() }).await;
    let seat = cluster.founder_alone().await;
    let running = cluster.seats[seat].running();
    eventually("the list is withheld", async || {
        let kept = running.events().kept();
        kept.iter().any(|e| matches!(e.event, Event::PublicationWithheld { .. })).then_some(())
    })
    .await;
    let refused = Session::open(cluster.seats[seat].router, hello("edge-1", 1)).await.refused().await;
    assert_eq!(refused.reason, "not_ready");
    assert!(refused.retry_after_ms > 0);
}
