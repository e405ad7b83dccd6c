//! The controller daemon: storage -> Raft -> services -> drain.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what was written and what was meant |
//! | [`listeners`], [`accept`] | bound ports, and the connections on them |
//! | [`hub`] | the published list and the sessions that follow it |
//! | [`registrar`] | registrations, gathered into log entries |
//! | `membership`, `admin` | changes of membership, and what else operators ask for |
//! | `cluster_status`, `sessions` | what operators are shown |
//! | [`upgrade`] | the feature level: who runs what, what is in the way, raising it, and comparing states |
//! | [`relay`] | what controllers ask of each other beside Raft |
//! | [`enrolment`], [`pacing`] | certificates for join tokens, and how often somebody may ask |
//! | `bans` | banned routers lose their sessions |
//! | `happenings` | events of the whole cluster, for operators |
//! | `tellers` | where routers are in whose name it alarms of what lasts |
//! | `rivals` | two live routers with one id |
//! | `vitals` | what a service manager is told: whether it is alive, and one line |
//! | [`stopping`] | the order of a stop, and its time |
//! | [`tasks`] | what ends the controller when it panics |
//! | [`backend`] | joins Raft with the services that do not know it |

pub mod accept;
mod admin;
pub mod backend;
mod bans;
mod cluster_status;
pub mod config;
mod dialer;
pub mod enrolment;
mod happenings;
pub mod hub;
pub mod listeners;
mod membership;
pub mod metrics;
pub mod pacing;
pub mod registrar;
pub mod relay;
mod rivals;
mod services;
mod sessions;
pub mod stopping;
pub mod tasks;
mod tellers;
pub mod upgrade;
mod vitals;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use self::backend::Backend;
use self::config::{Advertise, Bootstrap, ControllerConfig};
use self::dialer::Dialer;
use self::hub::Hub;
use self::listeners::Listeners;
use self::metrics::Metrics;
use self::services::Services;
use self::tasks::Tasks;
use crate::domain::ids::ControllerId;
use crate::domain::principal::Role;
use crate::ops::alerts::{AlertMetrics, AlertsConfig, POST_MAX, Sink, Who};
use crate::ops::events::Events;
use crate::ops::{Liveness, Ready, Surface, Vitals};
use crate::raft::{self, Fatal, Node, Seams, StartError};
use crate::rpc::list_codec::{self, Codec};
use crate::rpc::router_service::Pace;
use crate::storage::{self, Directory, OnFatal, OpenError};
use crate::tls::enrol::Enrolling;
use crate::tls::watching::{self, CertificateMetrics};
use crate::tls::{MaterialError, Security, web};

