//! Probes, metrics, gRPC health and reflection, and the operators' socket.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use pilothouse::controller::listeners::AdminSocket;
use pilothouse::controller::{ControllerError, Parts};
use pilothouse::proto::admin::{Readdress, change_request::Change};
use pilothouse::rpc::client::AdminClient;
use pilothouse::tls::Security;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

use super::cluster::{Cluster, eventually};
use super::router::{Session, hello, named, register, registration};
use crate::support::ports::free_port;

async fn get(port: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(port).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_name_their_checks_and_metrics_follow_what_happens() {
    let mut cluster = Cluster::of(1).await;
    let blank = cluster.newcomer("controller-2").await;
    let (seat, blank) = (&cluster.seats[0], &cluster.seats[blank]);
    assert!(get(seat.http, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = get(seat.http, "/readyz?verbose").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    for check in ["storage", "member", "leader", "caught-up", "list", "draining"] {
        assert!(ready.contains(&format!("[+] {check} ok")), "{ready}");
    }
    let unready = get(blank.http, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("[-] member failed"), "{unready}");

    register(seat.router, registration("edge-1", 1, 1)).await.unwrap();
    let (mut session, _) = Session::welcomed(seat.router, hello("edge-1", 1)).await;
    session.adopt().await;
    let metrics = get(seat.http, "/metrics").await;
    for line in [
        "pilothouse_raft_leader 1",
        "pilothouse_raft_leads 1",
        "pilothouse_raft_term 1",
        "pilothouse_sessions 1",
        "pilothouse_list_epoch 1",
        "pilothouse_registrations_total{effect=\"new\"} 1",
        "pilothouse_registration_entries_total 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

async fn channel(port: SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{port}")).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_health_and_reflection_answer_on_the_router_port() {
    let mut cluster = Cluster::of(1).await;
    let blank = cluster.newcomer("controller-2").await;
    let status = async |port: SocketAddr| {
        let mut health = HealthClient::new(channel(port).await);
        let request = HealthCheckRequest { service: "pilothouse.router.v1.RouterControl".into() };
        health.check(request).await.ok().map(|answer| answer.into_inner().status())
    };
    let (serving, waiting) = (cluster.seats[0].router, cluster.seats[blank].router);
    eventually("it serves", async || (status(serving).await == Some(ServingStatus::Serving)).then_some(())).await;
    eventually("it does not", async || (status(waiting).await == Some(ServingStatus::NotServing)).then_some(())).await;

    let mut reflection = ServerReflectionClient::new(channel(serving).await);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
        panic!("{answer:?}")
    };
    assert!(service.iter().any(|service| service.name == "pilothouse.router.v1.RouterControl"), "{service:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_on_the_host_use_a_socket_that_only_they_can_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    // What a dead process left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = AdminSocket::bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(matches!(AdminSocket::bind(&path), Err(ControllerError::Socket { .. })), "a live one is not replaced");

    let mut cluster = Cluster::with(0, Parts::default()).await;
    let seat = cluster.founder_with(Some(socket)).await;
    cluster.serves(seat).await;
    let mut client = AdminClient::connect(&[], Some(path.clone()), Security::default()).await.unwrap();
    assert_eq!(client.status().await.unwrap().leader, 1);
    cluster.stop(seat).await;
    assert!(!path.exists(), "a stop removes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_address_reaches_routers_in_two_steps_and_no_list_lacks_the_member() {
    let cluster = Cluster::of(3).await;
    let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    session.adopt_until(&[1, 2, 3]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let new = format!("http://{}", listener.local_addr().unwrap());
    let readdress = Readdress { id: 2, router: vec![new.clone()], ..Readdress::default() };
    assert!(cluster.change(1, Change::Readdress(readdress)).await.unwrap().done);
    loop {
        let list = session.adopt().await;
        assert_eq!(named(&list), [1, 2, 3]);
        if list.controllers[1].endpoints == [new.clone()] {
            break;
        }
    }
}

/// Takes connections at one address and passes them to another.
async fn pass_on(at: SocketAddr, to: SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut inner = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut inner).await;
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_the_member_is_not_drops_none_of_the_old_ones() {
    let cluster = Cluster::of(3).await;
    let new = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let url = |address: SocketAddr| format!("http://{address}");
    let readdress = async |readdress: Readdress| cluster.change(1, Change::Readdress(readdress)).await;
    let peer = async |to: SocketAddr| readdress(Readdress { id: 2, peer: vec![url(to)], ..Default::default() }).await;
    let peers = async || {
        let status = cluster.seats[0].admin_client().await.status().await.unwrap();
        status.members.into_iter().find(|member| member.id == 2).unwrap().peer
    };
    let both = vec![url(cluster.seats[1].peer), url(new)];

    // Nobody is there.
    let refused = peer(new).await.unwrap_err().to_string();
    assert!(refused.contains(&url(new)) && refused.contains("stay beside"), "{refused}");
    assert_eq!(peers().await, both);

    // Somebody else is there.
    let other = pass_on(new, cluster.seats[2].peer).await;
    let refused = peer(new).await.unwrap_err().to_string();
    assert!(refused.contains(&url(new)) && refused.contains("controller-3"), "{refused}");
    assert_eq!(peers().await, both);
    other.abort();
    let _ = other.await;

    // It is there: the same command goes on. And back again.
    let _it = pass_on(new, cluster.seats[1].peer).await;
    assert!(peer(new).await.unwrap().done);
    assert_eq!(peers().await, [url(new)]);
    assert!(peer(cluster.seats[1].peer).await.unwrap().done);
    assert_eq!(peers().await, [url(cluster.seats[1].peer)]);

    // What serves routers has to take connections at least.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let router = Readdress { id: 2, router: vec![url(nowhere)], ..Default::default() };
    let refused = readdress(router).await.unwrap_err().to_string();
    assert!(refused.contains(&url(nowhere)), "{refused}");
}
