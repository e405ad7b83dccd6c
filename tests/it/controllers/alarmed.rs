//! Alarms stand in nobody's way: a controller whose webhook hangs registers routers and offers them lists as ever.

use std::time::{Duration, Instant};

use pilothouse::ops::alerts::POST_MAX;
use pilothouse::proto::router::register_response::Effect;
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::proto::router::{EventReport, Nack, ReportedEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::cluster::{Cluster, PATIENCE};
use super::router::{Session, hello, register, registration};

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
    let event = |number, phase: &str, severity: &str, code: &str| ReportedEvent {
        number,
        at_ms: 1_700_000_000_000,
        phase: phase.into(),
        severity: severity.into(),
        code: code.into(),
        subject: "router edge-9".into(),
        message: "adopted a list in memory only".into(),
        ..ReportedEvent::default()
    };
    let told = [event(1, "once", "info", "removed"), event(2, "began", "error", "not_saved")];
    let report = EventReport { instance: 7, dropped: 0, events: told.into() };
    session.say(Says::Events(report.clone())).await;
    let alerts = tokio::time::timeout(PATIENCE, posted(&webhook)).await.unwrap();
    assert_eq!(alerts.as_array().unwrap().len(), 1, "mere facts alarm nobody: {alerts}");
    let labels = &alerts[0]["labels"];
    assert_eq!((&labels["alertname"], &labels["instance"]), (&"NotSaved".into(), &"router edge-1".into()), "{alerts}");
    let fires = alerts[0]["endsAt"].as_str().unwrap().to_owned();

    // It comes once more, since its answer was lost, and then it is over.
    session.say(Says::Events(report)).await;
    let over = EventReport { instance: 7, dropped: 0, events: vec![event(3, "over", "error", "not_saved")] };
    session.say(Says::Events(over)).await;
    let alerts = tokio::time::timeout(PATIENCE, posted(&webhook)).await.unwrap();
    assert_eq!(&alerts[0]["labels"]["alertname"], "NotSaved");
    assert!(alerts[0]["endsAt"].as_str().unwrap() < fires.as_str(), "{alerts} after {fires}");
}
