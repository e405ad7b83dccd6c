//! Guards between controllers: who may ask what of whom, how often, and what a leader may say once nobody hears it.

use std::time::Duration;

use pilothouse::proto::peer::{Header, Party};
use pilothouse::proto::relay::relay_client::RelayClient;
use pilothouse::proto::relay::{RelayRegister, RemovedRequest, SessionsRequest};
use pilothouse::proto::router::register_response::Effect;
use pilothouse::rpc::client::{AdminClient, ClientError};
use pilothouse::rpc::status::reason_of;
use pilothouse::tls::Security;
use tonic::Code;
use tonic::transport::Channel;

use super::cluster::{Cluster, endpoint, eventually};
use super::router::{Session, hello, register, registration};

/// How one controller speaks to another.
fn relay(cluster: &Cluster, from: usize, to: usize) -> (RelayClient<Channel>, Option<Header>) {
    let node = cluster.seats[from].running().backend().node().clone();
    let (member, channel) = node.channel_to(cluster.seats[to].id().unwrap()).unwrap();
    (RelayClient::new(channel), Some(node.header_to(&member)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_forwarded_so_often_and_no_more() {
    let cluster = Cluster::of(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (mut relay, header) = relay(&cluster, leader, follower);
    let mut forward = async |hops, sequence| {
        let request = Some(registration("edge-1", 1, sequence));
        relay.register(RelayRegister { header: header.clone(), hops, request }).await
    };
    assert_eq!(forward(1, 1).await.unwrap().into_inner().effect(), Effect::New);
    let refused = forward(2, 2).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::Unavailable, Some("too_many_hops")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_request_is_forwarded_so_often_and_no_more() {
    let cluster = Cluster::of(3).await;
    let follower = &cluster.seats[cluster.follower().await];
    let mut client = AdminClient::forwarding(&[endpoint(follower.admin)], None, 3, Security::default());
    let refused = client.transfer(None).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused { reason, .. } if reason == "too_many_hops"), "{refused}");
    // What is only shown is shown all the same.
    assert_eq!(client.status().await.unwrap().answered_by, follower.id().unwrap().get());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_arrives_just_before_leadership_does_is_not_sent_back() {
    let cluster = Cluster::of(3).await;
    let (leader, next) = (cluster.leader().await, cluster.follower().await);
    let (leads, follows) = (&cluster.seats[leader], &cluster.seats[next]);
    // It may not be forwarded any more: whoever got it takes it, or nobody does.
    let mut client = AdminClient::forwarding(&[endpoint(follows.admin)], None, 3, Security::default());
    let (id, node) = (follows.id().unwrap(), leads.running().backend().node().clone());
    let (asked, handed) = tokio::join!(client.transfer(Some(id)), async {
        // The request is on its way first; there is nothing that tells when it has arrived.
        tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
        node.hand_over(id).await
    });
    handed.unwrap();
    assert_eq!(asked.unwrap(), Some(id), "it leads now, and has nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_an_identity_is_heard_on_the_peer_port() {
    let cluster = Cluster::of(2).await;
    let (mut relay, header) = relay(&cluster, 1, 0);
    let mut foreign = header.clone().unwrap();
    foreign.cluster_id = vec![9; 16];
    for header in [None, Some(foreign)] {
        let removed = relay.removed(RemovedRequest { header: header.clone() }).await.unwrap_err();
        let request = RelayRegister { header: header.clone(), hops: 1, request: Some(registration("edge-1", 1, 1)) };
        let registered = relay.register(request).await.unwrap_err();
        let sessions = relay.sessions(SessionsRequest { header, ..Default::default() }).await.unwrap_err();
        for refused in [removed, registered, sessions] {
            assert!(matches!(refused.code(), Code::InvalidArgument | Code::PermissionDenied), "{refused}");
        }
    }
    let (mut session, _) = Session::welcomed(cluster.seats[0].router, hello("edge-1", 1)).await;
    session.adopt().await;
    assert_eq!(cluster.seats[0].running().backend().node().read(|state| state.routers.len()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_leader_that_a_majority_confirms_says_how_far_the_cluster_is() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let asked = async |of: usize, by: usize| {
        let (_, header) = relay(&cluster, by, of);
        // Not through the network that is cut below.
        let mut relay = RelayClient::connect(format!("http://{}", cluster.seats[of].peer)).await.unwrap();
        let request = SessionsRequest { header, count_only: true, only: String::new(), confirm_leads: true };
        relay.sessions(request).await?.into_inner().message().await
    };
    assert!(asked(leader, follower).await.unwrap().unwrap().applied_index > 0);
    assert_eq!(asked(follower, leader).await.unwrap_err().code(), Code::FailedPrecondition);
    // Deposed or not: it cannot know. A controller that came back would believe it.
    cluster.network.cut(cluster.seats[leader].peer.port());
    assert_eq!(asked(leader, follower).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_does_not_say_unchanged() {
    let cluster = Cluster::of(3).await;
    let leader = &cluster.seats[cluster.leader().await];
    register(leader.router, registration("edge-1", 1, 1)).await.unwrap();
    assert_eq!(register(leader.router, registration("edge-1", 1, 1)).await.unwrap(), Effect::Unchanged);
    cluster.network.cut(leader.peer.port());
    // What it knows is no longer known to be the newest.
    let answer =
        tokio::time::timeout(Duration::from_secs(1), register(leader.router, registration("edge-1", 1, 1))).await;
    assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_never_a_member_removes_nobody_also_while_no_leader_is_heard() {
    let mut cluster = Cluster::of(2).await;
    let (_, header) = relay(&cluster, 1, 0);
    let mut header = header.unwrap();
    cluster.stop(1).await;
    header.sender = Some(Party { id: 9, incarnation: vec![9; 16] });
    let mut relay = RelayClient::connect(format!("http://{}", cluster.seats[0].peer)).await.unwrap();
    // As long as it hears a majority it says that the sender is no member; afterwards it cannot know, and still refuses.
    eventually("no leader is heard", async || {
        let refused = relay.removed(RemovedRequest { header: Some(header.clone()) }).await.expect_err("it is believed");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        refused.message().contains("only a member says").then_some(())
    })
    .await;
    assert!(!cluster.seats[0].running().backend().is_removed());
}
