//! The streams between controllers: they end at what cannot be read, and pause when nobody is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pilothouse::proto::peer::AppendRequest;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::store::{LogId, Vote};
use pilothouse::storage::log::ENTRY_BYTES_MAX;
use tonic::Code;

use super::nodes::{Nodes, registrations};
use crate::support::{SOON, eventually, expect};

/// How long dials to a member that is down are counted.
const WATCHED: Duration = Duration::from_secs(3);
/// Most dials in that time: with pauses there are 11 to 19, on the few lanes of a leader; without them four times as many.
const DIALS_MAX: usize = 40;

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
    let written = AtomicU64::new(0);
    let write_for = async |time: Duration| {
        let began = Instant::now();
        eventually("others write meanwhile", SOON, async || {
            let prefix = format!("edge-{}", written.fetch_add(1, Ordering::Relaxed));
            leads.node().propose(registrations(&prefix, 1, 0)).await.unwrap();
            expect(began.elapsed() >= time, || "not over".to_owned())
        })
        .await;
    };
    // The pauses grow to their full length first.
    write_for(Duration::from_secs(1)).await;
    nodes.network.forget_dials();
    write_for(WATCHED).await;
    let dials = nodes.network.dials(leads.port(), gone.port());
    println!("{dials} dials to a member that is down within {WATCHED:?}");
    assert!(dials <= DIALS_MAX, "{dials} dials within {WATCHED:?}");
    nodes.heal(down);
    nodes.caught_up(down, leader).await;
}
