//! Real sockets: the fixed routes, and each limit.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::ops::Check;

async fn started(surface: Surface) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(tcp(listener), surface, stop.clone().cancelled_owned()));
    (at, stop, task)
}

/// Sends raw bytes and reads to the end of the connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn fetch(at: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    exchange(TcpStream::connect(at).await.unwrap(), request.as_bytes()).await
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let mut registry = Registry::default();
    let counter: Counter = Counter::default();
    registry.register("pilothouse_turns", "Turns", counter.clone());
    counter.inc();
    let surface = Surface {
        registry: Arc::new(registry),
        alive: None,
        checks: vec![Check::new("leader", || Err("none is known".into()))],
        routes: Router::new().route("/api/v1/extra", get(|| async { "extra" })),
    };
    let (at, _stop, _task) = started(surface).await;

    assert!(fetch(at, "/livez").await.starts_with("HTTP/1.1 200"));
    let unready = fetch(at, "/readyz?verbose").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("[-] leader failed: none is known"), "{unready}");
    let metrics = fetch(at, "/metrics").await;
    assert!(
        metrics.contains("application/openmetrics-text") && metrics.contains("pilothouse_turns_total 1"),
        "{metrics}"
    );
    assert!(fetch(at, "/api/v1/extra").await.ends_with("extra"));
    assert!(fetch(at, "/nowhere").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn ready_is_terse_unless_it_is_asked_for_more() {
    let (at, _stop, _task) =
        started(Surface { checks: vec![Check::new("leader", || Ok(()))], ..Surface::default() }).await;
    let terse = fetch(at, "/readyz").await;
    assert!(terse.starts_with("HTTP/1.1 200") && !terse.contains("leader"), "{terse}");
    assert!(fetch(at, "/readyz?verbose").await.contains("[+] leader ok"));
}

#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(unix(listener), Surface::default(), stop.clone().cancelled_owned()));
    let stream = UnixStream::connect(&path).await.unwrap();
    assert!(exchange(stream, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains("alive"));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_body_over_the_limit_and_garbage_are_refused_and_disturb_nobody() {
    let routes = Router::new().route("/take", post(|body: Bytes| async move { body.len().to_string() }));
    let (at, _stop, _task) = started(Surface { routes, ..Surface::default() }).await;

    let request = |length: usize| {
        format!("POST /take HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
    };
    let mut large = request(BODY_BYTES_MAX + 1).into_bytes();
    large.resize(large.len() + BODY_BYTES_MAX + 1, b'x');
    let refused = exchange(TcpStream::connect(at).await.unwrap(), &large).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");

    let garbage = exchange(TcpStream::connect(at).await.unwrap(), b"\x16\x03\x01garbage\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * HEADER_BYTES_MAX));
    let refused = exchange(TcpStream::connect(at).await.unwrap(), long.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");

    assert!(fetch(at, "/livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_silent_client_and_a_handler_that_hangs_are_ended() {
    let routes = Router::new().route("/hang", get(std::future::pending::<()>));
    let patience = Patience { header_read: Duration::from_millis(100), request: Duration::from_millis(100) };
    let server = Server::new(Surface { routes, ..Surface::default() }, patience);

    let (near, far) = tokio::io::duplex(1024);
    server.spawn(far, server.seats.clone().acquire_owned().await.unwrap());
    let hung = exchange(near, b"GET /hang HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(hung.starts_with("HTTP/1.1 503"), "{hung}");

    let (near, far) = tokio::io::duplex(1024);
    server.spawn(far, server.seats.clone().acquire_owned().await.unwrap());
    let silent = exchange(near, b"GET /livez HTT").await;
    assert!(!silent.contains("200"), "{silent}");
    server.connections.close();
    server.connections.wait().await;
    assert_eq!(server.seats.available_permits(), CONNECTIONS_MAX, "both seats are free again");
}

#[tokio::test]
async fn a_process_that_is_stuck_is_not_alive_and_says_why() {
    let alive = Some(Check::new("progress", || Err("Raft has not answered for 31 s".into())));
    let (at, _stop, _task) = started(Surface { alive, ..Surface::default() }).await;
    let stuck = fetch(at, "/livez").await;
    assert!(
        stuck.starts_with("HTTP/1.1 503") && stuck.ends_with("not alive: Raft has not answered for 31 s\n"),
        "{stuck}"
    );
}

#[tokio::test]
async fn connections_over_the_cap_wait_and_a_stop_ends_idle_ones() {
    let (at, stop, task) = started(Surface::default()).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        idle.push(stream);
    }
    let mut waiting = tokio::spawn(fetch(at, "/livez"));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err(), "the cap does not hold");
    idle.pop();
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));

    stop.cancel();
    tokio::time::timeout(DRAIN_MAX, task).await.expect("idle connections do not hold up a stop").unwrap();
}
