//! Floods: connections that never finish their handshake, ones that trickle, and streams that are opened only to be
//! reset. Whoever means it must hardly notice, and the memory of the controller stays bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pilothouse::domain::endpoint::Endpoint;
use pilothouse::proto::router::WatchRequest;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::router::{Connector, TcpConnector};
use pilothouse::tls::Security;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::support::fleet::Unit;
use crate::support::pki::Pki;
use crate::support::{SOON, eventually, ports};

/// Connections that never say a word.
const IDLE: usize = 5_000;
/// Connections that say a byte each second.
const TRICKLING: usize = 64;
/// Connections that open streams and reset them, as fast as they are let.
const RESETTING: usize = 4;
/// Calls of each kind that are timed.
const CALLS: usize = 60;
/// What others may be slowed down to, in percent: twice as long.
const SLOWED_PERCENT_MAX: u32 = 200;
/// How often it is looked whether others are slowed down.
const LOOKS: u32 = 5;
/// Differences below what a scheduler does say nothing.
const NOISE: Duration = Duration::from_micros(500);
/// What the controller may take for all of it, in KiB.
const MEMORY_KIB_MAX: u64 = 64 * 1024;

/// One controller in a process of its own, over TLS.
struct Controller {
    unit: Unit,
    pki: Pki,
    /// Honest routers, each with its id: so many that none of them connects often.
    honest: Vec<(String, Security)>,
    router: u16,
    _folder: tempfile::TempDir,
}

