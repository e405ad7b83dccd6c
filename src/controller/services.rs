//! The ports of a running controller: which services each of them serves, and within which limits.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::accept::{CONNECTIONS_PER_ROUTER, Connection, Connections, Limits, LocalSocket, Secured};
use super::backend::Backend;
use super::hub::SESSIONS_MAX;
use super::listeners::{AdminSocket, Listeners};
use super::relay::RelayService;
use super::tasks::Tasks;
use crate::domain::access;
use crate::ops::{self, Surface};
use crate::proto::DESCRIPTORS;
use crate::raft::RaftRole;
use crate::rpc::admin_service::AdminService;
use crate::rpc::control_plane::{ControlPlane, LeaderSight};
use crate::rpc::enrolment_service::EnrolmentService;
use crate::rpc::guard::{Judge, guarded};
use crate::rpc::router_service::{Pace, RouterService, STREAMS_PER_CONNECTION_MAX};
use crate::tls::Door;

/// Most connections of operators and other controllers' forwarded requests.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Most connections to the local socket: whoever fills the admin port may not keep operators from it.
const SOCKET_CONNECTIONS_MAX: usize = 32;
/// Most connections of other controllers: a few from each of 64.
const PEER_CONNECTIONS_MAX: usize = 512;
/// Most connections of one controller to the peer port: several times what streams, votes and questions need, and an eighth of
/// the port, so that nobody, a former member least of all, takes it from the others.
const PEER_CONNECTIONS_PER_IDENTITY_MAX: usize = 64;
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
/// Between the end of somebody's access and the end of its open connections.
const REVOKED_CLOSED_AFTER: Duration = Duration::from_millis(400);
/// How often somebody whose access has ended, and who connected again, is looked for.
const REVOKED_LOOKED_FOR_EVERY: Duration = Duration::from_secs(5);
/// Open streams get this long to end at a stop, before their connections are closed.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// The running servers.
#[derive(Debug)]
pub(super) struct Services {
    stop: CancellationToken,
    stop_peers: CancellationToken,
    connections: [Connections; 5],
    outside: Vec<JoinHandle<()>>,
    peers: JoinHandle<()>,
    _socket: Option<AdminSocket>,
}

impl Services {
    /// Serves every port; the HTTP port serves the surface, and the checks of a controller.
    pub(super) fn start(backend: &Arc<Backend>, listeners: Listeners, surface: Surface, pace: Pace) -> Self {
        let (stop, stop_peers) = (CancellationToken::new(), CancellationToken::new());
        let metrics = backend.metrics.clone();
        let connections = |port, limits| Connections::new(limits, metrics.connections_refused(port));
        let routers = connections(
            "router",
            Limits::of(SESSIONS_MAX + SESSIONS_MAX / 4).with_few_anonymous().with_pace(CONNECTIONS_PER_ROUTER),
        );
        let admins = connections("admin", Limits::of(ADMIN_CONNECTIONS_MAX));
        let peers = connections(
            "peer",
            Limits { per_identity: PEER_CONNECTIONS_PER_IDENTITY_MAX, ..Limits::of(PEER_CONNECTIONS_MAX) },
        );
        let local = connections("socket", Limits::of(SOCKET_CONNECTIONS_MAX));
        let probes = connections("http", Limits::of(ops::http::CONNECTIONS_MAX).with_passing_strangers());
        let gate = |door| Secured(backend.security.clone(), door);
        let Listeners { peer, router, admin, http, mut socket } = listeners;

        let mut outside = Vec::new();
        let tasks = &backend.tasks;
        let coming = routers.incoming(router, gate(Door::Router));
        outside.push(serve(("router port", tasks), coming, router_routes(backend, pace, &stop), &stop));
        let coming = admins.incoming(admin, gate(Door::Admin));
        outside.push(serve(("admin port", tasks), coming, admin_routes(backend), &stop));
        if let Some(socket) = socket.as_mut().and_then(AdminSocket::take) {
            let coming = local.incoming(socket, LocalSocket);
            outside.push(serve(("admin socket", tasks), coming, admin_routes(backend), &stop));
        }
        let surface = Surface { checks: checks(backend), ..surface };
        let coming = probes.incoming(http, gate(Door::Http));
        outside.push(tasks.spawn("http port", ops::serve(coming, surface, stop_peers.clone().cancelled_owned())));

        let routes = Routes::new(RelayService::server(backend.clone())).add_service(backend.node().peer_service());
        let routes = guarded(routes, judge(backend));
        let incoming = peers.incoming(peer, gate(Door::Peer)).map(|connection| {
            connection.map(|connection| {
                let caller = connection.caller().clone();
                (connection, caller)
            })
        });
        let (node, ended) = (backend.node().clone(), stop_peers.clone());
        let peer_port = tasks.spawn("peer port", async move {
            if let Err(error) = node.serve_peers_on(incoming, routes, ended.cancelled_owned()).await {
                tracing::error!(%error, "the peer port ended; restart this controller");
            }
        });
        let connections = [routers, admins, local, peers, probes];
        tasks.follow("revocation", close_the_revoked(backend.clone(), connections.clone()));
        Self { stop, stop_peers, connections, outside, peers: peer_port, _socket: socket }
    }

