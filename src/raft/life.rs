//! What a node consists of while it lives: its directory, its applied state, Raft once it runs, and the threads that
//! all of it runs on.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::WatchReceiver as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::duties;
use super::errors::{Fatal, StartError};
use super::identity::{Identity, Stranger};
use super::log_store::LogStore;
use super::network::client::Network;
use super::network::lane::Lanes;
use super::node::Node;
use super::settings::{Seams, Settings};
use super::state_machine::{Applied, StateMachine};
use super::status::{LeaderContact, Status};
use super::types::TypeConfig;
use crate::domain::ids::ControllerId;
use crate::domain::membership::Member;
use crate::storage::{Assignment, Directory};

/// Threads of the runtime that Raft has for itself.
const THREADS: usize = 2;
/// At most this often the status is published anew.
const STATUS_EVERY: Duration = Duration::from_millis(10);
/// Longest wait for Raft's tasks to end. The log is flushed after it, within the time that a stop has for both.
pub const RAFT_ENDS_MS_MAX: u64 = 1_500;
/// The same refusal of a stranger is logged at most this often.
const COMPLAINT_EVERY: Duration = Duration::from_secs(30);
/// Most different refusals that are remembered for that.
const COMPLAINTS_MAX: usize = 64;

/// How many trials of a feature level go on at a time: each writes the whole state.
pub(super) const TRIALS_MAX: usize = 1;

/// Why a question has no answer before Raft runs.
pub(super) const NOT_YET: &str = "is blank: it belongs to no cluster yet";

/// Raft as it runs here.
pub(super) type RaftHandle = Raft<TypeConfig, StateMachine>;

pub(super) struct Life {
    pub(super) settings: Settings,
    pub(super) seams: Seams,
    pub(super) directory: Directory,
    pub(super) applied: Applied,
    pub(super) status: watch::Sender<Status>,
    pub(super) contact: LeaderContact,
    pub(super) complaints: Complaints,
    pub(super) snapshot_turns: watch::Sender<u64>,
    pub(super) trials: Arc<Semaphore>,
    /// Taken when Raft starts.
    parts: tokio::sync::Mutex<Option<(LogStore, StateMachine)>>,
    raft: OnceLock<(RaftHandle, Arc<Lanes>)>,
    fatal: watch::Sender<Option<Fatal>>,
    stop: CancellationToken,
    threads: Threads,
}

impl Life {
    pub(super) fn new(settings: Settings, directory: Directory, seams: Seams) -> Result<Self, StartError> {
        let unusable = |reason: String| StartError::Storage { reason };
        let log = LogStore::open(&directory).map_err(|error| unusable(error.to_string()))?;
        let machine = StateMachine::open(&directory, &log).map_err(|error| unusable(error.to_string()))?;
        let applied = machine.applied();
        let threads = Threads::new(seams.runtime.clone()).map_err(StartError::Runtime)?;
        Ok(Self {
            settings,
            seams,
            directory,
            applied,
            status: watch::Sender::default(),
            contact: LeaderContact::default(),
            complaints: Complaints::default(),
            snapshot_turns: watch::Sender::new(0),
            trials: Arc::new(Semaphore::new(TRIALS_MAX)),
            parts: tokio::sync::Mutex::new(Some((log, machine))),
            raft: OnceLock::new(),
            fatal: watch::Sender::default(),
            stop: CancellationToken::new(),
            threads,
        })
    }

    pub(super) fn runtime(&self) -> Handle {
        self.threads.handle.clone()
    }

    pub(super) fn me(&self) -> Identity {
        let marker = self.directory.marker();
        Identity {
            id: marker.assignment.map(|assignment| assignment.id),
            incarnation: marker.incarnation,
            cluster: marker.assignment.map(|assignment| (assignment.cluster, assignment.epoch)),
        }
    }

    pub(super) fn member(&self, id: ControllerId) -> Option<Member> {
        self.applied.read(|state| state.membership.as_ref()?.membership.member(id).cloned())
    }

