//! Nodes in this process, and the network between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pilothouse::domain::command::{Change, Registration};
use pilothouse::domain::endpoint::Endpoint;
use pilothouse::domain::ids::{BootId, ControllerId, RouterId};
use pilothouse::domain::membership::{Member, Step};
use pilothouse::domain::negotiation::ProtocolRange;
use pilothouse::domain::state::LogPosition;
use pilothouse::proto::peer::Header;
use pilothouse::raft::{Bootstrap, InitialMember, Node, RaftRole, Seams, Settings, Status};
use pilothouse::storage::{self, Directory, OnFatal};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::network::Network;
use crate::support::{SOON, eventually, expect};

/// One node and where it listens.
pub(super) struct Seat {
    pub(super) peer: SocketAddr,
    pub(super) path: PathBuf,
    node: Node,
    stop: CancellationToken,
}

impl Seat {
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn status(&self) -> Status {
        self.node.status().borrow().clone()
    }

    pub(super) fn port(&self) -> u16 {
        self.peer.port()
    }

    pub(super) fn id(&self) -> ControllerId {
        self.node.me().id.expect("it has an id")
    }

    pub(super) fn applied_membership(&self) -> Option<LogPosition> {
        self.node.read(|state| state.membership.as_ref().map(|applied| applied.position))
    }
}

/// Nodes, their directories, and the network between them.
pub(super) struct Nodes {
    pub(super) seats: Vec<Seat>,
    pub(super) network: Network,
    directory: TempDir,
    tune: fn(&mut Settings),
}

impl Nodes {
    /// Founds a cluster and waits until every node follows its leader.
    pub(super) async fn found(size: usize) -> Self {
        Self::tuned(size, |_| {}).await
    }

    /// The same with other settings.
    pub(super) async fn tuned(size: usize, tune: fn(&mut Settings)) -> Self {
        let mut nodes = Self::none_tuned(tune);
        let mut bound = Vec::new();
        for _ in 0..size {
            bound.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = bound.iter().map(|listener| listener.local_addr().unwrap()).collect();
        for (id, listener) in (1..).zip(bound) {
            nodes.start(&founder(id, &addresses), listener).await;
        }
        nodes.settled().await;
        nodes
    }

    /// No node yet.
    pub(super) fn none() -> Self {
        Self { seats: Vec::new(), network: Network::default(), directory: TempDir::new().unwrap(), tune: |_| {} }
    }

    /// No node yet; those that start have other settings.
    pub(super) fn none_tuned(tune: fn(&mut Settings)) -> Self {
        Self { tune, ..Self::none() }
    }

    /// Starts a node. Returns its place.
    pub(super) async fn start(&mut self, settings: &Settings, listener: TcpListener) -> usize {
        let peer = listener.local_addr().unwrap();
        let path = self.directory.path().join(peer.port().to_string());
        // A test that ends takes the directories away from nodes that still run.
        let opened = storage::Settings { on_fatal: OnFatal::call(|_| {}), ..storage::Settings::default() };
        let directory = Directory::open_with(&path, opened).unwrap();
        let seams = Seams { dialer: self.network.dialer(peer.port()), ..Seams::default() };
        let mut settings = settings.clone();
        // Nobody listens at the latter two; they only have to be its own.
        let at = |host: &str| vec![format!("http://{host}:{}", peer.port()).parse().unwrap()];
        (settings.peer, settings.router, settings.admin) = (at("127.0.0.1"), at("127.0.0.2"), at("127.0.0.3"));
        (self.tune)(&mut settings);
        let node = Node::start(settings, directory, seams).await.unwrap();
        let stop = CancellationToken::new();
        let (serving, ends) = (node.clone(), stop.clone());
        tokio::spawn(async move { serving.serve_peers(listener, ends.cancelled_owned()).await });
        self.seats.push(Seat { peer, path, node, stop });
        self.seats.len() - 1
    }

    /// Starts a blank node that waits to be added. Returns its place.
    pub(super) async fn newcomer(&mut self) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("controller-{}", self.seats.len() + 1).parse().unwrap();
        self.start(&Settings::new(name, None, Bootstrap::Join), listener).await
    }

    /// Until one leads and everybody has applied the cluster's identity.
    pub(super) async fn settled(&self) {
        self.leader().await;
        for seat in &self.seats {
            let founded = async || expect(seat.node.read(|state| state.identity.is_some()), || seat.told());
            eventually("it knows its cluster", SOON, founded).await;
        }
    }

