//! How a controller stops: in which order, within which time, and how its routers get away.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilothouse::controller::stopping::STOP_WITHIN;

use super::cluster::Cluster;
use super::router::{Session, hello};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_draining_controller_stays_open_until_its_router_closes_it() {
    let mut cluster = Cluster::of(1).await;
    let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    session.adopt().await;
    let stopping = tokio::spawn(cluster.take(0).stop());
    assert_eq!(session.farewell().await.reason, "draining");
    let left = Instant::now();
    // Meanwhile it dials another controller.
    let ended = tokio::time::timeout(Duration::from_millis(400), session.next()).await;
    assert!(ended.is_err(), "the stream ended before its router closed it: {ended:?}");
    session.close();
    assert!(session.next().await.is_none());
    assert!(left.elapsed() < Duration::from_millis(900), "the controller waited for nothing: {:?}", left.elapsed());
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_does_not_close_does_not_hold_a_stop_up() {
    let mut cluster = Cluster::of(1).await;
    let mut sessions = Vec::new();
    for n in 0..10 {
        let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello(&format!("edge-{n}"), 1)).await;
        session.adopt().await;
        sessions.push(session);
    }
    let began = Instant::now();
    let stopping = tokio::spawn(cluster.take(0).stop());
    for session in &mut sessions {
        assert_eq!(session.goodbye().await.reason, "draining");
    }
    stopping.await.unwrap();
    assert!(began.elapsed() < STOP_WITHIN, "{:?}", began.elapsed());
}

/// Log lines of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// On one thread, so that the log of this test is nobody else's.
#[tokio::test]
async fn the_steps_of_a_stop_come_in_their_order() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let running = cluster.take(leader);
    let (mut session, _) = Session::welcomed(cluster.seats[leader].router, hello("edge-1", 1)).await;
    session.adopt().await;
    let reads = tokio::spawn(async move { session.goodbye().await });
    let lines = Lines::default();
    {
        // While there is only one, a line that another thread says first is switched off for all of them.
        let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
        let to = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || to.clone())
            .finish();
        let _here = tracing::subscriber::set_default(log);
        running.stop().await;
    }
    let steps = [
        "stopping: not ready any more",
        "stopping: leadership handed over",
        "the session says goodbye",
        "stopping: sessions drained",
        "stopping: ports of routers and operators closed",
        "stopping: Raft stopped",
        "stopping: the log is flushed",
        "stopped",
    ];
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let known = |line: &str| {
        steps.into_iter().find(|step| line.split(": ").skip(1).collect::<Vec<_>>().join(": ").starts_with(step))
    };
    let said: Vec<_> = log.lines().filter_map(known).collect();
    assert_eq!(said, steps, "{log}");
    assert_eq!(reads.await.unwrap().reason, "draining");
}
