//! The ports of a running controller: which services each of them serves, and within which limits.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::accept::{Connections, Listen};
use super::backend::Backend;
use super::hub::SESSIONS_MAX;
use super::listeners::{AdminSocket, Listeners};
use super::relay::RelayService;
use super::tasks::Tasks;
use crate::ops;
use crate::proto::DESCRIPTORS;
use crate::raft::RaftRole;
use crate::rpc::admin_service::AdminService;
use crate::rpc::control_plane::{ControlPlane, LeaderSight};
use crate::rpc::router_service::{Pace, RouterService, STREAMS_PER_CONNECTION_MAX};

/// Most connections of operators and other controllers' forwarded requests.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Most connections of other controllers: a few from each of 64.
const PEER_CONNECTIONS_MAX: usize = 1_024;
/// An answer has to begin within this time; longer than anything that waits for an election.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A silent connection is asked after this time whether it lives, and has as long again to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Largest header of a request, in bytes.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client may open and reset before they are accepted.
const PENDING_RESETS_MAX: usize = 32;
/// How often the gRPC health service looks whether routers are served.
const HEALTH_EVERY: Duration = Duration::from_millis(200);
/// Open streams get this long to end at a stop, before their connections are closed.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// The running servers.
#[derive(Debug)]
pub(super) struct Services {
    stop: CancellationToken,
    stop_peers: CancellationToken,
    connections: [Connections; 3],
    outside: Vec<JoinHandle<()>>,
    peers: JoinHandle<()>,
    _socket: Option<AdminSocket>,
}

impl Services {
    /// Serves every port.
    pub(super) fn start(backend: &Arc<Backend>, listeners: Listeners, registry: Registry, pace: Pace) -> Self {
        let (stop, stop_peers) = (CancellationToken::new(), CancellationToken::new());
        let routers = Connections::new(SESSIONS_MAX + SESSIONS_MAX / 4);
        let (admins, peers) = (Connections::new(ADMIN_CONNECTIONS_MAX), Connections::new(PEER_CONNECTIONS_MAX));
        let Listeners { peer, router, admin, http, mut socket } = listeners;

        let mut outside = Vec::new();
        let tasks = &backend.tasks;
        outside.push(serve(("router port", tasks), router, &routers, router_routes(backend, pace, &stop), &stop));
        outside.push(serve(("admin port", tasks), admin, &admins, admin_routes(backend), &stop));
        if let Some(socket) = socket.as_mut().and_then(AdminSocket::take) {
            outside.push(serve(("admin socket", tasks), socket, &admins, admin_routes(backend), &stop));
        }
        let surface =
            ops::Surface { registry: Arc::new(registry), checks: checks(backend), routes: Default::default() };
        outside.push(tasks.spawn("http port", ops::serve(http, surface, stop_peers.clone().cancelled_owned())));

        let relay = Routes::new(RelayService::server(backend.clone()));
        let incoming = peers.incoming(peer);
        let (node, ended) = (backend.node().clone(), stop_peers.clone());
        let peer_port = tasks.spawn("peer port", async move {
            if let Err(error) = node.serve_peers_on(incoming, relay, ended.cancelled_owned()).await {
                tracing::error!(%error, "the peer port ended; restart this controller");
            }
        });
        Self { stop, stop_peers, connections: [routers, admins, peers], outside, peers: peer_port, _socket: socket }
    }

    /// Ends the ports of routers and operators: no new connection, open streams end by themselves or are closed.
    pub(super) async fn stop_outside(&mut self) {
        self.stop.cancel();
        let mut http = self.outside.pop();
        let ended = futures::future::join_all(self.outside.iter_mut());
        if tokio::time::timeout(CLOSE_WITHIN, ended).await.is_err() {
            let [routers, admins, _] = &self.connections;
            tracing::debug!(open = routers.count() + admins.count(), "close connections that did not end");
            [routers, admins].into_iter().for_each(Connections::close_all);
        }
        self.outside = http.take().into_iter().collect();
    }

    /// Ends what is left: the peer port, and probes last.
    pub(super) async fn stop_peers(&mut self) {
        self.stop_peers.cancel();
        self.connections.iter().for_each(Connections::close_all);
        let all = futures::future::join_all(self.outside.iter_mut().chain([&mut self.peers]));
        if tokio::time::timeout(CLOSE_WITHIN, all).await.is_err() {
            tracing::debug!("left connections open at the end");
        }
    }
}

