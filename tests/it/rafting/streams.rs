//! The streams between controllers: they end at what cannot be read, and pause when nobody is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pilothouse::domain::retry::Backoff;
use pilothouse::proto::peer::AppendRequest;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::store::{LogId, Vote};
use pilothouse::storage::log::ENTRY_BYTES_MAX;
use tonic::Code;

use super::nodes::{Nodes, registrations};
use crate::support::{SOON, eventually, expect};

/// Lanes on which a leader dials one member.
const LANES: u128 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_the_first_message_that_cannot_be_read_and_nothing_is_skipped() {
    let nodes = Nodes::found(3).await;
    let (leader, follower) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, follows) = (&nodes.seats[leader], &nodes.seats[follower]);
    nodes.caught_up(follower, leader).await;
    let status = follows.status();
    let last = status.last_log.unwrap();
    let term = status.term;
    let message = |entries| AppendRequest {
        header: Some(nodes.header(leader, follower)),
        vote: Some(Vote { term, voted_for: leads.id().get(), committed: true }),
        prev: Some(LogId { term, index: last }),
        entries,
        ..AppendRequest::default()
    };
    let mut client = RaftPeerClient::connect(format!("http://{}", follows.peer)).await.unwrap();
    for (entry, reason) in [(vec![0xff; 40], "cannot be read"), (vec![0; ENTRY_BYTES_MAX + 1], "the limit is")] {
        let messages = [message(Vec::new()), message(vec![entry]), message(Vec::new())];
        let mut answers = client.append(tokio_stream::iter(messages)).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some(), "what came before it is answered");
        let refused = answers.message().await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(reason), "{refused}");
        assert!(matches!(answers.message().await, Ok(None)), "what comes after it is not even looked at");
    }
    // The cluster goes on with streams of its own.
    leads.node().propose(registrations("edge", 1, 0)).await.unwrap();
    nodes.caught_up(follower, leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_down_is_dialled_with_pauses_and_costs_no_writes() {
    let nodes = Nodes::found(3).await;
    let (leader, down) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, gone) = (&nodes.seats[leader], &nodes.seats[down]);
    nodes.cut(down);
    nodes.network.forget_dials();
    let began = Instant::now();
    let dials = || nodes.network.dials(leads.port(), gone.port());
    let written = AtomicU64::new(0);
    eventually("it is dialled a few times while others write", SOON, async || {
        let prefix = format!("edge-{}", written.fetch_add(1, Ordering::Relaxed));
        leads.node().propose(registrations(&prefix, 1, 0)).await.unwrap();
        expect(dials() >= 15, || format!("{} dials", dials()))
    })
    .await;
    let took = began.elapsed();
    // Without a pause there are hundreds a second. With one, each lane waits at least a quarter of the base, and soon
    // several times as long.
    let most = LANES * (took.as_millis() / (Backoff::PEER.base.as_millis()) + 4);
    println!("{} dials to a member that is down within {took:?}", dials());
    assert!(u128::try_from(dials()).unwrap() <= most, "{} dials within {took:?}", dials());
    nodes.heal(down);
    nodes.caught_up(down, leader).await;
}
