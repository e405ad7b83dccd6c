//! How a cluster comes to be: one founder, after everybody answered as blank, and never a second one.

use std::net::SocketAddr;

use pilothouse::domain::controller_list::ListState;
use pilothouse::domain::ids::{ClusterId, ControllerId};
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::peer::{EnlistRequest, Header, Party};
use pilothouse::raft::{Bootstrap, Settings};
use tokio::net::TcpListener;
use tonic::Code;

use super::nodes::{Nodes, endpoint, founder};
use crate::support::{SOON, eventually, expect};

async fn listeners(count: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    (listeners, addresses)
}

fn clusters(nodes: &Nodes) -> Vec<Option<ClusterId>> {
    nodes.seats.iter().map(|seat| seat.node().me().cluster.map(|(cluster, _)| cluster)).collect()
}

/// Until the founder has looked for a member that often.
async fn has_looked_for(nodes: &Nodes, from: usize, member: SocketAddr, times: usize) {
    let (from, start) = (nodes.seats[from].port(), nodes.network.dials(nodes.seats[from].port(), member.port()));
    let looked = || nodes.network.dials(from, member.port());
    eventually("it has looked for the member", SOON, async || {
        expect(looked() >= start + times, || looked().to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_founded_before_every_initial_member_has_answered() {
    let mut nodes = Nodes::none();
    let (listeners, addresses) = listeners(3).await;
    let mut listeners = listeners.into_iter();
    nodes.network.cut(addresses[2].port());
    for (id, listener) in (1..=3).zip(&mut listeners) {
        nodes.start(&founder(id, &addresses), listener).await;
    }
    has_looked_for(&nodes, 0, addresses[2], 4).await;
    assert_eq!(clusters(&nodes), [None, None, None], "two of three found nothing: the third might found without them");
    for seat in &nodes.seats {
        assert!(matches!(&**seat.node().lists().borrow(), ListState::Unknown), "unknown, which is not empty");
    }
    nodes.network.heal(addresses[2].port());
    nodes.settled().await;
    let formed = clusters(&nodes);
    assert!(formed[0].is_some() && formed.iter().all(|cluster| *cluster == formed[0]), "{formed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_finds_a_member_of_another_cluster_stays_blank_and_so_does_everybody() {
    let mut nodes = Nodes::none();
    let (mut listeners, addresses) = listeners(3).await;
    // The third is a cluster of its own already, by mistake.
    let taken = nodes.start(&founder(1, &addresses[2..]), listeners.pop().unwrap()).await;
    nodes.settled().await;
    for (id, listener) in (1..).zip(listeners) {
        let mut settings = founder(id, &addresses);
        if let Bootstrap::InitialMembers(members) = &mut settings.bootstrap {
            // It answers with its own name, so that only its cluster can be the obstacle.
            members[2].name = nodes.seats[taken].node().settings().name.clone();
            members[0].name = "first".parse().unwrap();
            settings.name = members[usize::try_from(id).unwrap() - 1].name.clone();
        }
        nodes.start(&settings, listener).await;
    }
    has_looked_for(&nodes, 1, addresses[2], 4).await;
    assert_eq!(clusters(&nodes)[1..], [None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_founded_of_controllers_that_tell_routers_the_same_address() {
    // As three hosts do that say nothing but where their peers listen.
    let mut nodes = Nodes::none_tuned(|settings| settings.router = vec!["http://127.0.0.1:7002".parse().unwrap()]);
    let (listeners, addresses) = listeners(3).await;
    for (id, listener) in (1..=3).zip(listeners) {
        nodes.start(&founder(id, &addresses), listener).await;
    }
    has_looked_for(&nodes, 0, addresses[2], 4).await;
    assert_eq!(clusters(&nodes), [None, None, None], "no list could ever be made of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_lowest_of_the_initial_members_enlists_the_others() {
    let mut nodes = Nodes::none();
    let (mut listeners, addresses) = listeners(2).await;
    let second = nodes.start(&founder(2, &addresses), listeners.pop().unwrap()).await;
    let mut client = RaftPeerClient::connect(format!("http://{}", addresses[1])).await.unwrap();
    let own = nodes.seats[second].node().me().incarnation.to_bytes().to_vec();
    let party = |id, incarnation| Some(Party { id, incarnation });
    let mut enlist = async |sender, id, incarnation: &Vec<u8>| {
        let target = party(id, incarnation.clone());
        let header = Header { cluster_id: vec![7; 16], epoch: 1, sender: party(sender, vec![9; 16]), target };
        client.enlist(EnlistRequest { header: Some(header) }).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(enlist(3, 2, &own).await, Err(Code::FailedPrecondition), "3 is not the founder");
    assert_eq!(enlist(1, 4, &own).await, Err(Code::FailedPrecondition), "it is configured as 2");
    assert_eq!(enlist(1, 2, &vec![8; 16]).await, Err(Code::PermissionDenied), "its directory was replaced");
    assert_eq!(clusters(&nodes), [None]);
    assert_eq!(enlist(1, 2, &own).await, Ok(()));
    assert_eq!(clusters(&nodes), [ClusterId::from_slice(&[7; 16])]);
    // A founder that had no answer asks again.
    assert_eq!(enlist(1, 2, &own).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_is_a_learner_first_and_has_everything_before_it_votes() {
    let mut nodes = Nodes::found(3).await;
    let newcomer = nodes.newcomer().await;
    let record = nodes.seats[0].node().identify(&endpoint(nodes.seats[newcomer].peer), None).await.unwrap();
    assert!(record.is_blank() && record.joins && record.id.is_none() && record.last_log.is_none());
    nodes.add(newcomer, 4).await;
    let seat = &nodes.seats[newcomer];
    assert_eq!(seat.id(), ControllerId::new(4).unwrap());
    seat.becomes(pilothouse::raft::RaftRole::Learner).await;
    let lists = seat.node().lists();
    let list = lists.borrow().clone();
    let ListState::Known(list) = &*list else { panic!("{list:?}") };
    assert_eq!(list.controllers().len(), 4, "routers hear of a learner: it serves them");
    assert_eq!(list.voter_sets()[0].len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_to_be_added_founds_nothing() {
    let mut nodes = Nodes::none();
    let newcomer = nodes.newcomer().await;
    let Settings { bootstrap, .. } = nodes.seats[newcomer].node().settings().clone();
    assert_eq!(bootstrap, Bootstrap::Join);
    let record = nodes.seats[newcomer].node().identify(&endpoint(nodes.seats[newcomer].peer), None).await.unwrap();
    assert!(record.is_blank() && record.joins);
    assert_eq!(nodes.seats[newcomer].status().role, pilothouse::raft::RaftRole::Blank);
}
