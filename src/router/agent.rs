//! The agent: puts keeper, sessions and outputs together, and starts them again from disk after a fault of its own.
//!
//! It never ends because no controller answers. Whoever follows its lists keeps the last one while it restarts.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::config::RouterConfig;
use super::generations::{Disk, Generations, HostDisk, Loaded, OpenError};
use super::instruments::Instruments;
use super::keeper::{Keeper, Published, Pulse};
use super::metrics::Metrics;
use super::renewing::Renewing;
use super::sessions::{Board, Connector, Context, Registrar, Reports, TcpConnector, Timing, description, slot};
use super::status::AgentStatus;
use super::{api, outputs, reach, vitals};
use crate::domain::acceptance::HeldList;
use crate::domain::ids::RouterId;
use crate::domain::principal::Role;
use crate::domain::retry::{self, Backoff};
use crate::ops::alerts::{AlertMetrics, AlertsConfig, POST_MAX, Sink, Who};
use crate::ops::events::Events;
use crate::ops::{self, Liveness, Ready, Surface, Vitals};
use crate::tls::watching::{self, CertificateMetrics};
use crate::tls::{MaterialError, Security, Store, web};

/// Between two starts after a fault: a bug that strikes at once must not spin.
const RESTART: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(30) };
/// Sessions, keeper and a save under way get this long at a stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Draws numbers, uniformly over all of `u32`.
type Random = Arc<dyn Fn() -> u32 + Send + Sync>;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data directory cannot be used. Its content is never a reason.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The HTTP API cannot listen.
    #[error("cannot listen on {at} (http): stop whoever uses it, or choose another address")]
    Listen {
        /// Where.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] MaterialError),
    /// The certificate is another router's.
    #[error("the certificate is {certificate}'s, this is router {id} (id): give it the certificate of its own id")]
    OtherCertificate {
        /// Whose it is.
        certificate: Role,
        /// Which router this is.
        id: RouterId,
    },
    /// Its own supervisor is gone.
    #[error(
        "the router agent ended without being told to: this is a fault of this build; start it again and report this"
    )]
    Ended,
}

/// What tests and simulations replace.
#[derive(Clone)]
pub struct Parts {
    /// The disk under the data directory.
    pub disk: Arc<dyn Disk>,
    /// Makes connections; `None`: TCP, as the configuration says it.
    pub connector: Option<Arc<dyn Connector>>,
    /// How long to wait for what.
    pub timing: Timing,
    /// Draws numbers.
    pub random: Random,
}

impl Default for Parts {
    fn default() -> Self {
        Self { disk: Arc::new(HostDisk), connector: None, timing: Timing::DEFAULT, random: Arc::new(rand::random) }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("timing", &self.timing).finish_non_exhaustive()
    }
}

