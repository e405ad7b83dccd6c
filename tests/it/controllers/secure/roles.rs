//! Every RPC of every service against every role and against nobody, through the wire.

use std::net::SocketAddr;
use std::time::Duration;

use pilothouse::domain::access::{self, Caller};
use pilothouse::domain::ids::ControllerId;
use pilothouse::domain::principal::Role;
use pilothouse::proto::enrolment::TrustRequest;
use pilothouse::proto::enrolment::enrolment_client::EnrolmentClient;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::peer::{EnlistRequest, Header, IdentifyRequest, Party, VoteRequest};
use pilothouse::proto::relay::relay_client::RelayClient;
use pilothouse::proto::relay::{
    CheckpointsRequest, RelayRedeemToken, RelayRegister, RemovedRequest, SessionsRequest, TryLevelRequest,
};
use pilothouse::proto::router::WatchRequest;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::rpc::client::AdminClient;
use pilothouse::rpc::status::reason_of;
use pilothouse::rpc::visits::ANONYMOUS_CALLS;
use pilothouse::tls::Security;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::super::cluster::Cluster;
use super::super::router::{Session, hello, registration};
use super::{channel, newcomer};
use crate::support::pki::principal;

/// A call that is let in, and whose stream goes on, is looked at no longer than this.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// `/package.Service/Method` of everything in `proto/`, and of the standard services beside it.
fn every_rpc() -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir("proto").unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "proto") {
            continue;
        }
        let (mut package, mut service) = (String::new(), String::new());
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let mut words = line.trim().split([' ', '(', ';', '{']);
            match (words.next(), words.next()) {
                (Some("package"), Some(name)) => package = name.to_owned(),
                (Some("service"), Some(name)) => service = name.to_owned(),
                (Some("rpc"), Some(name)) => found.push(format!("/{package}.{service}/{name}")),
                _ => {}
            }
        }
    }
    found.extend(["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"].map(|standard| format!("/{standard}")));
    found.push("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".into());
    found
}

#[test]
fn the_table_names_every_rpc_and_nothing_else() {
    let (mut served, mut named) =
        (every_rpc(), access::TABLE.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>());
    served.sort();
    named.sort();
    assert_eq!(served, named, "give every RPC its line in domain::access::TABLE");
}

/// Whom each RPC is for, written down once more by hand: a controller that is no member yet, a router, an admin, and nobody.
/// The table of the product is what is tried, so it cannot say what is right.
fn meant_for(path: &str) -> [bool; 4] {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    match (service.rsplit('.').next().unwrap(), method) {
        ("Enrolment", "Trust" | "Enroll") | ("Health", "Check") => [true, true, true, true],
        ("Enrolment", "Renew") | ("RouterControl", "Register" | "Session" | "Watch") => [false, true, false, false],
        ("RaftPeer", "Identify" | "Enlist" | "Append" | "Vote" | "PreVote" | "Snapshot" | "TransferLeader")
        | ("Relay", "Removed") => [true, false, false, false],
        ("Relay", "Register" | "Sessions" | "RedeemToken" | "Checkpoints" | "TryLevel" | "Events") => [false; 4],
        (
            "Admin",
            "Status" | "Change" | "Transfer" | "ListRouters" | "ForgetRouter" | "AllowRouter" | "CreateToken"
            | "Upgrade" | "FinalizeUpgrade" | "Events",
        ) => [false, false, true, false],
        ("Health", "Watch") | ("ServerReflection", "ServerReflectionInfo") => [true, true, true, false],
        _ => panic!("{path}: whom is it for?"),
    }
}

/// Calls an RPC with an empty message.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path: PathAndQuery = path.parse().unwrap();
    let calling = grpc.unary(Request::new(()), path, codec);
    tokio::time::timeout(LOOKED_AT, calling).await.unwrap_or(Ok(tonic::Response::new(()))).map(drop)
}

