//! Alarms stand in nobody's way: a controller whose webhook hangs registers routers and offers them lists as ever.

use std::time::{Duration, Instant};

use pilothouse::ops::alerts::POST_MAX;
use pilothouse::proto::router::Nack;
use pilothouse::proto::router::register_response::Effect;
use pilothouse::proto::router::router_message::Kind as Says;
use tokio::io::AsyncReadExt;
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
