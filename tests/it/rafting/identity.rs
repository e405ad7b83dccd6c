//! Nothing reaches Raft before its sender was admitted: every RPC of the peer protocol against every mismatch.

use pilothouse::domain::membership::Step;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::peer::{
    AppendRequest, EnlistRequest, Header, SnapshotChunk, TransferLeaderRequest, VoteRequest,
};
use pilothouse::proto::store::Vote;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::nodes::Nodes;

/// RPCs that need an identity. `Identify` is the question for one.
const GUARDED: &[&str] = &["Append", "Enlist", "PreVote", "Snapshot", "TransferLeader", "Vote"];

/// Asks one RPC with this header, about a vote that loses against every other.
async fn ask(client: &mut RaftPeerClient<Channel>, rpc: &str, header: Option<Header>) -> Result<(), Status> {
    let sender = header.as_ref().and_then(|header| header.sender.as_ref()).map_or(9, |sender| sender.id);
    let vote = Some(Vote { term: 0, voted_for: sender, committed: false });
    match rpc {
        "Append" => {
            let message = AppendRequest { header, vote, ..AppendRequest::default() };
            let mut answers = client.append(tokio_stream::once(message)).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        }
        "Enlist" => client.enlist(EnlistRequest { header }).await.map(drop),
        "PreVote" => client.pre_vote(VoteRequest { header, vote, ..VoteRequest::default() }).await.map(drop),
        "Snapshot" => {
            let chunk = SnapshotChunk { header, vote, last: true, ..SnapshotChunk::default() };
            client.snapshot(tokio_stream::once(chunk)).await.map(drop)
        }
        "TransferLeader" => {
            let message = TransferLeaderRequest { header, from: vote, ..TransferLeaderRequest::default() };
            client.transfer_leader(message).await.map(drop)
        }
        "Vote" => client.vote(VoteRequest { header, vote, ..VoteRequest::default() }).await.map(drop),
        other => panic!("{other} is not asked here: add it"),
    }
}

#[test]
fn every_rpc_of_the_peer_protocol_is_asked_here() {
    let proto = include_str!("../../../proto/peer.proto");
    let declared = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    let mut declared: Vec<_> = declared.filter(|rpc| *rpc != "Identify").collect();
    declared.sort_unstable();
    assert_eq!(declared, GUARDED);
}

fn sent_by(header: &mut Header, id: u64, incarnation: [u8; 16]) {
    header.sender = Some(pilothouse::proto::peer::Party { id, incarnation: incarnation.to_vec() });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_every_mismatch_before_raft_hears_of_it() {
    let mut nodes = Nodes::found(3).await;
    // A controller that was a member once.
    let newcomer = nodes.newcomer().await;
    nodes.add(newcomer, 4).await;
    nodes.step(&Step::RemoveLearner(nodes.seats[newcomer].id())).await;
    let leader = nodes.leader().await;
    let follower = nodes.followers().await.into_iter().find(|place| *place != newcomer).unwrap();
    nodes.caught_up(follower, leader).await;

    let good = nodes.header(leader, follower);
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        Some(header)
    };
    let retired = nodes.seats[newcomer].node().me();
    let own = good.target.clone();
    let mismatches = [
        ("no header", None, Code::InvalidArgument),
        ("no cluster", changed(&|header| header.cluster_id.clear()), Code::InvalidArgument),
        ("no epoch", changed(&|header| header.epoch = 0), Code::InvalidArgument),
        ("no sender", changed(&|header| header.sender = None), Code::InvalidArgument),
        ("no target", changed(&|header| header.target = None), Code::InvalidArgument),
        ("another cluster", changed(&|header| header.cluster_id[0] ^= 1), Code::PermissionDenied),
        ("another epoch", changed(&|header| header.epoch += 1), Code::PermissionDenied),
        ("for another id", changed(&|header| header.target.as_mut().unwrap().id = 9), Code::PermissionDenied),
        (
            "for another incarnation",
            changed(&|header| header.target.as_mut().unwrap().incarnation[0] ^= 1),
            Code::PermissionDenied,
        ),
        (
            "a member's other incarnation",
            changed(&|header| header.sender.as_mut().unwrap().incarnation[0] ^= 1),
            Code::PermissionDenied,
        ),
        ("its own id", changed(&|header| header.sender.clone_from(&own)), Code::PermissionDenied),
        ("one that was never a member", changed(&|header| sent_by(header, 9, [9; 16])), Code::PermissionDenied),
        ("a retired id", changed(&|header| sent_by(header, 4, retired.incarnation.to_bytes())), Code::PermissionDenied),
    ];
    let mut client = RaftPeerClient::connect(format!("http://{}", nodes.seats[follower].peer)).await.unwrap();
    let before = nodes.seats[follower].status();
    for (what, header, code) in mismatches {
        for rpc in GUARDED {
            let refused = ask(&mut client, rpc, header.clone()).await.expect_err(&format!("{rpc} with {what}"));
            // Enlisting a member is refused because it is one, whoever asks.
            let expected = refused.code() == code || (*rpc == "Enlist" && refused.code() == Code::FailedPrecondition);
            assert!(expected, "{rpc} with {what}: {refused}");
        }
    }
    let after = nodes.seats[follower].status();
    assert_eq!((before.term, before.leader), (after.term, after.leader));

    // What is refused above is refused for its header: with a good one the same questions are answered.
    for rpc in GUARDED.iter().filter(|rpc| !["Enlist", "Snapshot"].contains(rpc)) {
        ask(&mut client, rpc, Some(good.clone())).await.unwrap_or_else(|status| panic!("{rpc}: {status}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_another_ones_vote() {
    let nodes = Nodes::found(3).await;
    let (leader, follower) = (nodes.leader().await, nodes.followers().await[0]);
    let mut client = RaftPeerClient::connect(format!("http://{}", nodes.seats[follower].peer)).await.unwrap();
    let header = Some(nodes.header(leader, follower));
    let vote = Some(Vote { term: 1000, voted_for: 77, committed: true });
    let request = VoteRequest { header: header.clone(), vote, ..VoteRequest::default() };
    assert_eq!(client.vote(request.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.pre_vote(request).await.unwrap_err().code(), Code::PermissionDenied);
    let message = AppendRequest { header, vote, ..AppendRequest::default() };
    let mut answers = client.append(tokio_stream::once(message)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::PermissionDenied);
    assert!(nodes.seats[follower].status().term < 1000);
}