    pub(super) fn raft(&self) -> Option<RaftHandle> {
        self.raft.get().map(|(raft, _)| raft.clone())
    }

    pub(super) fn lanes(&self) -> Option<Arc<Lanes>> {
        self.raft.get().map(|(_, lanes)| Arc::clone(lanes))
    }

    /// Takes an identity, durably, and starts Raft with it. Repeating it is harmless.
    pub(super) async fn assign(self: &Arc<Self>, node: &Node, assignment: Assignment) -> Result<(), String> {
        let directory = self.directory.clone();
        let assigned = self.runtime().spawn_blocking(move || directory.assign(assignment)).await;
        assigned.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.start_raft(node).await.map_err(|error| error.to_string())
    }

    /// Starts Raft on its own runtime, once.
    pub(super) async fn start_raft(self: &Arc<Self>, node: &Node) -> Result<(), StartError> {
        let mut parts = self.parts.lock().await;
        let (Some((log, machine)), Some(id)) = (parts.take(), self.me().id) else { return Ok(()) };
        let unusable = |reason: String| StartError::Storage { reason };
        let config = Arc::new(self.settings.raft().validate().map_err(|error| unusable(error.to_string()))?);
        let applied = self.applied.clone();
        let records = move |id| applied.read(|state| state.membership.as_ref()?.membership.member(id).cloned());
        let lanes = Arc::new(Lanes::new(self.me(), self.seams.clone(), Arc::new(records)));
        let network = Network::new(Arc::clone(&lanes));
        let start = async move { Raft::new(id.get(), config, network, log, machine).await };
        let started = self.runtime().spawn(start).await.map_err(|error| error.to_string());
        let raft = match started.and_then(|raft| raft.map_err(|error| error.to_string())) {
            Ok(raft) => raft,
            Err(reason) => {
                // Its log is gone with it: this process cannot try again, and must not go on as if Raft ran.
                self.die(format!("it did not start: {reason}"));
                return Err(unusable(reason));
            }
        };
        let _ = self.raft.set((raft.clone(), lanes));
        self.tend("status", watch_status(Arc::clone(self), raft.clone()));
        self.tend("leader's duties", duties::run(node.clone(), raft));
        Ok(())
    }

    /// Runs a task on Raft's runtime until the node stops. A panic in it ends the process: an unknown state is worse
    /// than a restart.
    pub(super) fn tend(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (life, stop) = (Arc::clone(self), self.stop.clone());
        let task = self.runtime().spawn(async move {
            stop.run_until_cancelled(task).await;
        });
        self.runtime().spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                life.die(format!("the task {name} panicked"));
            }
        });
    }

    fn die(&self, reason: String) {
        let at = self.applied.read(|state| state.applied);
        tracing::error!(%reason, "Raft stopped: the process has to be restarted");
        self.fatal.send_replace(Some(Fatal::Stopped { at, reason }));
    }

    /// The leader sends what only a newer build reads. Whoever stayed up would hear heartbeats, and so be ready for
    /// routers, with a list that never changes again; and the same entry on its disk would not let it start.
    pub(super) fn outdated(&self, reason: String) {
        let at = self.applied.read(|state| state.applied);
        let told = |fatal: &mut Option<Fatal>| {
            let first = fatal.is_none();
            fatal.get_or_insert(Fatal::Outdated { at, reason: reason.clone() });
            first
        };
        if self.fatal.send_if_modified(told) {
            tracing::error!(%reason, "the cluster was upgraded beyond this build: the process ends");
        }
    }

    pub(super) async fn fatal(&self) -> Fatal {
        let mut fatal = self.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.map(|fatal| fatal.clone()) {
            Ok(Some(fatal)) => fatal,
            // The sender lives as long as this does.
            _ => std::future::pending().await,
        }
    }

    /// Ends everything that runs here, and waits for nothing. What was acknowledged is on disk.
    pub(super) fn abandon(&self) {
        self.stop.cancel();
        if let Some(raft) = self.raft() {
            // Dropped with the runtime when that ends first.
            drop(self.runtime().spawn(async move { drop(raft.shutdown().await) }));
        }
    }

    pub(super) async fn shutdown(&self) {
        self.stop.cancel();
        // Whoever starts Raft at this moment finishes first.
        let parts = self.parts.lock().await.take();
        drop(parts);
        if let Some(raft) = self.raft() {
            let ended = tokio::time::timeout(Duration::from_millis(RAFT_ENDS_MS_MAX), raft.shutdown()).await;
            if ended.is_err() {
                tracing::warn!("Raft's tasks did not end within {RAFT_ENDS_MS_MAX} ms");
            }
        }
        tracing::info!("stopping: Raft stopped");
        let log = self.directory.log();
        match self.runtime().spawn_blocking(move || log.sync()).await {
            Ok(Ok(())) => tracing::info!("stopping: the log is flushed"),
            Ok(Err(error)) => tracing::error!(%error, "cannot flush the log"),
            Err(error) => tracing::error!(%error, "cannot flush the log"),
        }
        self.status.send_modify(|status| status.role = super::status::RaftRole::Stopped);
    }
}

