//! A cluster of whole controllers in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pilothouse::controller::config::{ControllerConfig, ControllerFile, InitialMemberFile, ListenFile, UpgradeFile};
use pilothouse::controller::listeners::{AdminSocket, Listeners};
use pilothouse::controller::{Parts, Running};
use pilothouse::domain::endpoint::Endpoint;
use pilothouse::domain::ids::ControllerId;
use pilothouse::ops::alerts::AlertsConfig;
use pilothouse::proto::admin::{ChangeProgress, ChangeRequest, change_request};
use pilothouse::rpc::client::{AdminClient, ClientError};
use pilothouse::storage::OnFatal;
use pilothouse::tls::{ControllerTlsFile, Security};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::network::Network;
use crate::support::pki::Pki;

/// Longest wait for anything that a test expects to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
pub(super) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        loop {
            ticks.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("did not happen: {what}"))
}

/// One controller and where it listens.
pub(super) struct Seat {
    pub(super) peer: SocketAddr,
    pub(super) router: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) http: SocketAddr,
    config: ControllerConfig,
    running: Option<Running>,
}

impl Seat {
    pub(super) fn running(&self) -> &Running {
        self.running.as_ref().expect("this controller runs")
    }

    pub(super) fn id(&self) -> Option<ControllerId> {
        self.running().backend().node().me().id
    }

    pub(super) fn leads(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.backend().node().status().borrow().leads())
    }

    pub(super) fn last_log(&self) -> Option<u64> {
        self.running().backend().node().status().borrow().last_log
    }

    pub(super) async fn admin_client(&self) -> AdminClient {
        AdminClient::connect(&[endpoint(self.admin)], None, Security::default()).await.unwrap()
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    format!("http://{address}").parse().unwrap()
}

/// Controllers, their directories, and the network between them.
pub(super) struct Cluster {
    pub(super) seats: Vec<Seat>,
    pub(super) network: Network,
    /// Absent: plain text.
    pub(super) pki: Option<Pki>,
    parts: Parts,
    upgrade: UpgradeFile,
    directory: TempDir,
}

impl Cluster {
    /// Founds a cluster and waits until every controller serves routers.
    pub(super) async fn of(size: usize) -> Self {
        Self::with(size, Parts::default()).await
    }

    pub(super) async fn with(size: usize, parts: Parts) -> Self {
        Self::speaking(size, parts, None, UpgradeFile::default()).await
    }

    /// With an upgrade that is finalized by itself after so many seconds.
    pub(super) async fn finalizing(size: usize, parts: Parts, after_s: u64) -> Self {
        Self::speaking(size, parts, None, UpgradeFile { finalize_after_s: Some(after_s) }).await
    }

    /// Over TLS, with certificates of an authority of its own.
    pub(super) async fn secure(size: usize) -> Self {
        Self::speaking(size, Parts::default(), Some(Pki::new()), UpgradeFile::default()).await
    }

    async fn speaking(size: usize, parts: Parts, pki: Option<Pki>, upgrade: UpgradeFile) -> Self {
        let network = Network::default();
        let directory = TempDir::new().unwrap();
        let mut cluster = Self { seats: Vec::new(), network, pki, parts, upgrade, directory };
        let mut bound = Vec::new();
        for _ in 0..size {
            bound.push(ports().await);
        }
        let members: Vec<_> = (1..)
            .zip(&bound)
            .map(|(id, ports)| InitialMemberFile {
                id,
                name: format!("controller-{id}"),
                peer: cluster.at(ports.0.local_addr().unwrap()).to_string(),
            })
            .collect();
        for (id, ports) in (1..).zip(bound) {
            let file = ControllerFile { id: Some(id), initial_members: Some(members.clone()), ..Default::default() };
            cluster.start(&format!("controller-{id}"), file, ports).await;
        }
        for seat in 0..size {
            cluster.serves(seat).await;
        }
        cluster
    }

    /// Starts a controller that founds a cluster of its own, and waits for nothing. Returns its place.
    pub(super) async fn founder_alone(&mut self) -> usize {
        self.founder_with(None).await
    }

    /// The same, with a socket for operators.
    pub(super) async fn founder_with(&mut self, socket: Option<AdminSocket>) -> usize {
        let ports = ports().await;
        let name = "controller-1".to_owned();
        let members = vec![InitialMemberFile {
            id: 1,
            name: name.clone(),
            peer: self.at(ports.0.local_addr().unwrap()).to_string(),
        }];
        let file = ControllerFile { id: Some(1), initial_members: Some(members), ..Default::default() };
        self.start_with(&name, file, ports, socket).await;
        self.seats.len() - 1
    }

    /// Starts a blank controller that waits to be added. Returns its place.
    pub(super) async fn newcomer(&mut self, name: &str) -> usize {
        let ports = ports().await;
        self.start(name, ControllerFile { join: Some(true), ..Default::default() }, ports).await;
        self.seats.len() - 1
    }

