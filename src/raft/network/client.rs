//! What openraft calls to speak to another controller.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tonic::Status;

use super::append::{Session, Wire};
use super::convert::{self, Malformed};
use super::lane::{Lane, Lanes, Purpose};
use crate::domain::membership::Member;
use crate::domain::retry;
use crate::raft::node::RaftSnapshot;
use crate::raft::types::{TypeConfig, Vote};
use crate::storage::SnapshotFile;

/// Makes clients.
#[derive(Clone)]
pub(in crate::raft) struct Network {
    lanes: Arc<Lanes>,
}

impl Network {
    pub(in crate::raft) fn new(lanes: Arc<Lanes>) -> Self {
        Self { lanes }
    }

    fn client(&self, node: &Member, replicates_on: Purpose) -> Client {
        Client { lanes: Arc::clone(&self.lanes), node: node.clone(), replicates_on, lane: None, wire: None }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, _target: u64, node: &Member) -> Client {
        self.client(node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, _target: u64, node: &Member) -> Client {
        self.client(node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, _target: u64, node: &Member) -> Client {
        self.client(node, Purpose::Snapshot)
    }
}

/// Speaks to one controller, for one of openraft's tasks.
pub(in crate::raft) struct Client {
    lanes: Arc<Lanes>,
    node: Member,
    replicates_on: Purpose,
    lane: Option<Arc<Lane>>,
    /// The append stream, which outlives openraft's sessions.
    wire: Option<Wire>,
}

impl Client {
    fn control(&self) -> Arc<Lane> {
        self.lanes.lane(&self.node, Purpose::Control)
    }

    /// One question and one answer, within the time that openraft gives for it.
    async fn ask<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        lane: &Lane,
        question: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<T, RPCError<TypeConfig>> {
        let asked = async {
            let attempt = lane.gate.pass().await;
            match question.await {
                Ok(answer) => {
                    attempt.succeeded();
                    Ok(answer)
                }
                Err(status) => {
                    let reason = super::reason(&status);
                    attempt.failed(&reason);
                    Err(convert::unreachable(reason).into())
                }
            }
        };
        match tokio::time::timeout(option.soft_ttl(), asked).await {
            Ok(answered) => answered,
            Err(_) => Err(self.timeout(action, option.soft_ttl()).into()),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig> {
        Timeout { action, id: self.lanes.own_id(), target: self.node.id.get(), timeout }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (prev, input) = (rpc.prev_log_id, Box::pin(futures::stream::once(async { rpc })));
        let mut answers = self.stream_append(input, option).await?;
        let mut last = Ok(prev);
        while let Some(answer) = futures::StreamExt::next(&mut answers).await {
            last = answer?;
        }
        Ok(last.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let Self { lanes, node, replicates_on, lane, wire } = self;
            let lane = lane.get_or_insert_with(|| lanes.lane(node, *replicates_on));
            Ok(Session::start(lanes, lane, wire, input))
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let lane = self.control();
        let message = convert::vote_request(&rpc, lane.header());
        let question =
            async { understood(convert::parse_vote_response(&lane.client().vote(message).await?.into_inner())) };
        self.ask(RPCTypes::Vote, &option, &lane, question).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let lane = self.control();
        let message = convert::vote_request(&rpc, lane.header());
        let question =
            async { understood(convert::parse_vote_response(&lane.client().pre_vote(message).await?.into_inner())) };
        self.ask(RPCTypes::Vote, &option, &lane, question).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let lane = self.lanes.lane(&self.node, Purpose::Snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = super::snapshot::send(&lane, &vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let lane = self.control();
        let message = convert::transfer(&req, lane.header());
        let question = async {
            let answer = lane.client().transfer_leader(message).await?.into_inner();
            understood(convert::parse_transfer_response(&answer, &req))
        };
        self.ask(RPCTypes::TransferLeader, &option, &lane, question).await
    }

    /// Short: the lanes pause by themselves, longer after each failure.
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(retry::Backoff::PEER.base)))
    }
}

fn understood<T>(parsed: Result<T, Malformed>) -> Result<T, Status> {
    parsed.map_err(|malformed| Status::unknown(malformed.to_string()))
}
