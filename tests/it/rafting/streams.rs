//! The streams between controllers: they end at what cannot be read, and pause when nobody is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pilothouse::proto::peer::AppendRequest;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::store::{Blank, Entry, LogId, Vote, entry};
use pilothouse::storage::log::ENTRY_BYTES_MAX;
use prost::Message as _;
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

/// An entry of a feature level that no build of today reads.
fn entry_of_the_future(term: u64, index: u64) -> Vec<u8> {
    let payload = Some(entry::Payload::Blank(Blank {}));
    Entry { log_id: Some(LogId { term, index }), level: u32::MAX, payload }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_cannot_read_what_its_leader_sends_ends_and_says_which_build_it_needs() {
    let nodes = Nodes::found(3).await;
    let (leader, follower) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, follows) = (&nodes.seats[leader], &nodes.seats[follower]);
    nodes.caught_up(follower, leader).await;
    let status = follows.status();
    let (term, last) = (status.term, status.last_log.unwrap());
    let message = |vote, entries| AppendRequest {
        header: Some(nodes.header(leader, follower)),
        vote: Some(vote),
        prev: Some(LogId { term, index: last }),
        entries,
        ..AppendRequest::default()
    };
    let leading = Vote { term, voted_for: leads.id().get(), committed: true };
    let mut client = RaftPeerClient::connect(format!("http://{}", follows.peer)).await.unwrap();
    let entry = || vec![entry_of_the_future(term, last + 1)];
    let mut ended = std::pin::pin!(follows.node().fatal());
    for nobody in [Vote { committed: false, ..leading }, Vote { term: term - 1, ..leading }] {
        let mut answers = client.append(tokio_stream::iter([message(nobody, entry())])).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
        assert!(futures::poll!(&mut ended).is_pending(), "whoever does not lead ends nothing: {nobody:?}");
    }
    let mut answers = client.append(tokio_stream::iter([message(leading, entry())])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap_err().message().contains("feature level"));
    // What would keep it ready for ever: whoever refuses an entry hears, and answers, the next heartbeat.
    let heartbeat = tokio_stream::iter([message(leading, Vec::new())]);
    let mut answers = client.append(heartbeat).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let fatal = tokio::time::timeout(SOON, ended).await.unwrap();
    let (said, first) = (fatal.to_string(), format!("log entry {} cannot be read", last + 1));
    for part in [first.as_str(), "needs feature level 4294967295", "start the newer build again"] {
        assert!(said.contains(part), "it says {part}: {said}");
    }
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