/// A running router agent. It stops when it is told to, or when it is dropped.
#[derive(Debug)]
pub struct Agent {
    lists: watch::Receiver<Option<HeldList>>,
    status: watch::Receiver<AgentStatus>,
    events: Events,
    liveness: Liveness,
    registry: Arc<Registry>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Agent {
    /// Locks the data directory, takes over the best list that it holds, and begins to look for controllers.
    ///
    /// # Errors
    /// [`AgentError`]: when the directory as such cannot be used, or the certificates that it was told to use.
    pub async fn start(config: RouterConfig, parts: Parts) -> Result<Self, AgentError> {
        let security = config.tls.open_patiently().await?;
        check_certificate(&security, &config.id)?;
        let opened = open(&config, &parts).await?;
        let mut registry = Registry::default();
        let events = Events::new(&mut registry);
        let metrics = Metrics::new(&mut registry);
        let instruments = Instruments::new(events.clone(), metrics, AgentStatus::blank(config.id.clone()));
        let published = Published::default();
        let (lists, status) = (published.lists.subscribe(), instruments.status());
        let stop = CancellationToken::new();
        let certificates = CertificateMetrics::new(&mut registry);
        tokio::spawn(watching::follow(security.clone(), events.clone(), certificates, stop.clone()));
        let alone =
            reach::follow(status.clone(), published.known.subscribe(), events.clone(), config.no_controller_after);
        tokio::spawn(stop.clone().run_until_cancelled_owned(alone));
        if let Some(alerts) = config.alerts.clone() {
            let sink = sink(alerts, &config.id, status.clone(), events.clone(), &parts, &mut registry);
            tokio::spawn(stop.clone().run_until_cancelled_owned(sink.run()));
        }
        let store = security.store().filter(|_| config.renew_certificate).cloned();
        let connector = parts.connector.clone().unwrap_or_else(|| Arc::new(TcpConnector(security)));
        let reports = Arc::new(Reports::new(events.clone(), format!("router {}", config.id)));
        let (liveness, pulse) = (Liveness::of("the keeper of the list"), watch::Sender::default());
        tokio::spawn(stop.clone().run_until_cancelled_owned(liveness.clone().follow(asked(pulse.subscribe()))));
        let life =
            Arc::new(Life { config, parts, connector, published, instruments, reports, pulse, stop: stop.clone() });
        // The first life begins here: what was saved is known when this returns.
        let tasks = life.begin(opened).await;
        if let Some(store) = store {
            tokio::spawn(stop.clone().run_until_cancelled_owned(life.renewing(store).run()));
        }
        let task = Some(tokio::spawn(life.go_on(tasks)));
        Ok(Self { lists, status, events, liveness, registry: Arc::new(registry), stop, task })
    }

    /// Follows the list in use: `None` only until the first one ever.
    #[must_use]
    pub fn lists(&self) -> watch::Receiver<Option<HeldList>> {
        self.lists.clone()
    }

    /// Follows what the router says of itself.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// What happened that a person may have to know.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What its HTTP API serves.
    #[must_use]
    pub fn surface(&self) -> Surface {
        Surface {
            registry: Arc::clone(&self.registry),
            alive: Some(self.liveness.check()),
            checks: api::checks(&self.status),
            routes: api::routes(self.status(), self.lists()),
        }
    }

    /// How it is, at any time.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let status = self.status();
        Vitals { alive: self.liveness.check(), status: Arc::new(move || vitals::line(&status.borrow())) }
    }

    /// Returns when the agent ended, which it does only when it is told to, or by a fault that it cannot mend.
    async fn ended(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }

