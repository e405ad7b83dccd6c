//! One controller's part in Raft: what the rest of the daemon calls.
//!
//! A blank node has a data directory and answers `Identify` and `Enlist`; Raft starts in it, without a restart of the
//! process, once it has an identity. Raft, its peer streams and everything else here run on a runtime of their own.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::alias::SnapshotOf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Channel;

use super::errors::{ChangeError, EnlistRefusal, Fatal, PeerError, StartError};
use super::identity::{self, Identity, Known};
use super::life::{Life, NOT_YET, RaftHandle};
use super::network::dial::{self, Dial, Io};
use super::network::lane::{Lanes, Purpose};
use super::network::service::PeerService;
use super::network::{ask, server};
use super::peer_record::PeerRecord;
use super::settings::{Bootstrap, Seams, Settings};
use super::state_machine::ListDefect;
use super::status::Status;
use super::types::TypeConfig;
use super::{bootstrap, steps};
use crate::domain::acceptance;
use crate::domain::access::Caller;
use crate::domain::controller_list::{ControllerList, ListState};
use crate::domain::endpoint::Endpoint;
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::{ControllerId, Incarnation};
use crate::domain::membership::{Member, Step};
use crate::domain::negotiation::ProtocolRange;
use crate::domain::state::{ClusterState, LogPosition};
use crate::proto::peer::Header;
use crate::proto::peer::raft_peer_server::RaftPeerServer;
use crate::storage::{Assignment, Directory};

/// One controller's part in Raft. Clones share it.
#[derive(Clone)]
pub struct Node {
    life: Arc<Life>,
}

impl Node {
    /// Starts a node on an open data directory: Raft if the directory has an identity, else whatever the settings say
    /// about getting one.
    ///
    /// # Errors
    /// [`StartError`] with the remedy.
    pub async fn start(settings: Settings, directory: Directory, seams: Seams) -> Result<Self, StartError> {
        settings.check()?;
        directory.expect(settings.id, None)?;
        let node = Self { life: Arc::new(Life::new(settings, directory, seams)?) };
        if node.me().is_blank() {
            node.say_blank();
        } else {
            node.life.start_raft(&node).await?;
        }
        node.life.tend("bootstrap", bootstrap::run(node.clone()));
        Ok(node)
    }

    fn say_blank(&self) {
        let incarnation = self.life.me().incarnation;
        match self.settings().bootstrap {
            Bootstrap::Join => tracing::info!(
                %incarnation,
                "this controller is blank: add it with `pilothouse cluster add --peer ADDRESS` on a running cluster"
            ),
            Bootstrap::InitialMembers(_) => tracing::info!(%incarnation, "this controller is blank: forming a cluster"),
        }
    }

