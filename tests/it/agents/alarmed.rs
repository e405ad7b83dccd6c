//! Alarms stand in nobody's way: a router whose webhook hangs, or is down, adopts and refuses lists as ever.

use std::time::{Duration, Instant};

use pilothouse::ops::alerts::{AlertsConfig, POST_MAX};
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::router::Agent;
use pilothouse::router::config::RouterConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::scripted::{CLUSTER, Controller, Manner, offer};
use super::{becomes, config, holds, parts};
use crate::support::SOON;

/// Less than one post that hangs takes.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn lists_are_judged_at_once(alerts: AlertsConfig) {
    assert!(AT_ONCE < POST_MAX);
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    let me = (1, &controller.endpoint);
    let config = RouterConfig { alerts: Some(alerts), ..config(dir.path(), &[&controller.endpoint], 1) };
    let agent = Agent::start(config, parts()).await.unwrap();
    controller.offers(offer(1, CLUSTER, 5, &[me])).await;
    controller.hears_ack(1).await;
    let began = Instant::now();
    for nonce in 2..10 {
        controller.says_once(Kind::Update(offer(nonce, CLUSTER, 9, &[]))).await;
        controller.hears_nack(nonce).await;
    }
    let before = agent.events().kept().len();
    assert!(before >= 8, "each refusal is an event");
    controller.offers(offer(10, CLUSTER, 9, &[me])).await;
    becomes(&agent, "it holds the newer list", |status| holds(status, "1.9")).await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_webhook_that_hangs_holds_up_no_list() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hangs.local_addr().unwrap());
    let listening = tokio::spawn(async move {
        let (mut stream, _) = hangs.accept().await.unwrap();
        let mut begun = [0; 4];
        stream.read_exact(&mut begun).await.unwrap();
        (begun, stream)
    });
    lists_are_judged_at_once(AlertsConfig::to(url.parse().unwrap())).await;
    let (begun, _) = tokio::time::timeout(SOON, listening).await.unwrap().unwrap();
    assert_eq!(&begun, b"POST", "it was asked, and did not answer");
}

#[tokio::test]
async fn a_webhook_that_is_down_holds_up_no_list() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    lists_are_judged_at_once(AlertsConfig::to(format!("http://{gone}").parse().unwrap())).await;
}