    /// Ends the sessions, waits for a save under way, and gives the data directory back.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && tokio::time::timeout(STOP_MAX, task).await.is_err()
        {
            tracing::warn!("the router did not stop in time; what it adopted is on the disk or was never acknowledged");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs a router agent until `stop`. It is ready when it has a list or its seeds to work with, and its HTTP API listens.
///
/// # Errors
/// [`AgentError`]: at the start, or when the agent itself is gone, since a process that only looks alive helps nobody.
pub async fn run(config: RouterConfig, ready: Ready, stop: CancellationToken) -> Result<(), AgentError> {
    let http = match &config.http {
        Some(at) => Some(super::listen(at).await.map_err(|source| AgentError::Listen { at: at.to_string(), source })?),
        None => None,
    };
    let mut agent = Agent::start(config, Parts::default()).await?;
    let surface = agent.surface();
    ready.serving(agent.vitals());
    let serving = async {
        match http {
            Some(listener) => ops::serve(listener, surface, stop.cancelled_owned()).await,
            None => stop.cancelled().await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = agent.ended() => return Err(AgentError::Ended),
    }
    agent.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Asks the keeper of the current life whether it answers.
fn asked(pulse: watch::Receiver<Option<Pulse>>) -> impl Fn() -> BoxFuture<'static, bool> {
    move || {
        let pulse = pulse.borrow().clone();
        Box::pin(async move {
            match pulse {
                Some(pulse) => pulse.beats().await,
                None => true,
            }
        })
    }
}

/// Alarms of this router, from a task of its own that outlives its faults.
fn sink(
    config: AlertsConfig,
    id: &RouterId,
    status: watch::Receiver<AgentStatus>,
    events: Events,
    parts: &Parts,
    registry: &mut Registry,
) -> Sink {
    let cluster = Arc::new(move || status.borrow().cluster.map(|cluster| cluster.to_string()));
    let who = Who { instance: format!("router {id}"), cluster };
    let (dial, metrics) = (web::to_alerts(&config), AlertMetrics::new(registry));
    Sink { config, who, events, others: None, dial, metrics, random: parts.random.clone(), within: POST_MAX }
}

fn check_certificate(security: &Security, id: &RouterId) -> Result<(), AgentError> {
    let Some(store) = security.store() else { return Ok(()) };
    let certificate = store.current().leaf().principal.role.clone();
    if certificate == Role::Router(id.clone()) {
        return Ok(());
    }
    Err(AgentError::OtherCertificate { certificate, id: id.clone() })
}

async fn open(config: &RouterConfig, parts: &Parts) -> Result<(Generations, Loaded), OpenError> {
    let (path, disk) = (config.data_dir.clone(), Arc::clone(&parts.disk));
    let opened = tokio::task::spawn_blocking(move || Generations::open(&path, disk)).await;
    opened.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// What outlives a fault: whoever follows the list follows these senders.
struct Life {
    config: RouterConfig,
    parts: Parts,
    connector: Arc<dyn Connector>,
    published: Published,
    instruments: Instruments,
    reports: Arc<Reports>,
    /// Of the keeper of this life.
    pulse: watch::Sender<Option<Pulse>>,
    stop: CancellationToken,
}

impl Life {
    /// Begins from what the disk holds. The tasks end when `stop` is cancelled.
    async fn begin(&self, (generations, loaded): (Generations, Loaded)) -> JoinSet<()> {
        let Parts { disk, timing, random, .. } = self.parts.clone();
        let connector = Arc::clone(&self.connector);
        let board = Board::new(self.instruments.clone());
        let registrar = Registrar::new(description(&self.config), loaded.registration, random.clone());
        let (keeper, handle) = Keeper::new(
            (generations, loaded),
            self.config.seeds.clone(),
            disk.clone(),
            self.published.clone(),
            self.instruments.clone(),
            board.clone(),
            random.clone(),
        );
        self.pulse.send_replace(Some(handle.pulse()));
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run());
        handle.registered(registrar.current()).await;
        let context = Arc::new(Context {
            router: self.config.id.clone(),
            connector,
            timing,
            random: random.clone(),
            keeper: handle,
            known: self.published.known.subscribe(),
            lists: self.published.lists.subscribe(),
            board,
            registrar,
            instruments: self.instruments.clone(),
            reports: self.reports.clone(),
            stop: self.stop.clone(),
        });
        for _ in 0..self.config.sessions {
            tasks.spawn(slot(Arc::clone(&context)));
        }
        let (output, lists, stop) = (self.config.output.clone(), self.published.lists.subscribe(), self.stop.clone());
        let instruments = self.instruments.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = outputs::follow(output, lists, disk, instruments, random) => {}
                () = stop.cancelled() => {}
            }
        });
        tasks
    }

    fn renewing(&self, store: Store) -> Renewing {
        let (known, random) = (self.published.known.subscribe(), self.parts.random.clone());
        Renewing { store, known, metrics: self.instruments.metrics.clone(), random }
    }

    /// Until `stop`: a task that fails ends this life, and the next one begins from disk.
    async fn go_on(self: Arc<Self>, mut tasks: JoinSet<()>) {
        for attempt in 0.. {
            let fault = loop {
                match tasks.join_next().await {
                    None => return,
                    Some(Ok(())) => {}
                    Some(Err(fault)) => break fault,
                }
            };
            tracing::error!(%fault, "a fault in the router's own code: it starts again from disk and keeps its list; report this");
            self.instruments.metrics.restarted();
            tasks.shutdown().await;
            // Between two lives nobody has to answer, however long the disk is away: the list of the last one stays in use.
            self.pulse.send_replace(None);
            match self.begin_again(attempt).await {
                Some(begun) => tasks = begun,
                None => return,
            }
        }
    }

    /// The next life, or `None` when the router is to stop.
    async fn begin_again(self: &Arc<Self>, attempt: u32) -> Option<JoinSet<()>> {
        for failed in attempt.. {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(retry::delay(RESTART, failed, (self.parts.random)())) => {}
            }
            // On a task of its own: a fault in here is one more reason to try again, not the end.
            let life = Arc::clone(self);
            let begun = tokio::spawn(async move {
                let opened = open(&life.config, &life.parts).await?;
                Ok::<_, OpenError>(life.begin(opened).await)
            });
            match begun.await {
                Ok(Ok(begun)) => return Some(begun),
                Ok(Err(error)) => tracing::error!(%error, "cannot open the data directory again; will try again"),
                Err(fault) => tracing::error!(%fault, "a fault while starting again; will try again; report this"),
            }
        }
        None
    }
}
