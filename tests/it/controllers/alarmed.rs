//! Alarms stand in nobody's way: a controller whose webhook hangs registers routers and offers them lists as ever.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilothouse::domain::ids::RouterId;
use pilothouse::ops::alerts::{POST_MAX, SEEN_FOR};
use pilothouse::proto::router::register_response::Effect;
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::proto::router::{Conditions, EventReport, Nack, ReportedEvent, RouterHeartbeat};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::cluster::{Cluster, PATIENCE, eventually};
use super::router::{Session, hello, register, registration};
use crate::support::http::get;

/// Less than one post that hangs takes.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_hangs_holds_up_no_registration_and_no_list() {
    assert!(AT_ONCE < POST_MAX);
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hangs.local_addr().unwrap());
    let mut cluster = Cluster::of(1).await;
    cluster.restart_alarming(0, &url).await;
    let seat = &cluster.seats[0];
    let (mut session, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
    let nonce = session.update().await.nonce;
    session.say(Says::Nack(Nack { nonce, reason: "foreign_cluster".into(), ..Nack::default() })).await;
    let (mut stream, _) = tokio::time::timeout(PATIENCE, hangs.accept()).await.unwrap().unwrap();
    let mut begun = [0; 4];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"POST", "an alarm is under way, and is not answered");

    let began = Instant::now();
    for number in 2..12 {
        let request = registration(&format!("edge-{number}"), 1, 1);
        assert_eq!(register(seat.router, request).await.unwrap(), Effect::New);
    }
    let (mut other, _) = Session::welcomed(seat.router, hello("edge-2", 1)).await;
    other.update().await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// One alert of the next request, which is answered.
async fn posted(webhook: &TcpListener) -> serde_json::Value {
    let (mut stream, _) = webhook.accept().await.unwrap();
    let mut read = String::new();
    loop {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).await.unwrap();
        read.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        let Some((head, body)) = read.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            return serde_json::from_str(body).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_router_reports_alarms_through_its_controller_in_its_own_name() {
    let webhook = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", webhook.local_addr().unwrap());
    let mut cluster = Cluster::of(1).await;
    cluster.restart_alarming(0, &url).await;
    let (session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    let told = [event(1, "once", "info", "removed"), event(2, "began", "error", "not_saved")];
    let report = EventReport { instance: 7, dropped: 0, events: told.into() };
    session.say(Says::Events(report.clone())).await;
    let alerts = tokio::time::timeout(PATIENCE, posted(&webhook)).await.unwrap();
    assert_eq!(alerts.as_array().unwrap().len(), 1, "mere facts alarm nobody: {alerts}");
    let labels = &alerts[0]["labels"];
    assert_eq!((&labels["alertname"], &labels["instance"]), (&"NotSaved".into(), &"router edge-1".into()), "{alerts}");
}

fn event(number: u64, phase: &str, severity: &str, code: &str) -> ReportedEvent {
    ReportedEvent {
        number,
        at_ms: 1_700_000_000_000,
        phase: phase.into(),
        severity: severity.into(),
        code: code.into(),
        subject: "router edge-9".into(),
        message: "adopted a list in memory only".into(),
        ..ReportedEvent::default()
    }
}

/// What a router's heartbeat tells of a condition.
fn lasts() -> Says {
    let events = vec![event(2, "began", "error", "not_saved")];
    Says::Heartbeat(RouterHeartbeat { conditions: Some(Conditions { instance: 7, events }), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_reports_when_it_is_over_still_alarms_for_longer_than_a_round_trip() {
    let webhook = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", webhook.local_addr().unwrap());
    let mut cluster = Cluster::of(1).await;
    cluster.restart_alarming(0, &url).await;
    let (session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    let told = ["began", "over"].map(|phase| event(1 + u64::from(phase == "over"), phase, "error", "not_reachable"));
    session.say(Says::Events(EventReport { instance: 7, dropped: 0, events: told.into() })).await;
    let alerts = tokio::time::timeout(PATIENCE, posted(&webhook)).await.unwrap();
    assert_eq!(&alerts[0]["labels"]["alertname"], "NotReachable");
    let seen = (OffsetDateTime::now_utc() + SEEN_FOR).format(&Rfc3339).unwrap();
    assert!(alerts[0]["endsAt"].as_str().unwrap() > seen.as_str(), "{alerts}");
    // Its end does not follow at once.
    let end = tokio::time::timeout(AT_ONCE, posted(&webhook)).await;
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_starts_again_alarms_of_what_its_routers_say_lasts() {
    let webhook = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", webhook.local_addr().unwrap());
    let mut cluster = Cluster::of(1).await;
    let mut alerts = Vec::new();
    for _ in 0..2 {
        cluster.restart_alarming(0, &url).await;
        let (session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
        // The event of its beginning was taken long ago, maybe by another controller.
        session.say(lasts()).await;
        alerts.push(tokio::time::timeout(PATIENCE, posted(&webhook)).await.unwrap());
    }
    assert_eq!(&alerts[0][0]["labels"]["instance"], "router edge-1");
    for name in ["labels", "startsAt"] {
        assert_eq!(alerts[0][0][name], alerts[1][0][name], "it is the same alert");
    }
}

/// A session of a router on which something lasts, until it is aborted.
async fn stay(controller: SocketAddr, router: &'static str) {
    let (mut session, _) = Session::welcomed(controller, hello(router, 1)).await;
    // Told once, as routers do.
    session.say(lasts()).await;
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = beat.tick() => session.say(Says::Heartbeat(RouterHeartbeat::default())).await,
            heard = session.next() => assert!(heard.is_some_and(|heard| heard.is_ok()), "it stays"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_moves_is_alarmed_of_by_its_new_controller_and_one_that_is_away_by_its_last() {
    let webhook = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", webhook.local_addr().unwrap());
    let posts = tokio::spawn(async move { while posted(&webhook).await.is_array() {} });
    let mut cluster = Cluster::of(3).await;
    cluster.restart_alarming(0, &url).await;
    let seats = &cluster.seats;
    let mut here = Vec::new();
    for router in ["moves", "away", "both"] {
        assert_eq!(register(seats[0].router, registration(router, 1, 1)).await.unwrap(), Effect::New);
        here.push(tokio::spawn(stay(seats[0].router, router)));
    }
    let alarms = |count: u64| async move {
        eventually(&format!("{count} alarms last"), async || {
            let metrics = get(seats[0].http.port(), "/metrics").await.ok()?.1;
            metrics.lines().any(|line| line == format!("pilothouse_alerts_waiting {count}")).then_some(())
        })
        .await;
    };
    alarms(3).await;
    let both = tokio::spawn(stay(seats[1].router, "both"));
    here.drain(..2).for_each(|session| session.abort());
    let moved = tokio::spawn(stay(seats[1].router, "moves"));
    alarms(2).await;
    assert!(seats[0].admin_client().await.forget(&RouterId::new("away").unwrap()).await.unwrap());
    alarms(1).await;
    here.drain(..).for_each(|session| session.abort());
    alarms(0).await;
    for task in [both, moved, posts] {
        task.abort();
    }
}
