//! openraft's requests and answers <-> the messages of `proto/peer.proto`. Entries travel as the bytes that the log holds.

use openraft::errors::Unreachable;
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::proto::peer::append_response::Kind;
use crate::proto::peer::{self, Header};
use crate::proto::store;
use crate::raft::codec::{self, CodecError, decode_log_id, encode_log_id};
use crate::raft::types::{Entry, LogId, TypeConfig, Vote};
use crate::storage::log::ENTRY_BYTES_MAX;

/// Why a message cannot be understood. The stream that it came on ends: nothing is ever skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the message has no {0}")]
    Missing(&'static str),
    #[error("entry {nth} of the message cannot be read: {reason}")]
    Entry { nth: usize, reason: String },
    /// In the words in which a start is refused by an entry that is on the disk.
    #[error("log entry {index} cannot be read: {reason}")]
    NewerLevel { index: u64, reason: String },
    #[error("entry {nth} of the message has {bytes} bytes, the limit is {ENTRY_BYTES_MAX}: the message is refused")]
    TooLarge { nth: usize, bytes: usize },
    #[error("entry {nth} of the message has index {found}, {expected} follows: the message is refused")]
    OutOfOrder { nth: usize, found: u64, expected: u64 },
}

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}

/// Most bytes of entries in one append message: with one more entry of the largest size it stays below 4 MiB.
pub(super) const APPEND_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) fn vote(vote: &Vote) -> store::Vote {
    codec::encode_vote(vote)
}

pub(super) fn parse_vote(vote: Option<&store::Vote>) -> Result<Vote, Malformed> {
    vote.map(codec::decode_vote).ok_or(Malformed::Missing("vote"))
}

/// One request of openraft as one message, or as several when its entries would not fit.
pub(super) fn append(
    request: &AppendEntriesRequest<TypeConfig>,
    header: &Header,
    leader_time_ms: u64,
) -> Vec<peer::AppendRequest> {
    let message = |prev: Option<LogId>, entries| peer::AppendRequest {
        header: Some(header.clone()),
        vote: Some(vote(&request.vote)),
        prev: prev.as_ref().map(encode_log_id),
        entries,
        commit: request.leader_commit.as_ref().map(encode_log_id),
        leader_time_ms,
    };
    let (mut messages, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    let (mut prev, mut last) = (request.prev_log_id, request.prev_log_id);
    for entry in &request.entries {
        let encoded = codec::encode_entry(entry);
        if !batch.is_empty() && bytes + encoded.len() > APPEND_BYTES_MAX {
            messages.push(message(prev, std::mem::take(&mut batch)));
            (prev, bytes) = (last, 0);
        }
        bytes += encoded.len();
        batch.push(encoded);
        last = Some(entry.log_id);
    }
    messages.push(message(prev, batch));
    messages
}

pub(super) fn parse_append(message: &peer::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let prev_log_id = message.prev.as_ref().map(decode_log_id);
    let first = prev_log_id.map_or(0, |prev| prev.index() + 1);
    let mut entries = Vec::with_capacity(message.entries.len());
    for (nth, (expected, bytes)) in (first..).zip(&message.entries).enumerate() {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(Malformed::TooLarge { nth, bytes: bytes.len() });
        }
        let entry: Entry = codec::decode_entry(bytes).map_err(|error| match error {
            CodecError::NewerLevel { .. } => Malformed::NewerLevel { index: expected, reason: error.to_string() },
            other => Malformed::Entry { nth, reason: other.to_string() },
        })?;
        let found = entry.log_id.index();
        if found != expected {
            return Err(Malformed::OutOfOrder { nth, found, expected });
        }
        entries.push(entry);
    }
    Ok(AppendEntriesRequest {
        vote: parse_vote(message.vote.as_ref())?,
        prev_log_id,
        entries,
        leader_commit: message.commit.as_ref().map(decode_log_id),
    })
}

pub(super) fn append_result(result: &StreamAppendResult<TypeConfig>) -> peer::AppendResponse {
    let kind = match result {
        Ok(Some(matched)) => Kind::Matched(encode_log_id(matched)),
        Ok(None) => Kind::MatchedNone(peer::Empty {}),
        Err(StreamAppendError::Conflict(at)) => Kind::Conflict(encode_log_id(at)),
        Err(StreamAppendError::HigherVote(higher)) => Kind::HigherVote(vote(higher)),
    };
    peer::AppendResponse { kind: Some(kind) }
}

pub(super) fn parse_append_result(
    response: &peer::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    Ok(match response.kind.as_ref().ok_or(Malformed::Missing("kind"))? {
        Kind::Matched(matched) => Ok(Some(decode_log_id(matched))),
        Kind::MatchedNone(_) => Ok(None),
        Kind::Conflict(at) => Err(StreamAppendError::Conflict(decode_log_id(at))),
        Kind::HigherVote(higher) => Err(StreamAppendError::HigherVote(parse_vote(Some(higher))?)),
    })
}

pub(super) fn vote_request(request: &VoteRequest<TypeConfig>, header: Header) -> peer::VoteRequest {
    peer::VoteRequest {
        header: Some(header),
        vote: Some(vote(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(encode_log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn parse_vote_request(message: &peer::VoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let vote = parse_vote(message.vote.as_ref())?;
    let mut request = VoteRequest::new(vote, message.last_log_id.as_ref().map(decode_log_id));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(super) fn vote_response(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(encode_log_id),
    }
}

pub(super) fn parse_vote_response(message: &peer::VoteResponse) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let vote = parse_vote(message.vote.as_ref())?;
    Ok(VoteResponse::new(vote, message.last_log_id.as_ref().map(decode_log_id), message.granted))
}

pub(super) fn snapshot_response(response: &SnapshotResponse<TypeConfig>) -> peer::SnapshotResponse {
    peer::SnapshotResponse { vote: Some(vote(&response.vote)) }
}

pub(super) fn parse_snapshot_response(
    message: &peer::SnapshotResponse,
) -> Result<SnapshotResponse<TypeConfig>, Malformed> {
    Ok(SnapshotResponse::new(parse_vote(message.vote.as_ref())?))
}

pub(super) fn transfer(request: &TransferLeaderRequest<TypeConfig>, header: Header) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        header: Some(header),
        from: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(encode_log_id),
    }
}

pub(super) fn parse_transfer(
    message: &peer::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let from = parse_vote(message.from.as_ref())?;
    Ok(TransferLeaderRequest::new(from, message.to, message.last_log_id.as_ref().map(decode_log_id)))
}

pub(super) fn transfer_response(response: &TransferLeaderResponse<TypeConfig>) -> peer::TransferLeaderResponse {
    let (refused_vote, flushed) = match response {
        Ok(()) => return peer::TransferLeaderResponse { accepted: true, vote: None, flushed: None },
        Err(TransferLeaderError::VoteChanged { actual, .. }) => (Some(vote(actual)), None),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => (None, actual.as_ref().map(encode_log_id)),
    };
    peer::TransferLeaderResponse { accepted: false, vote: refused_vote, flushed }
}

pub(super) fn parse_transfer_response(
    message: &peer::TransferLeaderResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, Malformed> {
    if message.accepted {
        return Ok(Ok(()));
    }
    Ok(Err(match &message.vote {
        Some(actual) => {
            TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual: parse_vote(Some(actual))? }
        }
        None => TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: message.flushed.as_ref().map(decode_log_id),
        },
    }))
}

/// To openraft, whatever keeps a message from arriving is the same: it shall wait before it tries again.
pub(super) fn unreachable(reason: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(reason)
}