    /// Place of the leader whom a majority follows.
    pub(super) async fn leader(&self) -> usize {
        self.leader_but(&[]).await
    }

    /// Place of a leader that is none of these.
    pub(super) async fn leader_but(&self, others: &[usize]) -> usize {
        eventually("somebody leads", SOON, async || {
            let leads = |place: &usize| self.seats[*place].status().leads() && !others.contains(place);
            let told = || self.seats.iter().map(Seat::told).collect::<Vec<_>>().join("; ");
            (0..self.seats.len()).find(leads).ok_or_else(told)
        })
        .await
    }

    /// Places of all that do not lead.
    pub(super) async fn followers(&self) -> Vec<usize> {
        let leader = self.leader().await;
        (0..self.seats.len()).filter(|place| *place != leader).collect()
    }

    /// Until a node has applied everything that another one has applied by now.
    pub(super) async fn caught_up(&self, place: usize, with: usize) {
        // Not the published status: that may be a moment old.
        let applied = |place: usize| self.seats[place].node.read(|state| state.applied);
        let all = applied(with);
        eventually("it has caught up", SOON, async || {
            expect(applied(place) >= all, || format!("{:?} of {all:?}", applied(place)))
        })
        .await;
    }

    /// Carries out a step on the leader, upon what it has applied.
    pub(super) async fn step(&self, step: &Step) -> LogPosition {
        let leader = &self.seats[self.leader().await];
        let last = leader.applied_membership().unwrap();
        leader.node.carry_out(step, last).await.unwrap()
    }

    /// Adds a node as a learner under this id, and waits until it has caught up.
    pub(super) async fn add(&self, place: usize, id: u64) -> Member {
        let id = ControllerId::new(id).unwrap();
        let leader = self.leader().await;
        let record = self.seats[leader].node.identify(&endpoint(self.seats[place].peer), None).await.unwrap();
        let member = record.member(id);
        self.step(&Step::AddLearner(member.clone())).await;
        self.caught_up(place, leader).await;
        member
    }

    /// A header as one node would send it to another.
    pub(super) fn header(&self, from: usize, to: usize) -> Header {
        let id = self.seats[to].id();
        let member = self.seats[from].node.read(|state| state.membership.as_ref()?.membership.member(id).cloned());
        self.seats[from].node.header_to(&member.unwrap())
    }

    pub(super) fn cut(&self, place: usize) {
        self.network.cut(self.seats[place].port());
    }

    pub(super) fn heal(&self, place: usize) {
        self.network.heal(self.seats[place].port());
    }
}

impl Seat {
    fn told(&self) -> String {
        format!("{}: {:?}", self.peer, self.status())
    }

    /// Waits until it is this.
    pub(super) async fn becomes(&self, role: RaftRole) {
        let is = async || expect(self.status().role == role, || self.told());
        eventually(&format!("it is a {}", role.as_str()), SOON, is).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stop.cancel();
        self.node.abandon();
    }
}

/// Settings of one of the nodes that found a cluster together.
pub(super) fn founder(id: u64, addresses: &[SocketAddr]) -> Settings {
    let member = |(id, peer): (u64, &SocketAddr)| InitialMember {
        id: ControllerId::new(id).unwrap(),
        name: format!("controller-{id}").parse().unwrap(),
        peer: endpoint(*peer),
    };
    let members: Vec<_> = (1..).zip(addresses).map(member).collect();
    let own = ControllerId::new(id).unwrap();
    Settings::new(format!("controller-{id}").parse().unwrap(), Some(own), Bootstrap::InitialMembers(members))
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    format!("http://{address}").parse().unwrap()
}

/// First registrations of so many routers, with so many bytes of labels each.
pub(super) fn registrations(prefix: &str, count: usize, label_bytes: usize) -> Change {
    let one = |number| Registration {
        router: format!("{prefix}-{number}").parse::<RouterId>().unwrap(),
        boot: BootId::from_u128(1),
        sequence: 1,
        software_version: "test".to_owned(),
        protocols: ProtocolRange::SUPPORTED,
        labels: [("filler".to_owned(), "x".repeat(label_bytes))].into(),
        keys: Vec::new(),
    };
    Change::Register((0..count).map(one).collect())
}

/// How many bytes the files in a folder have.
pub(super) fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}
