//! Snapshots in chunks, both ways. Each chunk has a checksum, and so has the whole; a transfer that is cut is repeated.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::StreamingError;
use openraft::raft::SnapshotResponse;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::convert;
use super::lane::Lane;
use super::service::leads;
use crate::proto::peer::SnapshotChunk;
use crate::raft::life::RaftHandle;
use crate::raft::node::{Node, RaftSnapshot};
use crate::raft::snapshot;
use crate::raft::types::{TypeConfig, Vote};
use crate::storage::snapshot_file::CHUNK_BYTES_MAX;
use crate::storage::{SnapshotFile, SnapshotReceiver};

/// Longest time between two chunks, on either side.
const CHUNK_MS_MAX: u64 = 10_000;
/// Longest time from the last chunk to the answer: the receiver checks the whole file and installs it.
const INSTALL_MS_MAX: u64 = 300_000;

/// Sends a snapshot and waits until it is installed.
pub(super) async fn send(
    lane: &Lane,
    vote: &Vote,
    snapshot: RaftSnapshot,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let attempt = lane.gate.pass().await;
    match stream(lane, vote, snapshot.snapshot).await {
        Ok(response) => {
            attempt.succeeded();
            Ok(response)
        }
        Err(status) => {
            let reason = super::reason(&status);
            attempt.failed(&reason);
            Err(convert::unreachable(format!("the snapshot was not installed: {reason}")).into())
        }
    }
}

async fn stream(lane: &Lane, vote: &Vote, file: SnapshotFile) -> Result<SnapshotResponse<TypeConfig>, Status> {
    let (chunks, queue) = mpsc::channel(1);
    let mut client = lane.client();
    let feed = feed(lane, vote, file, chunks);
    let call = client.snapshot(ReceiverStream::new(queue));
    tokio::pin!(feed, call);
    let answer = tokio::select! {
        biased;
        answer = &mut call => answer,
        fed = &mut feed => {
            fed?;
            tokio::time::timeout(Duration::from_millis(INSTALL_MS_MAX), call)
                .await
                .map_err(|_| Status::deadline_exceeded(format!("no answer within {INSTALL_MS_MAX} ms")))?
        }
    };
    Ok(convert::parse_snapshot_response(&answer?.into_inner())?)
}

async fn feed(lane: &Lane, vote: &Vote, file: SnapshotFile, chunks: mpsc::Sender<SnapshotChunk>) -> Result<(), Status> {
    let (mut offset, mut sha256) = (0, Sha256::new());
    loop {
        let data = read(&file, offset).await?;
        sha256.update(&data);
        let (length, first) = (data.len() as u64, offset == 0);
        let last = offset + length >= file.length_bytes();
        let chunk = SnapshotChunk {
            header: first.then(|| lane.header()),
            vote: first.then(|| convert::vote(vote)),
            offset,
            crc32c: crc32c::crc32c(&data),
            data: data.into(),
            last,
            sha256: if last { sha256.clone().finalize().to_vec() } else { Vec::new() },
        };
        match chunks.send_timeout(chunk, Duration::from_millis(CHUNK_MS_MAX)).await {
            Ok(()) if last => return Ok(()),
            Ok(()) => offset += length,
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(Status::deadline_exceeded(format!("a chunk was not taken within {CHUNK_MS_MAX} ms")));
            }
            // The call has ended, and says why.
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return std::future::pending().await,
        }
    }
}

async fn read(file: &SnapshotFile, offset: u64) -> Result<Bytes, Status> {
    let file = file.clone();
    blocking(move || file.read_chunk(offset)).await
}

/// The next chunk of a transfer.
pub(super) async fn next_chunk(chunks: &mut Streaming<SnapshotChunk>) -> Result<SnapshotChunk, Status> {
    match tokio::time::timeout(Duration::from_millis(CHUNK_MS_MAX), chunks.message()).await {
        Ok(Ok(Some(chunk))) => Ok(chunk),
        Ok(Ok(None)) => Err(Status::data_loss("the snapshot was cut off before its last chunk")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded(format!("no chunk within {CHUNK_MS_MAX} ms"))),
    }
}

/// Receives a snapshot, checks it, and installs it. A newer transfer ends this one.
pub(super) async fn receive(
    node: &Node,
    raft: &RaftHandle,
    vote: Vote,
    first: SnapshotChunk,
    mut chunks: Streaming<SnapshotChunk>,
) -> Result<SnapshotResponse<TypeConfig>, Status> {
    let mut turn = node.life().snapshot_turn();
    let arrival = async {
        let mut arriving = Arriving::new(node.life().directory.snapshots().receive().map_err(internal)?);
        let mut chunk = first;
        loop {
            let last = chunk.last;
            arriving = arriving.take(chunk).await?;
            if last {
                return Ok::<_, Status>(arriving.receiver);
            }
            chunk = next_chunk(&mut chunks).await?;
        }
    };
    let receiver = tokio::select! {
        biased;
        () = turn.over() => return Err(Status::aborted("a newer transfer of a snapshot replaces this one")),
        received = arrival => received?,
    };
    let opened = blocking(move || Ok::<_, Infallible>(open(receiver))).await?;
    let snapshot = opened.map_err(|error| {
        if error.needs_newer_build() && leads(node, &vote) {
            node.life().outdated(error.to_string());
        }
        internal(error)
    })?;
    let position = snapshot.snapshot.position();
    if position.term > vote.leader_id.term {
        return Err(Status::invalid_argument("the snapshot is newer than the leader who sends it"));
    }
    tracing::info!(index = position.index, "received a snapshot");
    raft.install_full_snapshot(vote, snapshot).await.map_err(|fatal| Status::unavailable(fatal.to_string()))
}

fn open(receiver: SnapshotReceiver) -> Result<RaftSnapshot, snapshot::Error> {
    let file = receiver.finish()?;
    let meta = snapshot::meta(&file)?;
    Ok(RaftSnapshot { meta, snapshot: file })
}

struct Arriving {
    receiver: SnapshotReceiver,
    sha256: Sha256,
}

impl Arriving {
    fn new(receiver: SnapshotReceiver) -> Self {
        Self { receiver, sha256: Sha256::new() }
    }

    async fn take(mut self, chunk: SnapshotChunk) -> Result<Self, Status> {
        check(&chunk, self.receiver.received_bytes())?;
        self.sha256.update(&chunk.data);
        if chunk.last && chunk.sha256 != self.sha256.clone().finalize().to_vec() {
            return Err(Status::data_loss("the snapshot does not have the checksum that it should have"));
        }
        blocking(move || self.receiver.append(&chunk.data).map(|()| self)).await
    }
}

#[allow(clippy::result_large_err, reason = "the service returns it as it is")]
fn check(chunk: &SnapshotChunk, expected: u64) -> Result<(), Status> {
    if chunk.data.len() > CHUNK_BYTES_MAX {
        return Err(Status::resource_exhausted(format!("a chunk has more than {CHUNK_BYTES_MAX} bytes")));
    }
    if chunk.offset != expected {
        let found = chunk.offset;
        return Err(Status::data_loss(format!("a chunk begins at {found}, {expected} comes next")));
    }
    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
        return Err(Status::data_loss(format!(
            "the chunk at {expected} does not have the checksum that it should have"
        )));
    }
    Ok(())
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(internal),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