/// Whether a call came through to its service.
async fn let_in(channel: Result<Channel, String>, path: &str) -> bool {
    let Ok(channel) = channel else { return false };
    match call(channel, path).await {
        Ok(()) => true,
        Err(status) => match reason_of(&status) {
            Some("no_certificate" | "wrong_role" | "unknown_rpc" | "not_a_member") => false,
            // The handshake was refused: in TLS 1.3 a client hears of it while it waits for its first answer, from its own
            // transport. What a service says has no cause on this side.
            _ => std::error::Error::source(&status).is_none() && status.code() != Code::Cancelled,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_of_every_service_against_every_role_and_against_nobody() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let seat = &cluster.seats[0];
    let ports = |path: &str| -> Vec<SocketAddr> {
        match path {
            _ if path.contains(".peer.") || path.contains(".relay.") => vec![seat.peer],
            _ if path.contains(".router.") || path.contains(".enrolment.") => vec![seat.router],
            _ if path.contains(".admin.") => vec![seat.admin],
            _ => vec![seat.router, seat.admin],
        }
    };
    let mut callers: Vec<(Caller, Security)> = ["controller/9", "router/edge-7", "admin/alice"]
        .map(|role| (Caller::Verified(principal(role)), pki.security(role)))
        .into();
    callers.push((Caller::Anonymous, newcomer(pki)));
    let mut looked_at = 0;
    for path in every_rpc() {
        for port in ports(&path) {
            for ((caller, security), meant) in callers.iter().zip(meant_for(&path)) {
                // The admin port asks for the certificate of an admin, or of a controller, before anything else.
                let nobody = port == seat.admin && matches!(caller.role(), None | Some(Role::Router(_)));
                let expected = meant && !nobody;
                let came = let_in(channel(&cluster, security.clone(), port).await, &path).await;
                assert_eq!(came, expected, "{caller} calls {path} on {port}");
                looked_at += 1;
            }
        }
    }
    assert!(looked_at >= 100, "only {looked_at} calls were made");
    // A service on another port than its own is not there.
    let admin = pki.security("admin/alice");
    let elsewhere =
        call(channel(&cluster, admin, seat.router).await.unwrap(), "/pilothouse.admin.v1.Admin/Status").await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_speaks_for_itself_alone() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let port = cluster.seats[0].router;
    let own = channel(&cluster, pki.security("router/edge-1"), port).await.unwrap();
    let mut client = RouterControlClient::new(own.clone());
    assert!(client.register(registration("edge-1", 1, 1)).await.is_ok());
    let refused = client.register(registration("edge-2", 1, 1)).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::PermissionDenied, Some("wrong_identity")));

    let watch = |router: &str| WatchRequest { router_id: router.into(), ..WatchRequest::default() };
    assert!(client.watch(watch("edge-1")).await.is_ok());
    let refused = client.watch(watch("edge-2")).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::PermissionDenied, Some("wrong_identity")));

    let mut session = Session::over(own.clone()).await;
    session.say(Says::Hello(hello("edge-1", 1))).await;
    assert!(matches!(session.next().await, Some(Ok(Kind::Welcome(_)))));
    let mut session = Session::over(own).await;
    session.say(Says::Hello(hello("edge-2", 1))).await;
    let Some(Err(refused)) = session.next().await else { panic!("it is let in") };
    assert_eq!(reason_of(&refused), Some("wrong_identity"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_speaks_under_its_own_id_alone() {
    let cluster = Cluster::secure(2).await;
    let pki = cluster.pki.as_ref().unwrap();
    let identified = |port, role: &str| {
        let (security, cluster) = (pki.security(role), &cluster);
        async move { RaftPeerClient::new(channel(cluster, security, port).await.unwrap()) }
    };
    // Everything in the header is right, but the certificate is another controller's.
    let mut two = identified(cluster.seats[1].peer, "controller/2").await;
    let record = two.identify(IdentifyRequest {}).await.unwrap().into_inner();
    let me = cluster.seats[0].running().backend().node().me();
    let header = Header {
        cluster_id: record.cluster_id.clone(),
        epoch: record.epoch,
        sender: Some(Party { id: record.id, incarnation: record.incarnation.clone() }),
        target: Some(Party { id: me.id.unwrap().get(), incarnation: me.incarnation.to_bytes().to_vec() }),
    };
    let vote = VoteRequest {
        header: Some(header),
        vote: Some(pilothouse::proto::store::Vote { term: 1, voted_for: record.id, committed: false }),
        ..VoteRequest::default()
    };
    let own = identified(cluster.seats[0].peer, "controller/2").await.pre_vote(vote.clone()).await;
    assert!(own.is_ok(), "{own:?}");
    let other = identified(cluster.seats[0].peer, "controller/3").await.pre_vote(vote).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    assert!(other.message().contains("controller/3 may not speak for controller 2"), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_relays_nothing_in_the_name_of_another_one() {
    let cluster = Cluster::secure(3).await;
    let pki = cluster.pki.as_ref().unwrap();
    let node = |seat: usize| cluster.seats[seat].running().backend().node().clone();
    let id = |seat: usize| cluster.seats[seat].id().unwrap();
    let (member, _) = node(1).channel_to(id(0)).unwrap();
    let header = Some(node(1).header_to(&member));
    let relay = async |seat: usize| {
        let own = pki.security(&format!("controller/{}", id(seat)));
        RelayClient::new(channel(&cluster, own, cluster.seats[0].peer).await.unwrap())
    };
    let sessions = SessionsRequest { header: header.clone(), ..SessionsRequest::default() };
    assert!(relay(1).await.sessions(sessions.clone()).await.is_ok());
    let mut other = relay(2).await;
    let register = RelayRegister { header: header.clone(), hops: 1, request: Some(registration("edge-1", 1, 1)) };
    let redeem = RelayRedeemToken { header: header.clone(), ..RelayRedeemToken::default() };
    for refused in [
        other.register(register).await.unwrap_err(),
        other.redeem_token(redeem).await.unwrap_err(),
        other.sessions(sessions).await.map(drop).unwrap_err(),
        other.checkpoints(CheckpointsRequest { header: header.clone() }).await.map(drop).unwrap_err(),
        other.try_level(TryLevelRequest { header: header.clone(), level: 3 }).await.map(drop).unwrap_err(),
        other.removed(RemovedRequest { header }).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("may not speak for controller"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_controller_is_enlisted_by_nobody_under_anothers_name() {
    let mut cluster = Cluster::secure(1).await;
    let blank = cluster.newcomer("controller-2").await;
    let pki = cluster.pki.as_ref().unwrap();
    let me = |seat: usize| cluster.seats[seat].running().backend().node().me();
    let (member, newcomer) = (me(0), me(blank));
    let (own, epoch) = member.cluster.unwrap();
    let party = |id, incarnation: &[u8]| Some(Party { id, incarnation: incarnation.to_vec() });
    let header = Header {
        cluster_id: own.to_bytes().to_vec(),
        epoch: epoch.get(),
        sender: party(1, &member.incarnation.to_bytes()),
        target: party(2, &newcomer.incarnation.to_bytes()),
    };
    let open = channel(&cluster, pki.security("controller/3"), cluster.seats[blank].peer).await.unwrap();
    let refused = RaftPeerClient::new(open).enlist(EnlistRequest { header: Some(header) }).await.unwrap_err();
    assert!(refused.message().contains("controller/3 may not speak for controller 1"), "{refused}");
    assert!(me(blank).is_blank());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_not_the_one_meant_is_told_nothing() {
    let cluster = Cluster::secure(2).await;
    let (node, at) = (cluster.seats[0].running().backend().node(), cluster.at(cluster.seats[1].peer));
    let whom = |id| pilothouse::domain::ids::ControllerId::new(id);
    assert!(node.identify(&at, whom(2)).await.is_ok() && node.identify(&at, None).await.is_ok());
    let refused = node.identify(&at, whom(3)).await.unwrap_err().to_string();
    assert!(refused.contains("controller 3 is expected"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_request_goes_to_the_leader_or_to_nobody() {
    let cluster = Cluster::secure(2).await;
    let own = cluster.pki.as_ref().unwrap().security("controller/1");
    let at = cluster.at(cluster.seats[1].admin);
    let client = |whom| AdminClient::forwarding(std::slice::from_ref(&at), None, 1, own.clone()).of(whom);
    assert!(client(cluster.seats[1].id().unwrap()).status().await.is_ok());
    let refused = client(ControllerId::new(7).unwrap()).status().await.unwrap_err();
    assert!(refused.to_string().contains("controller 7 is expected"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_certificate_makes_few_calls() {
    let cluster = Cluster::secure(1).await;
    let nobody = newcomer(cluster.pki.as_ref().unwrap());
    let open = channel(&cluster, nobody, cluster.seats[0].router).await.unwrap();
    let mut enrolment = EnrolmentClient::new(open);
    let mut answered = 0;
    while enrolment.trust(TrustRequest {}).await.is_ok() {
        answered += 1;
        assert!(answered <= 2 * ANONYMOUS_CALLS.burst, "nobody is held up");
    }
    assert!(answered >= ANONYMOUS_CALLS.burst, "only {answered} were answered");
}