fn serve<L: Listen>(
    (name, tasks): (&'static str, &Tasks),
    listener: L,
    connections: &Connections,
    routes: Routes,
    stop: &CancellationToken,
) -> JoinHandle<()>
where
    L::Io: tonic::transport::server::Connected<ConnectInfo: Clone + Send + Sync + 'static>,
{
    let incoming = connections.incoming(listener);
    let stop = stop.clone().cancelled_owned();
    tasks.spawn(name, async move {
        if let Err(error) = server(routes, incoming, stop).await {
            tracing::error!(port = name, %error, "a port ended; restart this controller");
        }
    })
}

/// Every limit of a port in one place. No connection age: a session lives as long as its router.
async fn server<I, Io>(
    routes: Routes,
    incoming: I,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    I: futures::Stream<Item = std::io::Result<super::accept::Connection<Io>>>,
    Io: tokio::io::AsyncRead
        + tokio::io::AsyncWrite
        + tonic::transport::server::Connected<ConnectInfo: Clone + Send + Sync + 'static>
        + Unpin
        + Send
        + 'static,
{
    Server::builder()
        .concurrency_limit_per_connection(STREAMS_PER_CONNECTION_MAX as usize)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .timeout(ANSWER_WITHIN)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

fn router_routes(backend: &Arc<Backend>, pace: Pace, stop: &CancellationToken) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    let report = stop.clone().run_until_cancelled_owned(report_health(backend.clone(), reporter));
    backend.tasks.spawn("health", report.map(drop));
    let mut routes = Routes::new(RouterService::server(backend.clone(), pace)).add_service(health);
    if let Some(reflection) = reflection("pilothouse.router.v1.RouterControl") {
        routes = routes.add_service(reflection);
    }
    routes
}

fn admin_routes(backend: &Arc<Backend>) -> Routes {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(AdminService::server(backend.clone())).add_service(health);
    if let Some(reflection) = reflection("pilothouse.admin.v1.Admin") {
        routes = routes.add_service(reflection);
    }
    routes
}

/// Says what one port serves. Without it everything else works, so a fault here is only told.
fn reflection(
    service: &str,
) -> Option<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection + use<>>,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .with_service_name(service)
        .build_v1()
        .inspect_err(|error| tracing::warn!(%error, "gRPC reflection is not available"))
        .ok()
}

async fn report_health(backend: Arc<Backend>, reporter: HealthReporter) {
    loop {
        let status = if backend.standing().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("pilothouse.router.v1.RouterControl", status).await;
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}

/// The named questions of `/readyz`.
fn checks(backend: &Arc<Backend>) -> Vec<ops::Check> {
    let check = |name, run: fn(&Backend) -> Result<(), String>| {
        let backend = backend.clone();
        ops::Check::new(name, move || run(&backend))
    };
    vec![
        check("storage", |backend| match backend.node().status().borrow().role {
            RaftRole::Stopped => Err("Raft has stopped; see the log".into()),
            _ => Ok(()),
        }),
        check("member", |backend| match (backend.is_removed(), backend.node().me().cluster) {
            (true, _) => Err("this controller was removed from its cluster".into()),
            (false, None) => Err("this controller belongs to no cluster yet".into()),
            (false, Some(_)) => Ok(()),
        }),
        check("leader", |backend| match backend.leader() {
            LeaderSight { leader: Some(_), .. } => Ok(()),
            LeaderSight { contact_age: Some(age), .. } => Err(format!("no leader was heard for {} s", age.as_secs())),
            LeaderSight { contact_age: None, .. } => Err("no leader was heard since the start".into()),
        }),
        check("caught-up", |backend| {
            if backend.caught_up() { Ok(()) } else { Err("has not caught up with the cluster since the start".into()) }
        }),
        check("list", |backend| backend.hub().newest().map(|_| ()).ok_or_else(|| "no list is known yet".into())),
        check("draining", |backend| match backend.is_draining() {
            true => Err("this controller is stopping".into()),
            false => Ok(()),
        }),
    ]
}
