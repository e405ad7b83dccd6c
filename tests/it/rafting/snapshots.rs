//! A snapshot of many chunks, cut in the middle, arrives whole and without a restart.

use std::io::Write as _;

use pilothouse::domain::controller_list::ListState;
use pilothouse::domain::state::LogPosition;
use pilothouse::proto::peer::SnapshotChunk;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::store::{SnapshotHeader, Vote};
use pilothouse::raft::RaftRole;
use pilothouse::storage::SnapshotFiles;
use pilothouse::storage::snapshot_file::CHUNK_BYTES_MAX;
use prost::Message as _;
use tonic::Code;

use super::nodes::{Nodes, folder_bytes, registrations};
use crate::support::{SOON, eventually, expect};

/// Chunks that the snapshot has at least.
const CHUNKS_MIN: u64 = 12;
/// Chunks after which the first transfer is cut.
const CUT_AFTER_CHUNKS: u64 = 5;
/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 10;
/// Labels of one router, in bytes.
const LABEL_BYTES: usize = 4_000;
/// Routers in one entry: below its limit of 1 MiB.
const ROUTERS_AN_ENTRY: usize = 128;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_many_chunks_that_is_cut_in_the_middle_is_installed_without_a_restart() {
    let nodes = Nodes::tuned(3, |settings| settings.snapshot_every_entries = SNAPSHOT_EVERY).await;
    let (leader, behind) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, lags) = (&nodes.seats[leader], &nodes.seats[behind]);
    let held = |place: usize| nodes.seats[place].node().read(|state| state.routers.len());
    nodes.cut(behind);

    let chunk = u64::try_from(CHUNK_BYTES_MAX).unwrap();
    let entries = usize::try_from(CHUNKS_MIN * chunk).unwrap().div_ceil(LABEL_BYTES * ROUTERS_AN_ENTRY);
    for number in 0..entries.max(40) {
        leads.node().propose(registrations(&format!("edge-{number}"), ROUTERS_AN_ENTRY, LABEL_BYTES)).await.unwrap();
    }
    // Behind a snapshot as many entries are kept as lie between two of them, so what it lacks is purged.
    let lacks_from = lags.status().last_log.unwrap();
    eventually("the entries that it lacks are only in a snapshot", SOON, async || {
        let snapshot = leads.status().snapshot.map(|position| position.index);
        expect(snapshot > Some(lacks_from + 2 * SNAPSHOT_EVERY), || format!("{snapshot:?} {lacks_from}"))
    })
    .await;

    let began = lags.path.join("FORMAT").metadata().unwrap().modified().unwrap();
    nodes.network.cut_after(lags.port(), CUT_AFTER_CHUNKS * chunk);
    nodes.heal(behind);
    eventually("it has everything", SOON, async || {
        let (has, all) = (held(behind), held(leader));
        expect(has == all, || format!("{has} of {all}: {:?}", lags.status()))
    })
    .await;
    assert!(!nodes.network.will_cut(lags.port()), "the first transfer was cut");
    let bytes = folder_bytes(&lags.path.join("snapshots"));
    assert!(bytes >= CHUNKS_MIN * chunk, "{} chunks at least: {bytes} bytes", CHUNKS_MIN);
    println!(
        "installed a snapshot of {} chunks, the transfer before it was cut after {CUT_AFTER_CHUNKS}",
        bytes / chunk
    );

    // It is the same node: never stopped, with the same directory, the same list, and it takes the next entry.
    assert_ne!(lags.status().role, RaftRole::Stopped);
    assert_eq!(lags.path.join("FORMAT").metadata().unwrap().modified().unwrap(), began);
    let (ours, theirs) = (lags.node().lists(), leads.node().lists());
    assert!(matches!(&**ours.borrow(), ListState::Known(_)) && *ours.borrow() == *theirs.borrow());
    leads.node().propose(registrations("late", 1, 0)).await.unwrap();
    nodes.caught_up(behind, leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_what_was_sent_ends_the_transfer_and_leaves_nothing_behind() {
    let nodes = Nodes::found(3).await;
    let (leader, follower) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, follows) = (&nodes.seats[leader], &nodes.seats[follower]);
    let vote = Some(Vote { term: leads.status().term, voted_for: leads.id().get(), committed: true });
    let chunk = |data: &[u8]| SnapshotChunk {
        header: Some(nodes.header(leader, follower)),
        vote,
        crc32c: crc32c::crc32c(data),
        data: data.to_vec(),
        ..SnapshotChunk::default()
    };
    let good = chunk(b"a chunk");
    let sha256 = |bytes: &[u8]| <sha2::Sha256 as sha2::Digest>::digest(bytes).to_vec();
    // Whole as it is: without the check of the chunk only the content would be wrong.
    let whole = SnapshotChunk { last: true, sha256: sha256(b"a chunk"), ..good.clone() };
    let second = SnapshotChunk { last: true, sha256: sha256(b"a chunka chunk"), offset: 8, ..good.clone() };
    let bad: [(&str, Code, Vec<SnapshotChunk>); 6] = [
        ("a flipped bit", Code::DataLoss, vec![SnapshotChunk { crc32c: good.crc32c ^ 1, ..whole.clone() }]),
        ("a chunk a byte too far on", Code::DataLoss, vec![good.clone(), second]),
        ("a chunk over its limit", Code::ResourceExhausted, vec![chunk(&vec![0; CHUNK_BYTES_MAX + 1])]),
        ("no last chunk", Code::DataLoss, vec![good.clone()]),
        ("another whole", Code::DataLoss, vec![SnapshotChunk { last: true, sha256: vec![0; 32], ..good.clone() }]),
        ("no snapshot", Code::Internal, vec![whole]),
    ];
    let mut client = RaftPeerClient::connect(format!("http://{}", follows.peer)).await.unwrap();
    for (what, code, chunks) in bad {
        let refused = client.snapshot(tokio_stream::iter(chunks)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
        assert_eq!(folder_bytes(&follows.path.join("snapshots")), 0, "{what}");
    }
    leads.node().propose(registrations("edge", 1, 0)).await.unwrap();
    nodes.caught_up(follower, leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_cannot_read_the_snapshot_of_its_leader_ends_and_says_which_build_it_needs() {
    let nodes = Nodes::found(3).await;
    let (leader, follower) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, follows) = (&nodes.seats[leader], &nodes.seats[follower]);
    let term = leads.status().term;
    // As another controller has it: a header of a level that no build of today reads.
    let elsewhere = tempfile::tempdir().unwrap();
    let header = SnapshotHeader { level: u32::MAX, ..SnapshotHeader::default() }.encode_length_delimited_to_vec();
    let files = SnapshotFiles::open(elsewhere.path()).unwrap();
    let mut writer = files.create(LogPosition { term, index: 1_000 }, header.len() as u64).unwrap();
    writer.write_all(&header).unwrap();
    let data = writer.finish().unwrap().read_chunk(0).unwrap();
    let chunk = |vote| SnapshotChunk {
        header: Some(nodes.header(leader, follower)),
        vote: Some(vote),
        crc32c: crc32c::crc32c(&data),
        sha256: <sha2::Sha256 as sha2::Digest>::digest(&data).to_vec(),
        data: data.to_vec(),
        last: true,
        ..SnapshotChunk::default()
    };
    let leading = Vote { term, voted_for: leads.id().get(), committed: true };
    let mut client = RaftPeerClient::connect(format!("http://{}", follows.peer)).await.unwrap();
    let mut ended = std::pin::pin!(follows.node().fatal());
    for (vote, ends) in [(Vote { committed: false, ..leading }, false), (leading, true)] {
        let refused = client.snapshot(tokio_stream::iter([chunk(vote)])).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{refused}");
        assert_eq!(folder_bytes(&follows.path.join("snapshots")), 0);
        assert_eq!(futures::poll!(&mut ended).is_ready(), ends, "{vote:?}");
    }
    let said = follows.node().fatal().await.to_string();
    for part in ["needs feature level 4294967295", "start the newer build again"] {
        assert!(said.contains(part), "it says {part}: {said}");
    }
}