/// Why a controller does not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] MaterialError),
    /// The certificate is another controller's.
    #[error("the certificate is {certificate}'s, this is controller {id} (id): give it the certificate of its own id")]
    OtherCertificate {
        /// Whose it is.
        certificate: Role,
        /// Which controller this is.
        id: ControllerId,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// A port cannot be bound.
    #[error("cannot listen on {address} ({key}): {source}; stop whoever uses it, or choose another port")]
    Bind {
        /// Which configuration key.
        key: &'static str,
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The operators' socket cannot be made.
    #[error("cannot make the socket {} (admin_socket): {source}; choose another path", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system does not say where a port is bound.
    #[error("cannot tell where a port is bound: {0}; set advertise.peer, advertise.router and advertise.admin")]
    Address(#[source] io::Error),
    /// Raft does not start.
    #[error(transparent)]
    Raft(#[from] StartError),
    /// Raft stopped by itself.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// One of its tasks panicked.
    #[error("the task {task} panicked; the process ends, start it again; if it repeats, report it with the log")]
    Panicked {
        /// Which one.
        task: &'static str,
    },
}

/// What tests and simulations replace.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Raft's own.
    pub raft: Seams,
    /// What happens when the disk fails; `None`: the process ends.
    pub on_fatal: Option<OnFatal>,
    /// How lists become bytes.
    pub codec: Codec,
    /// How long things take in sessions.
    pub pace: Pace,
    /// Replaces the connections to other controllers.
    pub dialer: Option<Arc<dyn raft::Dial>>,
    /// Who signs routers' certificates, and whom everybody trusts; `None`: as the certificates in use say.
    pub enrolling: Option<Enrolling>,
    /// How often a leader looks after upgrades and states.
    pub looks: upgrade::watching::Pace,
}

/// Runs a controller until `stop`, then drains it. Its ports are bound by the caller, before anything is touched. It is
/// ready when it can take part, whether or not there is a leader: without a majority a restart helps nobody.
///
/// # Errors
/// [`ControllerError`], with what to do.
pub async fn run(
    config: ControllerConfig,
    listeners: Listeners,
    ready: Ready,
    stop: CancellationToken,
) -> Result<(), ControllerError> {
    let running = Running::start(&config, listeners, Parts::default()).await?;
    ready.serving(running.vitals());
    running.until(stop).await
}

/// A controller that runs.
#[derive(Debug)]
pub struct Running {
    backend: Arc<Backend>,
    events: Events,
    liveness: Liveness,
    services: Services,
    tasks: Tasks,
}

impl Running {
    /// Opens the data directory, starts Raft, then serves.
    ///
    /// # Errors
    /// [`ControllerError`], with what to do.
    pub async fn start(config: &ControllerConfig, listeners: Listeners, parts: Parts) -> Result<Self, ControllerError> {
        let advertise = listeners.advertise(&config.advertise, config.tls.scheme())?;
        let security = config.tls.open_patiently().await?;
        let certified = certified(&security, &config.bootstrap)?;
        let path = config.data_dir.clone();
        let mut storage = storage::Settings::default();
        storage.on_fatal = parts.on_fatal.unwrap_or(storage.on_fatal);
        storage.expected_id = configured_id(&config.bootstrap).or(certified);
        let opened = tokio::task::spawn_blocking(move || Directory::open_with(&path, storage)).await;
        let directory = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let dialer = parts.dialer.unwrap_or_else(|| Arc::new(Dialer(security.clone())));
        let seams = Seams { judge: Arc::new(|list| list_codec::judge(list, None)), dialer, ..parts.raft };
        let mut settings = settings(config, advertise, certified);
        settings.checkpoint_every = parts.looks.hash_every;
        let node = Node::start(settings, directory, seams).await?;

        let mut registry = Registry::default();
        let events = Events::new(&mut registry);
        let metrics = Metrics::new(&mut registry);
        let hub = Hub::new(parts.codec, events.clone(), metrics.clone());
        let tasks = Tasks::default();
        let certificates = CertificateMetrics::new(&mut registry);
        let following = watching::follow(security.clone(), events.clone(), certificates, CancellationToken::new());
        tasks.follow("certificates", following);
        let enrolling = parts.enrolling.unwrap_or_else(|| Enrolling::of(&security));
        let upgrades = (config.finalize_after, parts.looks);
        let observed = (events.clone(), metrics);
        let backend = Backend::start(node, hub, observed, tasks.clone(), (security, enrolling), upgrades);
        if let Some(alerts) = config.alerts.clone() {
            tasks.follow("alerts", alarms(alerts, config, &backend, &mut registry).run());
        }
        let (liveness, node) = (Liveness::of("Raft or the log"), backend.node().clone());
        let asking = liveness.clone().follow(move || {
            let node = node.clone();
            async move { node.answers().await }
        });
        tasks.follow("liveness", asking);
        let surface = Surface { registry: Arc::new(registry), alive: Some(liveness.check()), ..Surface::default() };
        let services = Services::start(&backend, listeners, surface, parts.pace);
        tracing::info!(name = %config.name, data_dir = %config.data_dir.display(), "controller runs");
        Ok(Self { backend, events, liveness, services, tasks })
    }

    /// What stands behind its services.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// What happened that a person may have to know.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// How it is, at any time.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let backend = self.backend.clone();
        Vitals { alive: self.liveness.check(), status: Arc::new(move || vitals::line(&backend)) }
    }

    /// Runs until `stop`, then stops in order; or until it cannot go on.
    ///
    /// # Errors
    /// [`ControllerError`] when Raft ended by itself or a task panicked: the process has to end.
    pub async fn until(self, stop: CancellationToken) -> Result<(), ControllerError> {
        tokio::select! {
            () = stop.cancelled() => {}
            fatal = self.backend.node().fatal() => return Err(fatal.into()),
            task = self.tasks.panicked() => return Err(ControllerError::Panicked { task }),
        }
        let tasks = self.tasks.clone();
        tokio::select! {
            () = self.stop() => Ok(()),
            task = tasks.panicked() => Err(ControllerError::Panicked { task }),
        }
    }
}

impl Drop for Running {
    /// One that is not stopped in order ends all the same, at once and without a farewell.
    fn drop(&mut self) {
        self.tasks.stop();
        self.backend.node().abandon();
    }
}

/// Alarms of this controller, and of the routers that report to it, from a task of its own.
fn alarms(alerts: AlertsConfig, config: &ControllerConfig, backend: &Arc<Backend>, registry: &mut Registry) -> Sink {
    let (node, drawing) = (backend.node().clone(), backend.node().clone());
    let cluster = Arc::new(move || node.me().cluster.map(|(cluster, _)| cluster.to_string()));
    let who = Who { instance: format!("controller {}", config.name), cluster };
    let (dial, metrics) = (web::to_alerts(&alerts), AlertMetrics::new(registry));
    let random = Arc::new(move || drawing.random());
    let others = Some(backend.happenings.alarming(metrics.clone(), alerts.severity));
    Sink { config: alerts, who, events: backend.events.clone(), others, dial, metrics, random, within: POST_MAX }
}

const fn configured_id(bootstrap: &Bootstrap) -> Option<ControllerId> {
    match bootstrap {
        Bootstrap::Found { id, .. } => Some(*id),
        Bootstrap::Join => None,
    }
}

/// Whose certificate this controller has, if it has one.
fn certified(security: &Security, bootstrap: &Bootstrap) -> Result<Option<ControllerId>, ControllerError> {
    let Some(store) = security.store() else { return Ok(None) };
    let certificate = store.current().leaf().principal.role.clone();
    let certified = if let Role::Controller(id) = certificate { Some(id) } else { None };
    match configured_id(bootstrap) {
        Some(id) if certified != Some(id) => Err(ControllerError::OtherCertificate { certificate, id }),
        _ => Ok(certified),
    }
}

fn settings(config: &ControllerConfig, advertise: Advertise, certified: Option<ControllerId>) -> raft::Settings {
    let (id, bootstrap): (Option<ControllerId>, _) = match &config.bootstrap {
        Bootstrap::Join => (certified, raft::Bootstrap::Join),
        Bootstrap::Found { id, members } => {
            let member = |m: &config::InitialMember| raft::InitialMember {
                id: m.id,
                name: m.name.clone(),
                peer: m.peer.clone(),
            };
            (Some(*id), raft::Bootstrap::InitialMembers(members.iter().map(member).collect()))
        }
    };
    raft::Settings {
        peer: advertise.peer,
        router: advertise.router,
        admin: advertise.admin,
        heartbeat_ms: config.raft.heartbeat_ms,
        election_min_ms: config.raft.election_min_ms,
        election_max_ms: config.raft.election_max_ms,
        snapshot_every_entries: config.raft.snapshot_every_entries,
        ..raft::Settings::new(config.name.clone(), id, bootstrap)
    }
}