/// Publishes the status, and notices when Raft ends by itself. At a stop it ends because it was told to.
async fn watch_status(life: Arc<Life>, raft: RaftHandle) {
    let ended_by_itself = |reason| {
        if !life.stop.is_cancelled() {
            life.die(reason);
        }
    };
    let mut metrics = raft.metrics();
    drop(raft);
    loop {
        let (status, ended) = {
            let now = metrics.borrow_and_update();
            (Status::of(&now, life.contact.at()), now.running_state.as_ref().err().map(ToString::to_string))
        };
        life.status.send_replace(status);
        if let Some(reason) = ended {
            return ended_by_itself(reason);
        }
        tokio::time::sleep(STATUS_EVERY).await;
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() {
                return ended_by_itself("Raft's own task panicked".to_owned());
            },
            () = life.contact.next() => {}
        }
    }
}

/// Whose turn it is to send this node a snapshot: the newest transfer's. A cut connection may leave an older one behind.
pub(super) struct Turn {
    number: u64,
    newest: watch::Receiver<u64>,
}

impl Turn {
    pub(super) async fn over(&mut self) {
        let number = self.number;
        // The sender outlives every turn.
        let _ = self.newest.wait_for(|newest| *newest != number).await;
    }
}

impl Life {
    pub(super) fn snapshot_turn(&self) -> Turn {
        let mut number = 0;
        self.snapshot_turns.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        Turn { number, newest: self.snapshot_turns.subscribe() }
    }
}

/// Says what is refused, without filling the log when it is refused ten times a second.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Mutex<Vec<(tokio::time::Instant, Stranger)>>,
}

impl Complaints {
    pub(super) fn raise(&self, stranger: &Stranger) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(at, _)| at.elapsed() < COMPLAINT_EVERY);
        if said.len() < COMPLAINTS_MAX && !said.iter().any(|(_, known)| known == stranger) {
            tracing::warn!(reason = %stranger, "refused a message of another controller");
            said.push((tokio::time::Instant::now(), stranger.clone()));
        }
    }
}

/// Where Raft runs.
struct Threads {
    handle: Handle,
    own: Option<Runtime>,
}

impl Threads {
    fn new(given: Option<Handle>) -> std::io::Result<Self> {
        if let Some(handle) = given {
            return Ok(Self { handle, own: None });
        }
        let own = Builder::new_multi_thread().worker_threads(THREADS).thread_name("raft").enable_all().build()?;
        Ok(Self { handle: own.handle().clone(), own: Some(own) })
    }
}

impl Drop for Threads {
    /// Never waits: this may happen on a thread that must not.
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}