    /// Ends the ports of routers and operators: no new connection, open streams end by themselves or are closed.
    pub(super) async fn stop_outside(&mut self) {
        self.stop.cancel();
        let mut http = self.outside.pop();
        let ended = futures::future::join_all(self.outside.iter_mut());
        if tokio::time::timeout(CLOSE_WITHIN, ended).await.is_err() {
            let [routers, admins, local, ..] = &self.connections;
            let outside = [routers, admins, local];
            let open: usize = outside.iter().map(|port| port.count()).sum();
            tracing::debug!(open, "close connections that did not end");
            outside.into_iter().for_each(Connections::close_all);
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

fn serve<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    (name, tasks): (&'static str, &Tasks),
    incoming: impl Stream<Item = io::Result<Connection<Io>>> + Send + 'static,
    routes: Routes,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let stop = stop.clone().cancelled_owned();
    tasks.spawn(name, async move {
        if let Err(error) = server(routes, incoming, stop).await {
            tracing::error!(port = name, %error, "a port ended; restart this controller");
        }
    })
}

/// Every limit of a port in one place. No connection age: a session lives as long as its router.
async fn server<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    routes: Routes,
    incoming: impl Stream<Item = io::Result<Connection<Io>>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
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
    let mut routes = Routes::new(RouterService::server(backend.clone(), pace))
        .add_service(EnrolmentService::server(backend.clone()))
        .add_service(health);
    if let Some(reflection) = reflection("pilothouse.router.v1.RouterControl") {
        routes = routes.add_service(reflection);
    }
    guarded(routes, judge(backend))
}

/// Who may call what, as the applied state has it now.
fn judge(backend: &Arc<Backend>) -> Judge {
    let backend = backend.clone();
    Arc::new(move |path, caller| {
        let standing = caller.role().map(|role| backend.standing_of(role)).unwrap_or_default();
        access::judge(path, caller, standing).map(drop).inspect_err(|why| backend.metrics.call_denied(why.code()))
    })
}

fn admin_routes(backend: &Arc<Backend>) -> Routes {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(AdminService::server(backend.clone())).add_service(health);
    if let Some(reflection) = reflection("pilothouse.admin.v1.Admin") {
        routes = routes.add_service(reflection);
    }
    guarded(routes, judge(backend))
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

/// Whoever was banned or removed is let into nothing new as soon as that is applied here, and loses its connections a
/// moment later: a goodbye is still on its way, or the answer to the operator who removed it.
async fn close_the_revoked(backend: Arc<Backend>, connections: [Connections; 5]) {
    let (mut standings, mut news) = (backend.standings(), true);
    loop {
        standings.borrow_and_update();
        tokio::time::sleep(REVOKED_CLOSED_AFTER).await;
        for port in &connections {
            let revoked = port.identities().into_iter().filter(|role| {
                let standing = backend.standing_of(role);
                standing.retired || standing.banned
            });
            for role in revoked {
                let closed = port.close(&role);
                if news {
                    tracing::info!(%role, closed, "closed the connections of somebody who was removed or banned");
                }
            }
        }
        // Whoever comes back is told why with its first call, and is not kept.
        news = match tokio::time::timeout(REVOKED_LOOKED_FOR_EVERY, standings.changed()).await {
            Ok(Err(_)) => return,
            changed => changed.is_ok(),
        };
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
