//! The server's side of the peer protocol. Nothing reaches openraft before [`crate::raft::identity`] admitted it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use tonic::{Request, Response, Status, Streaming};

use super::convert::Malformed;
use super::{convert, snapshot};
use crate::domain::access::Caller;
use crate::proto::peer::raft_peer_server::RaftPeer;
use crate::proto::peer::{
    AppendRequest, AppendResponse, EnlistRequest, EnlistResponse, Header, IdentifyRequest, IdentifyResponse,
    SnapshotChunk, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use crate::raft::identity::Stranger;
use crate::raft::life::RaftHandle;
use crate::raft::node::Node;
use crate::raft::types::{TypeConfig, Vote};

/// An append stream that nobody used for this long is ended; a leader opens another when it has something to say.
const APPEND_IDLE_MS_MAX: u64 = 60_000;
/// Longest time for Raft's answer to a question.
const ANSWER_MS_MAX: u64 = 5_000;

/// The peer protocol of one node.
#[derive(Clone)]
pub struct PeerService {
    node: Node,
}

impl PeerService {
    pub(in crate::raft) fn new(node: Node) -> Self {
        Self { node }
    }

    /// Admits the sender of a question, and hands out Raft.
    #[allow(clippy::result_large_err, reason = "the service returns it as it is")]
    fn admitted(
        &self,
        caller: &Caller,
        header: Option<&Header>,
        vote: Option<&crate::proto::store::Vote>,
    ) -> Result<RaftHandle, Status> {
        let sender = self.node.admit(caller, header)?;
        own_vote(sender.get(), &convert::parse_vote(vote)?)?;
        self.node.heard_from(sender);
        self.running()
    }

    /// Raft, once it runs here. A blank controller says which incarnation it is, so that the leader's log tells a wiped
    /// data directory from a wrong address.
    #[allow(clippy::result_large_err, reason = "the service returns it as it is")]
    fn running(&self) -> Result<RaftHandle, Status> {
        let incarnation = self.node.me().incarnation;
        self.node.running().map_err(|_| Stranger::Blank { incarnation }.into())
    }
}

/// Who sent a request, as the transport verified it, and what.
fn opened<T>(request: Request<T>) -> (Caller, T) {
    // A connection without a caller would be a hole in the accept loop: it gets what a stranger gets.
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Anonymous);
    (caller, request.into_inner())
}

/// Whoever speaks for a vote is the one whom it is for.
#[allow(clippy::result_large_err, reason = "the service returns it as it is")]
fn own_vote(sender: u64, vote: &Vote) -> Result<(), Status> {
    if vote.leader_id.voted_for == sender {
        return Ok(());
    }
    let candidate = vote.leader_id.voted_for;
    Err(Status::permission_denied(format!("controller {sender} speaks for a vote of controller {candidate}")))
}

/// Whether a vote is that of a leader who is not known to be a past one.
pub(super) fn leads(node: &Node, vote: &Vote) -> bool {
    vote.committed && vote.leader_id.term >= node.status().borrow().term
}

#[tonic::async_trait]
impl RaftPeer for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn identify(&self, _: Request<IdentifyRequest>) -> Result<Response<IdentifyResponse>, Status> {
        Ok(Response::new(self.node.record().to_wire()))
    }

    async fn enlist(&self, request: Request<EnlistRequest>) -> Result<Response<EnlistResponse>, Status> {
        let (caller, message) = opened(request);
        self.node.accept_enlistment(&caller, message.header.as_ref()).await?;
        Ok(Response::new(EnlistResponse {}))
    }

    async fn append(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let raft = self.running()?;
        let refusal = Arc::new(OnceLock::new());
        let (caller, messages) = opened(request);
        let input = Input { node: self.node.clone(), caller, messages, refusal: Arc::clone(&refusal) };
        let requests = futures::stream::unfold(Some(input), |input| async { input?.next().await });
        let node = self.node.clone();
        let answers = raft.stream_append(requests).map(move |answer| match answer {
            Ok(result) => {
                if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                    node.life().contact.heard();
                }
                Ok(convert::append_result(&result))
            }
            Err(fatal) => Err(Status::unavailable(fatal.to_string())),
        });
        // What was refused is said after everything before it was answered; then the stream ends.
        let refused =
            futures::stream::once(async move { refusal.get().cloned().map(Err) }).filter_map(std::future::ready);
        Ok(Response::new(Box::pin(answers.chain(refused))))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let (caller, message) = opened(request);
        let raft = self.admitted(&caller, message.header.as_ref(), message.vote.as_ref())?;
        let answer = answered(raft.vote(convert::parse_vote_request(&message)?)).await?;
        Ok(Response::new(convert::vote_response(&answer)))
    }

    async fn pre_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let (caller, message) = opened(request);
        let raft = self.admitted(&caller, message.header.as_ref(), message.vote.as_ref())?;
        let answer = answered(raft.pre_vote(convert::parse_vote_request(&message)?)).await?;
        Ok(Response::new(convert::vote_response(&answer)))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<SnapshotResponse>, Status> {
        let (caller, mut chunks) = opened(request);
        let first = snapshot::next_chunk(&mut chunks).await?;
        let raft = self.admitted(&caller, first.header.as_ref(), first.vote.as_ref())?;
        let vote = convert::parse_vote(first.vote.as_ref())?;
        let answer = snapshot::receive(&self.node, &raft, vote, first, chunks).await?;
        Ok(Response::new(convert::snapshot_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let (caller, message) = opened(request);
        let raft = self.admitted(&caller, message.header.as_ref(), message.from.as_ref())?;
        let answer = answered(raft.handle_transfer_leader(convert::parse_transfer(&message)?)).await?;
        Ok(Response::new(convert::transfer_response(&answer)))
    }
}

/// The messages of one append stream, as openraft takes them. Ends at the first that is not admitted or not understood.
struct Input {
    node: Node,
    caller: Caller,
    messages: Streaming<AppendRequest>,
    refusal: Arc<OnceLock<Status>>,
}

impl Input {
    async fn next(mut self) -> Option<(AppendEntriesRequest<TypeConfig>, Option<Self>)> {
        let idle = Duration::from_millis(APPEND_IDLE_MS_MAX);
        let message = tokio::time::timeout(idle, self.messages.message()).await.ok()?;
        let parsed = match message {
            Ok(None) => return None,
            Ok(Some(message)) => self.parse(&message),
            Err(status) => Err(status),
        };
        match parsed {
            Ok(request) => Some((request, Some(self))),
            Err(status) => {
                let _ = self.refusal.set(status);
                None
            }
        }
    }

    #[allow(clippy::result_large_err, reason = "the service returns it as it is")]
    fn parse(&self, message: &AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
        let sender = self.node.admit(&self.caller, message.header.as_ref())?;
        let vote = convert::parse_vote(message.vote.as_ref())?;
        own_vote(sender.get(), &vote)?;
        let request = convert::parse_append(message);
        if let Err(newer @ Malformed::NewerLevel { .. }) = &request
            && leads(&self.node, &vote)
        {
            self.node.life().outdated(newer.to_string());
        }
        Ok(request?)
    }
}

async fn answered<T, E: std::fmt::Display>(question: impl Future<Output = Result<T, E>>) -> Result<T, Status> {
    match tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Status::unavailable(error.to_string())),
        Err(_) => Err(Status::deadline_exceeded(format!("Raft did not answer within {ANSWER_MS_MAX} ms"))),
    }
}