    /// What it was told at start.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.life.settings
    }

    /// The runtime on which Raft runs: peer streams belong there, so that sessions cannot delay a heartbeat.
    #[must_use]
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.life.runtime()
    }

    /// The peer protocol of this node, with its limits. [`Node::serve_peers`] serves it.
    #[must_use]
    pub fn peer_service(&self) -> RaftPeerServer<PeerService> {
        server::service(PeerService::new(self.clone()))
    }

    /// Serves the peer protocol over plain text, on Raft's own runtime and with all limits set. Ends when `stop` does.
    ///
    /// # Errors
    /// When the server cannot go on.
    pub async fn serve_peers(
        &self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), tonic::transport::Error> {
        let prepare =
            |stream: io::Result<TcpStream>| stream.and_then(|s| s.set_nodelay(true).map(|()| (s, Caller::Plain)));
        let incoming = futures::StreamExt::map(TcpListenerStream::new(listener), prepare);
        self.serve_peers_on(incoming, Routes::new(self.peer_service()), stop).await
    }

    /// Serves routes, with [`Node::peer_service`] among them, as [`Node::serve_peers`] does, on connections from anywhere.
    ///
    /// # Errors
    /// When the server cannot go on.
    pub async fn serve_peers_on<S: Io>(
        &self,
        incoming: impl Stream<Item = io::Result<(S, Caller)>> + Send + 'static,
        routes: Routes,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), tonic::transport::Error> {
        let (done, ended) = tokio::sync::oneshot::channel();
        self.life.tend("peer port", async move {
            // Nobody listens when the caller went away; the server ends with `stop` all the same.
            let _ = done.send(server::serve(incoming, routes, stop).await);
        });
        // Without an answer the runtime has ended, and the server with it.
        ended.await.unwrap_or(Ok(()))
    }

    /// Who this controller is at this moment.
    #[must_use]
    pub fn me(&self) -> Identity {
        self.life.me()
    }

    /// How Raft is doing.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.life.status.subscribe()
    }

    /// The controller list of the newest membership that was applied here: committed, durable, never one that is only
    /// in the log. `Unknown` until the first.
    #[must_use]
    pub fn lists(&self) -> watch::Receiver<Arc<ListState>> {
        self.life.applied.lists()
    }

    /// The latest applied membership that made no list, if there was one. The last good list stays published.
    #[must_use]
    pub fn list_defects(&self) -> watch::Receiver<Option<ListDefect>> {
        self.life.applied.defects()
    }

    /// Rises whenever what was applied here may have changed who is retired or banned: then look at
    /// [`ClusterState::standing`] again.
    #[must_use]
    pub fn standings(&self) -> watch::Receiver<u64> {
        self.life.applied.standings()
    }

    /// How often a snapshot was not made here since the disk had no room for it, since the start.
    #[must_use]
    pub fn snapshots_without_room(&self) -> u64 {
        self.life.applied.snapshots_without_room()
    }

    /// Reads the applied state. Quick work only: applying waits meanwhile.
    pub fn read<T>(&self, f: impl FnOnce(&ClusterState) -> T) -> T {
        self.life.applied.read(f)
    }

    /// Carries out one step of a plan, given the position of the last membership entry. Returns the position of the
    /// last membership entry afterwards: the precondition of the next step.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn carry_out(&self, step: &Step, precondition: LogPosition) -> Result<LogPosition, ChangeError> {
        steps::carry_out(self, step, precondition).await
    }

    /// Hands leadership to a live, caught-up voter and waits until it leads.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn hand_over(&self, to: ControllerId) -> Result<(), ChangeError> {
        steps::hand_over(self, to).await
    }

    /// Asks the controller at an address who it is. Where certificates say it, it has to be this one, if one is expected.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn identify(&self, peer: &Endpoint, whom: Option<ControllerId>) -> Result<PeerRecord, PeerError> {
        ask::identify(self.dialer(), whom, peer).await
    }

    /// Gives a blank controller this cluster's id and its own. Returns once that is on its disk. `carry_out` of
    /// `Step::AddLearner` does this by itself.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn enlist(&self, member: &Member) -> Result<(), PeerError> {
        self.enlist_at(&member.peer, member.id, member.incarnation).await
    }

    /// Compares a message's header with who this controller is, and with the certificate of whoever sent it; every service
    /// for controllers asks this first.
    ///
    /// # Errors
    /// A status that says what is wrong and what to do.
    #[allow(clippy::result_large_err, reason = "a service returns it as it is")]
    pub fn admit(&self, caller: &Caller, header: Option<&Header>) -> Result<ControllerId, tonic::Status> {
        let (me, hears) = (self.me(), self.hears());
        match self.read(|state| identity::admit(&me, Known::new(state, hears), caller, header)) {
            Ok(sender) => Ok(sender.id),
            Err(stranger) => {
                self.life.complaints.raise(&stranger);
                Err(stranger.into())
            }
        }
    }

    /// The leader that this controller hears at this moment; as a leader, itself while a majority answers.
    #[must_use]
    pub fn hears(&self) -> Option<ControllerId> {
        let status = self.status();
        let status = status.borrow();
        let lease = Duration::from_millis(self.settings().election_max_ms);
        status.leader.filter(|_| status.leader_contact_age().is_some_and(|age| age <= lease))
    }

    /// The header of a message to a member.
    #[must_use]
    pub fn header_to(&self, member: &Member) -> Header {
        self.me().header_to(member)
    }

    /// A channel to a member's peer port, by its applied record; it connects when it is first used, and follows the
    /// member's addresses. Requests on it need deadlines of their own.
    ///
    /// # Errors
    /// [`PeerError::NotAMember`].
    pub fn channel_to(&self, id: ControllerId) -> Result<(Member, Channel), PeerError> {
        let missing = PeerError::NotAMember { id };
        let member = self.life.member(id).ok_or(missing.clone())?;
        let channel = self.lanes().ok_or(missing)?.lane(&member, Purpose::Relay).channel();
        Ok((member, channel))
    }

    /// A channel to a controller at an address; it connects when it is first used.
    #[must_use]
    pub fn channel_at(&self, address: &Endpoint, whom: ControllerId) -> Channel {
        let addresses = vec![address.clone()];
        dial::channel(Arc::clone(self.dialer()), Some(whom), Arc::new(move || addresses.clone()))
    }

    /// Whether Raft's core and the flusher of the log come to answer: both do, unless they are stuck. A blank node has no
    /// core yet. The state machine is not asked: the core waits for it once its queue is full.
    pub async fn answers(&self) -> bool {
        let flusher = self.life.directory.flusher();
        let core = async {
            match self.life.raft() {
                Some(raft) => raft.with_raft_state(|_| ()).await.is_ok(),
                None => true,
            }
        };
        let (core, log) = tokio::join!(core, flusher.answers());
        core && log
    }

    /// Waits until Raft stops by itself: the process has to end then. Never returns for a node that was shut down.
    pub async fn fatal(&self) -> Fatal {
        self.life.fatal().await
    }

    /// Ends everything at once, as a crash would, and returns before it has ended. What was acknowledged is on disk.
    /// Its own tasks keep a node alive: whoever drops one without [`Node::shutdown`] calls this.
    pub fn abandon(&self) {
        self.life.abandon();
    }

    /// Stops Raft and flushes what it wrote.
    pub async fn shutdown(&self) {
        self.life.shutdown().await;
    }
}