    /// The same with the certificate of this id. Returns its place.
    pub(super) async fn impostor(&mut self, name: &str, id: u64) -> usize {
        let ports = ports().await;
        let tls = self.tls(id);
        let file = ControllerFile { join: Some(true), tls, ..Default::default() };
        self.start(name, file, ports).await;
        self.seats.len() - 1
    }

    async fn start(&mut self, name: &str, file: ControllerFile, ports: Ports) {
        self.start_with(name, file, ports, None).await;
    }

    async fn start_with(&mut self, name: &str, file: ControllerFile, ports: Ports, socket: Option<AdminSocket>) {
        let [peer, router, admin, http] =
            [&ports.0, &ports.1, &ports.2, &ports.3].map(|port| port.local_addr().unwrap());
        let text = |address: SocketAddr| Some(address.to_string());
        let file = ControllerFile {
            name: Some(name.to_owned()),
            data_dir: Some(self.directory.path().join(peer.port().to_string())),
            listen: ListenFile { peer: text(peer), router: text(router), admin: text(admin), http: text(http) },
            tls: match file.tls.dir {
                Some(_) => file.tls.clone(),
                None => self.tls(file.id.unwrap_or(self.seats.len() as u64 + 1)),
            },
            upgrade: self.upgrade.clone(),
            ..file
        };
        let config = file.validate().unwrap();
        let listeners = Listeners { peer: ports.0, router: ports.1, admin: ports.2, http: ports.3, socket };
        let running = Running::start(&config, listeners, self.parts(peer)).await.unwrap();
        self.seats.push(Seat { peer, router, admin, http, config, running: Some(running) });
    }

    fn tls(&self, id: u64) -> ControllerTlsFile {
        match &self.pki {
            Some(pki) => ControllerTlsFile {
                dir: Some(pki.directory(&format!("controller/{id}"))),
                ..ControllerTlsFile::default()
            },
            None => ControllerTlsFile::plain(),
        }
    }

    /// An address, as it is written in this cluster.
    pub(super) fn at(&self, address: SocketAddr) -> Endpoint {
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}").parse().unwrap()
    }

    /// A client of a controller's admin port, with the certificate of an admin.
    pub(super) async fn admin_of(&self, seat: usize) -> AdminClient {
        let security = self.pki.as_ref().map_or_else(Security::default, |pki| pki.security("admin/alice"));
        AdminClient::connect(&[self.at(self.seats[seat].admin)], None, security).await.unwrap()
    }

    fn parts(&self, peer: SocketAddr) -> Parts {
        let dialer = self.pki.is_none().then(|| self.network.dialer(peer.port()));
        // A test that ends takes the directories away from controllers that still run.
        let on_fatal = Some(OnFatal::call(|_| {}));
        Parts { dialer, on_fatal, ..self.parts.clone() }
    }

    /// Where a controller keeps its data.
    pub(super) fn data_dir(&self, seat: usize) -> &Path {
        &self.seats[seat].config.data_dir
    }

    /// Until a controller takes router sessions.
    pub(super) async fn serves(&self, seat: usize) {
        use pilothouse::rpc::control_plane::ControlPlane;
        let backend = self.seats[seat].running().backend();
        eventually("a controller serves routers", async || backend.standing().ok()).await;
    }

    pub(super) async fn leader(&self) -> usize {
        eventually("somebody leads", async || self.seats.iter().position(Seat::leads)).await
    }

    pub(super) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.seats.len()).find(|seat| *seat != leader).unwrap()
    }

    /// A controller that the test goes on with by itself.
    pub(super) fn take(&mut self, seat: usize) -> Running {
        self.seats[seat].running.take().expect("this controller runs")
    }

    pub(super) async fn stop(&mut self, seat: usize) {
        if let Some(running) = self.seats[seat].running.take() {
            running.stop().await;
        }
    }

    /// Starts a controller again, which posts its alarms there.
    pub(super) async fn restart_alarming(&mut self, seat: usize, url: &str) {
        self.seats[seat].config.alerts = Some(AlertsConfig::to(url.parse().unwrap()));
        self.restart(seat).await;
        self.serves(seat).await;
    }

    pub(super) async fn restart(&mut self, seat: usize) {
        self.stop(seat).await;
        let config = self.seats[seat].config.clone();
        let running = eventually("ports and directory are free again", async || {
            let listeners = Listeners::bind(&config).await.ok()?;
            Running::start(&config, listeners, self.parts(self.seats[seat].peer)).await.ok()
        })
        .await;
        self.seats[seat].running = Some(running);
    }

    /// Makes a change through one of the controllers; its last message, or the refusal.
    pub(super) async fn change(
        &self,
        through: usize,
        change: change_request::Change,
    ) -> Result<ChangeProgress, ClientError> {
        let mut client = self.seats[through].admin_client().await;
        let mut progress = client.change(ChangeRequest { change: Some(change), wait: true }).await?;
        let mut last = ChangeProgress::default();
        while let Some(next) = progress.next().await? {
            last = next;
        }
        Ok(last)
    }
}

type Ports = (TcpListener, TcpListener, TcpListener, TcpListener);

async fn ports() -> Ports {
    let port = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
    (port().await, port().await, port().await, port().await)
}
