//! A prober of writes: registers a new router every 10 ms, round robin over the controllers, and keeps the ledger of
//! acknowledgements outside of the cluster that must not lose them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilothouse::proto::router::RegisterRequest;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::transport::{Channel, Endpoint};

use super::{SOON, eventually};

/// How often a registration is tried.
const EVERY: Duration = Duration::from_millis(10);
/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct Ledger {
    acked: Vec<(Instant, String)>,
    failed: BTreeMap<String, usize>,
    /// How late the prober's own clock was at its latest, since the last mark: a stall of the test, not of the cluster.
    late: Duration,
}

/// A running prober.
#[derive(Debug)]
pub(crate) struct Probe {
    ledger: Arc<Mutex<Ledger>>,
    task: JoinHandle<()>,
}

/// A moment from which gaps are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(Instant);

impl Probe {
    /// Starts at once; `prefix` names its routers.
    pub(crate) fn start(prefix: &str, router_ports: &[u16]) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let clients: Vec<_> = router_ports.iter().map(|port| client(*port)).collect();
        let task = tokio::spawn(run(prefix.to_owned(), clients, Arc::clone(&ledger)));
        Self { ledger, task }
    }

    /// Now. Waits for an acknowledgement first, so that the cluster works at the mark.
    pub(crate) async fn mark(&self) -> Mark {
        let before = self.acks();
        self.more_acks_than(before).await;
        self.ledger.lock().unwrap().late = Duration::ZERO;
        Mark(Instant::now())
    }

    /// How many registrations were acknowledged.
    pub(crate) fn acks(&self) -> usize {
        self.ledger.lock().unwrap().acked.len()
    }

    /// Waits until more than so many were acknowledged.
    pub(crate) async fn more_acks_than(&self, before: usize) {
        eventually("writes are acknowledged", SOON, || async {
            let ledger = self.ledger.lock().unwrap();
            if ledger.acked.len() > before { Ok(()) } else { Err(format!("failures {:?}", ledger.failed)) }
        })
        .await;
    }

    /// Waits until writes go on, and were acknowledged over at least so much time since the mark.
    pub(crate) async fn acked_for(&self, mark: Mark, at_least: Duration) {
        eventually("writes go on", at_least + SOON, || async {
            let ledger = self.ledger.lock().unwrap();
            let last = ledger.acked.last().map(|(at, _)| at.saturating_duration_since(mark.0));
            if last >= Some(at_least) { Ok(()) } else { Err(format!("{last:?} {:?}", ledger.failed)) }
        })
        .await;
    }

    /// The longest time between two acknowledgements since the mark, without what the prober itself was late.
    pub(crate) fn longest_gap(&self, since: Mark) -> Duration {
        let ledger = self.ledger.lock().unwrap();
        let acks = ledger.acked.iter().map(|(at, _)| *at).filter(|at| *at >= since.0);
        let mut longest = Duration::ZERO;
        let mut before = since.0;
        for at in acks.chain([Instant::now()]) {
            longest = longest.max(at.saturating_duration_since(before));
            before = at;
        }
        longest.saturating_sub(ledger.late)
    }

    /// Ends it. Everything that was acknowledged.
    pub(crate) fn stop(self) -> BTreeSet<String> {
        self.task.abort();
        let ledger = self.ledger.lock().unwrap();
        ledger.acked.iter().map(|(_, id)| id.clone()).collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of the router protocol on loopback.
pub(crate) fn client(port: u16) -> RouterControlClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    RouterControlClient::new(endpoint.connect_timeout(DEADLINE).connect_lazy())
}

/// The first registration of a new router.
pub(crate) fn registration(id: &str) -> RegisterRequest {
    RegisterRequest {
        router_id: id.to_owned(),
        software_version: "probe".to_owned(),
        boot_id: rand::random::<u128>().to_be_bytes().to_vec(),
        sequence: 1,
        protocol_min: 1,
        protocol_max: 2,
        ..RegisterRequest::default()
    }
}

async fn run(prefix: String, clients: Vec<RouterControlClient<Channel>>, ledger: Arc<Mutex<Ledger>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = ticks.tick().await;
    for (number, client) in clients.iter().cycle().enumerate() {
        ticks.tick().await;
        let late = before.elapsed().saturating_sub(EVERY);
        before = Instant::now();
        let mut locked = ledger.lock().unwrap();
        locked.late = locked.late.max(late);
        drop(locked);
        tokio::spawn(attempt(format!("{prefix}-{number}"), client.clone(), Arc::clone(&ledger)));
    }
}

async fn attempt(id: String, mut client: RouterControlClient<Channel>, ledger: Arc<Mutex<Ledger>>) {
    let outcome = timeout(DEADLINE, client.register(registration(&id))).await;
    let mut ledger = ledger.lock().unwrap();
    match outcome {
        Ok(Ok(_)) => ledger.acked.push((Instant::now(), id)),
        Ok(Err(status)) => *ledger.failed.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1,
        Err(_) => *ledger.failed.entry("deadline".to_owned()).or_default() += 1,
    }
}