/// Why a question has no answer once Raft has ended.
pub(super) const STOPPED: &str = "has stopped";

/// For the rest of this module.
impl Node {
    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    pub(super) fn running(&self) -> Result<RaftHandle, &'static str> {
        self.life.raft().ok_or(NOT_YET)
    }

    pub(super) fn lanes(&self) -> Option<Arc<Lanes>> {
        self.life.lanes()
    }

    pub(super) fn dialer(&self) -> &Arc<dyn Dial> {
        &self.life.seams.dialer
    }

    pub(super) fn judge(&self, list: &ControllerList) -> Result<(), acceptance::Refusal> {
        (self.life.seams.judge)(list)
    }

    /// Milliseconds since 1970, from the injected clock: what a proposal of this moment would carry.
    #[must_use]
    pub fn clock_ms(&self) -> u64 {
        (self.life.seams.clock)()
    }

    /// A number drawn uniformly over all of `u32`, from the injected source.
    #[must_use]
    pub fn random(&self) -> u32 {
        (self.life.seams.random)()
    }

    /// Never 0, which the wire reads as absent.
    pub(super) fn random_u128(&self) -> u128 {
        (0..4).fold(0, |bits, _| bits << 32 | u128::from(self.random())).max(1)
    }

    pub(super) async fn is_initialized(&self) -> bool {
        match self.running() {
            Ok(raft) => raft.is_initialized().await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// What this controller says of itself.
    pub(super) fn record(&self) -> PeerRecord {
        let (settings, me, log) = (self.settings(), self.me(), self.life.directory.log());
        PeerRecord {
            incarnation: me.incarnation,
            // A joining controller may know its id before it has it: its certificate says so.
            id: me.id.or(settings.id.filter(|_| settings.bootstrap == Bootstrap::Join)),
            cluster: me.cluster,
            name: settings.name.clone(),
            peer: settings.peer.clone(),
            router: settings.router.clone(),
            admin: settings.admin.clone(),
            joins: settings.bootstrap == Bootstrap::Join,
            software_version: settings.software_version.clone(),
            level_min: FeatureLevel::ONE,
            level_max: FeatureLevel::SUPPORTED,
            protocols: ProtocolRange::SUPPORTED,
            keys: Vec::new(),
            last_log: log.last_index().or(log.purged().map(|position| position.index)),
            applied: self.read(|state| state.applied.map(|position| position.index)),
        }
    }

    pub(super) async fn enlist_at(
        &self,
        addresses: &[Endpoint],
        id: ControllerId,
        incarnation: Incarnation,
    ) -> Result<(), PeerError> {
        let header = self.me().header(id, incarnation);
        let nowhere = PeerError::Unreachable { at: format!("controller {id}"), reason: "it has no address".to_owned() };
        let mut result = Err(nowhere);
        for at in addresses {
            result = ask::enlist(self.dialer(), id, at, header.clone()).await;
            if !matches!(result, Err(PeerError::Unreachable { .. })) {
                break;
            }
        }
        result
    }

    /// Takes an identity, durably, and starts Raft with it.
    pub(super) async fn assign(&self, assignment: Assignment) -> Result<(), String> {
        self.life.assign(self, assignment).await
    }

    pub(super) async fn accept_enlistment(
        &self,
        caller: &Caller,
        header: Option<&Header>,
    ) -> Result<(), EnlistRefusal> {
        let assignment = bootstrap::judge_enlistment(self, caller, header)?;
        self.assign(assignment).await.map_err(|reason| EnlistRefusal::Disk { reason })?;
        let (cluster, id) = (assignment.cluster, assignment.id);
        tracing::info!(%cluster, id = id.get(), "this controller was enlisted");
        Ok(())
    }

    pub(super) fn heard_from(&self, id: ControllerId) {
        if let Some(lanes) = self.lanes() {
            lanes.heard_from(id);
        }
    }
}

/// A snapshot as Raft's library passes it around.
pub(super) type RaftSnapshot = SnapshotOf<TypeConfig, crate::storage::SnapshotFile>;