impl Controller {
    async fn start() -> Self {
        let (folder, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        let [peer, router, admin, health] = std::array::from_fn(|_| ports::free_port());
        let config = format!(
            "name = \"controller-1\"\nid = 1\ndata_dir = \"{}\"\ninitial_members = [{{ id = 1, name = \"controller-1\", \
             peer = \"https://127.0.0.1:{peer}\" }}]\n[listen]\npeer = \"127.0.0.1:{peer}\"\nrouter = \
             \"127.0.0.1:{router}\"\nadmin = \"127.0.0.1:{admin}\"\nhttp = \"127.0.0.1:{health}\"\n[tls]\ndir = \"{}\"\n",
            folder.path().join("data").display(),
            pki.directory("controller/1").display()
        );
        let unit = Unit::start("controller", folder.path(), "controller-1", &config);
        let honest = (0..CALLS).map(|number| format!("honest-{number}"));
        let honest = honest.map(|id| (id.clone(), pki.security(&format!("router/{id}")))).collect();
        let controller = Self { unit, pki, honest, router, _folder: folder };
        eventually("the controller serves", SOON, || async { controller.fresh(0).await }).await;
        controller
    }

    fn endpoint(&self) -> Endpoint {
        format!("https://127.0.0.1:{}", self.router).parse().unwrap()
    }

    async fn channel(&self, honest: usize) -> Result<Channel, String> {
        let connector = TcpConnector(self.honest[honest].1.clone());
        let connected = connector.connect(self.endpoint(), SOON).await;
        connected.map(|connected| connected.channel).map_err(|error| error.reason)
    }

    /// One list for one of the honest routers, over a connection of its own.
    async fn fresh(&self, honest: usize) -> Result<(), String> {
        self.list(honest, self.channel(honest).await?).await
    }

    /// The first list of a watch.
    async fn list(&self, honest: usize, channel: Channel) -> Result<(), String> {
        let request = WatchRequest { router_id: self.honest[honest].0.clone(), protocol_min: 2, protocol_max: 2 };
        let watch = RouterControlClient::new(channel).watch(request).await.map_err(|status| status.to_string())?;
        match watch.into_inner().message().await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.unit.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// How long an honest router waits: the median over a connection that is open, and over new ones.
#[derive(Debug, Clone, Copy)]
struct Latency {
    open: Duration,
    fresh: Duration,
}

async fn latency(controller: &Controller) -> Latency {
    let channel = controller.channel(0).await.unwrap();
    let (mut open, mut fresh) = (Vec::new(), Vec::new());
    for honest in 0..CALLS {
        let began = Instant::now();
        controller.list(0, channel.clone()).await.unwrap();
        open.push(began.elapsed());
        let began = Instant::now();
        controller.fresh(honest).await.unwrap();
        fresh.push(began.elapsed());
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    Latency { open: median(open), fresh: median(fresh) }
}

/// Looks a few times: a machine that has something else to do for a second is not what this is about.
async fn hardly_slower(what: &str, before: Latency, controller: &Controller) {
    let mut slower = String::new();
    for _ in 0..LOOKS {
        let during = latency(controller).await;
        println!(
            "{what}: on an open connection {:?} -> {:?}, on a new one {:?} -> {:?}",
            before.open, during.open, before.fresh, during.fresh
        );
        let bound = |before: Duration| before * SLOWED_PERCENT_MAX / 100 + NOISE;
        if during.open <= bound(before.open) && during.fresh <= bound(before.fresh) {
            return;
        }
        slower = format!("{before:?} -> {during:?}");
    }
    panic!("{what}: {slower}, {LOOKS} times in a row");
}

/// The first bytes of a TLS record that says it is a long one.
const RECORD: [u8; 5] = [22, 3, 1, 2, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_hardly_slow_others_down_and_take_bounded_memory() {
    let _alone = crate::ALONE.lock().await;
    let controller = Controller::start().await;
    let before = latency(&controller).await;
    let memory = controller.memory_kib();

    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(("127.0.0.1", controller.router)).await.unwrap());
    }
    hardly_slower("5,000 connections that say nothing", before, &controller).await;
    drop(idle);

    let mut trickling = JoinSet::new();
    for _ in 0..TRICKLING {
        let port = controller.router;
        trickling.spawn(async move {
            loop {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                for byte in RECORD.iter().chain(std::iter::repeat(&0)) {
                    ticks.tick().await;
                    if stream.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                }
            }
        });
    }
    hardly_slower("64 connections that say a byte a second", before, &controller).await;
    // None of them is kept for longer than a handshake may take.
    let mut slow = TcpStream::connect(("127.0.0.1", controller.router)).await.unwrap();
    slow.write_all(&RECORD).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(8), slow.read_u8()).await;
    assert!(closed.expect("it is closed in time").is_err());
    trickling.shutdown().await;

    let rude = Rude::start(&controller);
    hardly_slower("4 routers that reset what they open", before, &controller).await;
    let (opened, connections) = rude.stop();
    println!("they opened {opened} streams on {connections} connections");
    assert!(connections > RESETTING, "whoever floods loses its connection");

    let after = controller.memory_kib();
    println!("memory: {memory} KiB before, {after} KiB after");
    assert!(after.saturating_sub(memory) < MEMORY_KIB_MAX, "{memory} KiB -> {after} KiB");
}

/// Routers that flood, on a thread of their own: it is the controller that must not be slowed down, not this test.
struct Rude {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<(usize, usize)>,
}

impl Rude {
    fn start(controller: &Controller) -> Self {
        let stop = CancellationToken::new();
        let securities = (0..RESETTING).map(|number| controller.pki.security(&format!("router/rude-{number}")));
        let (to, securities, stopped) = (controller.endpoint(), securities.collect::<Vec<_>>(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (opened, connections) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let flood = async {
                let floods = securities.iter().map(|security| async {
                    loop {
                        if let Ok(dialed) = security.dial(&to).await {
                            connections.fetch_add(1, Ordering::Relaxed);
                            // It ends when the controller has had enough.
                            let _ = reset_for_ever(dialed.stream, &opened).await;
                        }
                        tokio::task::yield_now().await;
                    }
                });
                futures::future::join_all::<_>(floods).await
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = flood => {}
                    () = stopped.cancelled() => {}
                }
            });
            (opened.into_inner(), connections.into_inner())
        });
        Self { stop, thread }
    }

    /// How many streams they opened, on how many connections.
    fn stop(self) -> (usize, usize) {
        self.stop.cancel();
        self.thread.join().unwrap()
    }
}

/// Opens streams and resets each at once, as in CVE-2023-44487.
async fn reset_for_ever(stream: pilothouse::tls::Stream, opened: &AtomicUsize) -> Result<(), h2::Error> {
    let (client, connection) = h2::client::handshake(stream).await?;
    let driven = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let outcome = loop {
        let request =
            http::Request::post("https://pilothouse/pilothouse.router.v1.RouterControl/Watch").body(()).unwrap();
        match client.send_request(request, false) {
            Ok((_, mut sent)) => {
                opened.fetch_add(1, Ordering::Relaxed);
                sent.send_reset(h2::Reason::CANCEL);
            }
            Err(error) => break Err(error),
        }
        // The connection is driven on the same thread.
        tokio::task::yield_now().await;
        client = match client.ready().await {
            Ok(client) => client,
            Err(error) => break Err(error),
        };
    };
    driven.abort();
    outcome
}
