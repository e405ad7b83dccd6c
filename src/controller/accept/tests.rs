//! Connections that are counted, that say nothing, and that are closed by their handles.

use futures::{StreamExt, poll};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;

/// Connections that a test makes.
struct Made(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

/// Says at once who it is, or never.
#[derive(Clone)]
struct Says(Option<Caller>);

impl Gate for Says {
    type From = DuplexStream;
    type Io = DuplexStream;

    async fn open(&self, io: DuplexStream) -> io::Result<(DuplexStream, Caller)> {
        match &self.0 {
            Some(caller) => Ok((io, caller.clone())),
            None => std::future::pending().await,
        }
    }
}

const PLAIN: Says = Says(Some(Caller::Plain));

impl Listen for Made {
    type Io = DuplexStream;

    async fn accept_one(&self) -> io::Result<DuplexStream> {
        self.0.lock().await.recv().await.ok_or_else(|| io::Error::other("no more"))
    }
}

fn listener() -> (mpsc::Sender<DuplexStream>, Made) {
    let (dial, made) = mpsc::channel(8);
    (dial, Made(made.into()))
}

async fn dial(to: &mpsc::Sender<DuplexStream>) -> DuplexStream {
    let (here, there) = duplex(64);
    to.send(there).await.unwrap();
    here
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_one_that_did_is_not() {
    let (to, made) = listener();
    let connections =
        Connections::new(Limits { first_bytes: Duration::from_millis(50), ..Limits::of(8) }, Counter::default());
    let mut incoming = std::pin::pin!(connections.incoming(made, PLAIN));
    let _silent = dial(&to).await;
    let mut first = incoming.next().await.unwrap().unwrap();
    let mut talking = dial(&to).await;
    let mut second = incoming.next().await.unwrap().unwrap();
    talking.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    second.read_exact(&mut said).await.unwrap();
    let closed = soon(first.read_u8()).await.unwrap_err();
    assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
    assert!(poll!(Box::pin(second.read_u8())).is_pending());
}

#[tokio::test]
async fn no_more_connections_than_there_are_places() {
    let (to, made) = listener();
    let connections = Connections::new(Limits::of(1), Counter::default());
    let mut incoming = std::pin::pin!(connections.incoming(made, PLAIN));
    let mut talking = dial(&to).await;
    let mut first = incoming.next().await.unwrap().unwrap();
    talking.write_all(b"1").await.unwrap();
    first.read_u8().await.unwrap();
    let _second = dial(&to).await;
    assert!(poll!(incoming.next()).is_pending());
    assert_eq!(connections.count(), 1);
    assert!(!is_closed(&mut first).await, "whoever has said something makes no room");
    drop(first);
    assert!(incoming.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_handle_closes_its_connection() {
    let (to, made) = listener();
    let connections = Connections::new(Limits::of(8), Counter::default());
    let mut incoming = std::pin::pin!(connections.incoming(made, PLAIN));
    let _dialled = dial(&to).await;
    let mut connection = incoming.next().await.unwrap().unwrap();
    connections.close_all();
    assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    drop(connection);
    assert_eq!(connections.count(), 0);
}

fn router(id: &str) -> Caller {
    Caller::Verified(format!("spiffe://x/router/{id}").parse().unwrap())
}

fn role(caller: &Caller) -> &Role {
    caller.role().unwrap()
}

/// One that came through a gate which said who it is.
async fn through(connections: &Connections, caller: Caller) -> (DuplexStream, Connection<DuplexStream>) {
    let (to, made) = listener();
    let here = dial(&to).await;
    let mut incoming = std::pin::pin!(connections.incoming(made, Says(Some(caller))));
    (here, incoming.next().await.unwrap().unwrap())
}

/// What is awaited here comes within milliseconds; without its guard it never would.
async fn soon<T>(awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), awaited).await.expect("it never comes")
}

async fn is_closed(connection: &mut Connection<DuplexStream>) -> bool {
    poll!(Box::pin(connection.read_u8())).is_ready()
}

#[tokio::test]
async fn the_connections_of_one_identity_can_be_closed_and_the_others_stay() {
    let connections = Connections::new(Limits::of(8), Counter::default());
    let mut accepted = Vec::new();
    for caller in [router("edge-1"), router("edge-2"), router("edge-1"), Caller::Plain] {
        accepted.push(through(&connections, caller).await);
    }
    assert_eq!(connections.close(role(&router("edge-1"))), 2);
    assert_eq!(connections.close(role(&router("edge-9"))), 0);
    for (number, (_, connection)) in accepted.iter_mut().enumerate() {
        assert_eq!(is_closed(connection).await, [0, 2].contains(&number), "connection {number}");
    }
    accepted.clear();
    assert_eq!(connections.close(role(&router("edge-1"))), 0, "what has ended is forgotten");
}

#[tokio::test]
async fn one_identity_has_only_so_many_connections_and_the_newest_stay() {
    let connections = Connections::new(Limits { per_identity: 2, ..Limits::of(8) }, Counter::default());
    let mut accepted = Vec::new();
    for caller in ["edge-1", "edge-2", "edge-1", "edge-1"].map(router) {
        accepted.push(through(&connections, caller).await);
    }
    for (number, (_, connection)) in accepted.iter_mut().enumerate() {
        assert_eq!(is_closed(connection).await, number == 0, "connection {number}");
    }
}

#[tokio::test]
async fn whoever_has_no_certificate_gets_few_connections_little_time_and_few_bytes() {
    let anonymous = Anonymous { connections: 1, age: Duration::from_millis(50), bytes: 4 };
    let limits = Limits { anonymous: Some(anonymous), ..Limits::of(8) };
    let connections = Connections::new(limits, Counter::default());
    let (_first, mut displaced) = through(&connections, Caller::Anonymous).await;
    let (mut talker, mut second) = through(&connections, Caller::Anonymous).await;
    assert!(is_closed(&mut displaced).await);
    talker.write_all(b"12345678").await.unwrap();
    let mut said = [0; 4];
    second.read_exact(&mut said).await.unwrap();
    assert_eq!(second.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted, "its bytes are used up");

    let (mut alive, mut slow) = through(&connections, Caller::Anonymous).await;
    alive.write_all(b"1").await.unwrap();
    slow.read_u8().await.unwrap();
    assert_eq!(soon(slow.read_u8()).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted, "its time is over");
    let (_quiet, mut verified) = through(&connections, router("edge-1")).await;
    assert!(!is_closed(&mut verified).await, "whoever is known has neither limit");
}

#[tokio::test]
async fn a_flood_of_silent_connections_closes_its_own_oldest() {
    let (to, made) = listener();
    let limits = Limits { silent: 2, ..Limits::of(8) };
    let connections = Connections::new(limits, Counter::default());
    let mut incoming = std::pin::pin!(connections.incoming(made, PLAIN));
    let mut talking = dial(&to).await;
    let mut spoke = incoming.next().await.unwrap().unwrap();
    talking.write_all(b"1").await.unwrap();
    spoke.read_u8().await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..4 {
        let here = dial(&to).await;
        flood.push((here, incoming.next().await.unwrap().unwrap()));
    }
    for (number, (_, connection)) in flood.iter_mut().enumerate() {
        assert_eq!(is_closed(connection).await, number < 2, "connection {number}");
    }
    assert!(!is_closed(&mut spoke).await, "whoever has said something is not part of it");
}

#[tokio::test]
async fn when_every_place_is_taken_the_oldest_silent_connection_makes_room() {
    let (to, made) = listener();
    let connections = Connections::new(Limits { silent: 8, ..Limits::of(2) }, Counter::default());
    let mut incoming = std::pin::pin!(connections.incoming(made, PLAIN));
    let _first = dial(&to).await;
    let mut first = incoming.next().await.unwrap().unwrap();
    let _second = (dial(&to).await, incoming.next().await.unwrap().unwrap());
    let _third = dial(&to).await;
    assert!(poll!(incoming.next()).is_pending());
    assert!(is_closed(&mut first).await);
    drop(first);
    assert!(incoming.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn whoever_takes_nothing_loses_its_connection_and_its_place() {
    let connections =
        Connections::new(Limits { taken: Duration::from_millis(50), ..Limits::of(8) }, Counter::default());
    let (_here, mut connection) = through(&connections, router("edge-1")).await;
    let written = tokio::time::timeout(Duration::from_secs(5), connection.write_all(&[0; 1024])).await;
    let written = written.expect("it is not stuck for ever").unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::TimedOut, "64 bytes fit, and nobody reads them");
    let (_here, mut connection) = through(&connections, router("edge-2")).await;
    connections.close(role(&router("edge-2")));
    // An HTTP/2 server that cannot write does not read: the handle works there too.
    assert_eq!(connection.write_all(b"1").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    connection.shutdown().await.unwrap();
}

#[tokio::test]
async fn whoever_connects_too_often_waits_for_its_turn_and_nobody_else_does() {
    let pace = Rate { burst: 2, every_ms: 200 };
    let connections = Connections::new(Limits::of(16).with_pace(pace), Counter::default());
    let began = std::time::Instant::now();
    let mut open = Vec::new();
    for caller in ["edge-1", "edge-1", "edge-2", "edge-2"].map(router) {
        open.push(through(&connections, caller).await);
    }
    assert!(began.elapsed() < Duration::from_millis(150), "both have two at once: {:?}", began.elapsed());
    open.push(through(&connections, router("edge-1")).await);
    assert!(began.elapsed() >= Duration::from_millis(150), "the third waits: {:?}", began.elapsed());
    for plain in [Caller::Plain, Caller::Local, Caller::Anonymous] {
        let (before, _) = (std::time::Instant::now(), through(&connections, plain).await);
        assert!(before.elapsed() < Duration::from_millis(150));
    }
}

#[tokio::test]
async fn whoever_is_far_too_early_is_closed() {
    let pace = Rate { burst: 1, every_ms: 60_000 };
    let connections = Connections::new(Limits::of(16).with_pace(pace), Counter::default());
    through(&connections, router("edge-1")).await;
    let (to, made) = listener();
    let mut here = dial(&to).await;
    let incoming = connections.incoming(made, Says(Some(router("edge-1"))));
    let task = tokio::spawn(async move { std::pin::pin!(incoming).next().await.map(drop) });
    let closed = tokio::time::timeout(TURN_WITHIN * 3, here.read(&mut [0])).await;
    assert_eq!(closed.expect("it is not held for ever").unwrap(), 0);
    task.abort();
}

#[tokio::test]
async fn a_handshake_that_is_never_done_gives_its_place_back() {
    let (to, made) = listener();
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::of(1) };
    let connections = Connections::new(limits, Counter::default());
    let incoming = connections.incoming(made, Says(None));
    let task = tokio::spawn(async move { std::pin::pin!(incoming).next().await.map(drop) });
    let mut here = dial(&to).await;
    assert_eq!(soon(here.read(&mut [0])).await.unwrap(), 0, "closed after its time");
    assert_eq!(connections.count(), 0);
    task.abort();
}
