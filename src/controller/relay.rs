//! What controllers ask of each other beside Raft: to write a registration, to redeem a token, to name live sessions and events,
//! to compare their states, to try a feature level, to believe that one of them was removed. Every request is admitted by its identity first.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, async_trait};

use super::backend::Backend;
use crate::domain::agreement::Checkpoints;
use crate::domain::command::{Registered, Registration};
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::membership::Member;
use crate::domain::token::{Redeemed, Redemption, TokenRefusal};
use crate::proto::peer::Header;
use crate::proto::relay::relay_client::RelayClient;
use crate::proto::relay::relay_server::{Relay, RelayServer};
use crate::proto::relay::{
    CheckpointsRequest, CheckpointsResponse, EventsRequest, EventsResponse, RedeemTokenResponse, RelayRedeemToken,
    RelayRegister, RemovedRequest, RemovedResponse, SessionsRequest, SessionsResponse, TryLevelRequest,
    TryLevelResponse,
};
use crate::proto::router::RegisterResponse;
use crate::raft::Node;
use crate::rpc::convert::{InvalidRequest, registration, status, token, upgrade};
use crate::rpc::guard::caller;

/// Most bytes of one message.
pub const RELAY_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sessions in one message: well within its limit with the longest ids and texts.
const SESSIONS_PER_MESSAGE: usize = 256;
/// Longest wait for a majority to confirm that this controller leads.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(800);
/// Longest wait for a controller to hear that it was removed.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// The service on the peer port.
#[derive(Debug)]
pub struct RelayService {
    backend: Arc<Backend>,
}

impl RelayService {
    /// The service, with its limits.
    #[must_use]
    pub fn server(backend: Arc<Backend>) -> RelayServer<Self> {
        RelayServer::new(Self { backend })
            .max_decoding_message_size(RELAY_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(RELAY_MESSAGE_BYTES_MAX)
    }
}

#[async_trait]
impl Relay for RelayService {
    type SessionsStream = Pin<Box<dyn Stream<Item = Result<SessionsResponse, Status>> + Send>>;

    async fn register(&self, request: Request<RelayRegister>) -> Result<Response<RegisterResponse>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        self.backend.node().admit(&caller, request.header.as_ref())?;
        let wire = request.request.ok_or_else(|| Status::invalid_argument("a relayed registration without content"))?;
        let registration = registration::from_wire(wire)?;
        // A controller that forwards counts itself: less than one hop is none.
        let hops = request.hops.max(1);
        let (registered, cluster) = self.backend.registrar().register_forwarded(registration, hops).await?;
        Ok(Response::new(registration::answer(registered, cluster)))
    }

    async fn redeem_token(&self, request: Request<RelayRedeemToken>) -> Result<Response<RedeemTokenResponse>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        self.backend.node().admit(&caller, request.header.as_ref())?;
        let hops = request.hops.max(1);
        let redemption = token::from_wire(request)?;
        let judgement = self.backend.redeem_once(&redemption, hops).await;
        let judgement = judgement.ok_or_else(|| Status::unavailable("nobody leads who could judge the token"))?;
        Ok(Response::new(token::answer(judgement)))
    }

    async fn sessions(&self, request: Request<SessionsRequest>) -> Result<Response<Self::SessionsStream>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        self.backend.node().admit(&caller, request.header.as_ref())?;
        if request.confirm_leads {
            self.backend.confirm_leads().await?;
        }
        let pages = self.backend.session_pages(request.count_only, &request.only, SESSIONS_PER_MESSAGE);
        Ok(Response::new(Box::pin(futures::stream::iter(pages.into_iter().map(Ok)))))
    }

    async fn checkpoints(&self, request: Request<CheckpointsRequest>) -> Result<Response<CheckpointsResponse>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        self.backend.node().admit(&caller, request.header.as_ref())?;
        let answer = upgrade::checkpoints(&self.backend.node().checkpoints().borrow());
        Ok(Response::new(answer))
    }

    async fn try_level(&self, request: Request<TryLevelRequest>) -> Result<Response<TryLevelResponse>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        self.backend.node().admit(&caller, request.header.as_ref())?;
        let level = FeatureLevel::new(request.level).ok_or(InvalidRequest::Level)?;
        Ok(Response::new(self.backend.try_level(level).await))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<EventsResponse>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        self.backend.node().admit(&caller, request.header.as_ref())?;
        Ok(Response::new(self.backend.events_after(&request)))
    }

    async fn removed(&self, request: Request<RemovedRequest>) -> Result<Response<RemovedResponse>, Status> {
        let (caller, request) = (caller(request.extensions()), request.into_inner());
        let by = self.backend.node().admit(&caller, request.header.as_ref())?;
        let own = self.backend.node().me().id;
        if !self.backend.node().read(|state| state.believes_removal(own, by)) {
            return Err(Status::permission_denied("only a member says who was removed"));
        }
        tracing::info!(%by, "hear that this controller was removed");
        self.backend.removed();
        Ok(Response::new(RemovedResponse {}))
    }
}

impl Backend {
    /// A controller that was deposed may not have heard of it: what it has applied says nothing of the cluster.
    async fn confirm_leads(&self) -> Result<(), Status> {
        let confirmed = self.node().read_barrier(CONFIRMED_WITHIN).await;
        confirmed.map_err(|why| Status::failed_precondition(format!("this controller does not lead: {why}")))
    }

    fn session_pages(&self, count_only: bool, only: &str, per_page: usize) -> Vec<SessionsResponse> {
        let applied_index = self.node().status().borrow().applied.map_or(0, |applied| applied.index);
        let page = |sessions| SessionsResponse {
            sessions,
            applied_index,
            count: self.hub().session_count() as u64,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if count_only {
            return vec![page(Vec::new())];
        }
        let wanted = |live: &&Arc<crate::rpc::session::LiveSession>| only.is_empty() || live.router.as_str() == only;
        let sessions: Vec<_> = self.hub().sessions().iter().filter(wanted).map(|s| status::live_session(s)).collect();
        let mut pages: Vec<_> = sessions.chunks(per_page).map(|chunk| page(chunk.to_vec())).collect();
        if pages.is_empty() {
            pages.push(page(Vec::new()));
        }
        pages
    }
}

fn client(channel: Channel) -> RelayClient<Channel> {
    RelayClient::new(channel)
        .max_decoding_message_size(RELAY_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(RELAY_MESSAGE_BYTES_MAX)
}

fn unreachable(id: ControllerId, why: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("controller {id} cannot be reached: {why}"))
}

/// Forwards a registration to a controller.
///
/// # Errors
/// Its status, or `Unavailable`.
pub(super) async fn register(
    node: &Node,
    to: ControllerId,
    registration: &Registration,
    hops: u32,
    within: Duration,
) -> Result<(Registered, ClusterId), Status> {
    let (member, channel) = node.channel_to(to).map_err(|why| unreachable(to, &why))?;
    let mut request = Request::new(RelayRegister {
        header: Some(node.header_to(&member)),
        hops,
        request: Some(registration::to_wire(registration)),
    });
    request.set_timeout(within);
    let answer = tokio::time::timeout(within, client(channel).register(request))
        .await
        .map_err(|_| unreachable(to, &"no answer in time"))??;
    registration::answer_from_wire(answer.get_ref()).ok_or_else(|| unreachable(to, &"its answer says nothing"))
}

/// Forwards a redemption to a controller. `None`: it could not judge it.
pub(super) async fn redeem_token(
    node: &Node,
    to: ControllerId,
    redemption: &Redemption,
    hops: u32,
    within: Duration,
) -> Option<Result<Redeemed, TokenRefusal>> {
    let (member, channel) = node.channel_to(to).ok()?;
    let mut request = Request::new(token::to_wire(redemption, Some(node.header_to(&member)), hops));
    request.set_timeout(within);
    match tokio::time::timeout(within, client(channel).redeem_token(request)).await {
        Ok(Ok(answer)) => token::answer_from_wire(answer.get_ref()),
        Ok(Err(status)) => {
            tracing::debug!(%to, error = status.message(), "a redemption was not judged; it is tried again");
            None
        }
        Err(_) => None,
    }
}

/// Asks a controller for its live sessions, or only for their number.
///
/// # Errors
/// Its status, or `Unavailable`.
pub(super) async fn sessions(
    node: &Node,
    of: ControllerId,
    count_only: bool,
    only: &str,
    within: Duration,
) -> Result<SessionsResponse, Status> {
    let (member, channel) = node.channel_to(of).map_err(|why| unreachable(of, &why))?;
    let header = Some(node.header_to(&member));
    let gather = async {
        let request = SessionsRequest { header, count_only, only: only.to_owned(), confirm_leads: false };
        let mut pages = client(channel).sessions(request).await?.into_inner();
        let mut all = SessionsResponse::default();
        while let Some(page) = pages.message().await? {
            let sessions = std::mem::take(&mut all.sessions);
            all = page;
            all.sessions.splice(..0, sessions);
        }
        Ok(all)
    };
    tokio::time::timeout(within, gather).await.unwrap_or_else(|_| Err(unreachable(of, &"no answer in time")))
}

/// The newest hashes of a controller's state.
///
/// # Errors
/// Its status, or `Unavailable`; `Unimplemented` of one whose build takes none.
pub(super) async fn checkpoints(node: &Node, of: ControllerId, within: Duration) -> Result<Checkpoints, Status> {
    let (member, channel) = node.channel_to(of).map_err(|why| unreachable(of, &why))?;
    let request = CheckpointsRequest { header: Some(node.header_to(&member)) };
    let answer = tokio::time::timeout(within, client(channel).checkpoints(request)).await;
    let answer = answer.map_err(|_| unreachable(of, &"no answer in time"))??;
    Ok(upgrade::checkpoints_from_wire(answer.into_inner()))
}

/// Has a controller try a feature level on a copy of its state.
///
/// # Errors
/// Its status, or `Unavailable`; `Unimplemented` of one whose build cannot.
pub(super) async fn try_level(
    node: &Node,
    of: ControllerId,
    level: FeatureLevel,
    within: Duration,
) -> Result<TryLevelResponse, Status> {
    let (member, channel) = node.channel_to(of).map_err(|why| unreachable(of, &why))?;
    let request = TryLevelRequest { header: Some(node.header_to(&member)), level: level.get() };
    let answer = tokio::time::timeout(within, client(channel).try_level(request)).await;
    Ok(answer.map_err(|_| unreachable(of, &"no answer in time"))??.into_inner())
}

/// Asks a controller for its events beyond what the request names. One of an older build says `Unimplemented`.
///
/// # Errors
/// Its status, or `Unavailable`.
pub(super) async fn events(
    node: &Node,
    of: ControllerId,
    request: impl FnOnce(Header) -> EventsRequest,
    within: Duration,
) -> Result<EventsResponse, Status> {
    let (member, channel) = node.channel_to(of).map_err(|why| unreachable(of, &why))?;
    let request = request(node.header_to(&member));
    let answer = tokio::time::timeout(within, client(channel).events(request)).await;
    answer.map_err(|_| unreachable(of, &"no answer in time"))?.map(Response::into_inner)
}

/// How far the cluster is: the index that a leader had applied, after a majority confirmed that it leads.
///
/// # Errors
/// Its status, or `Unavailable`; also of a controller that does not lead, or not any more.
pub(super) async fn applied_by_leader(node: &Node, leader: ControllerId, within: Duration) -> Result<u64, Status> {
    let (member, channel) = node.channel_to(leader).map_err(|why| unreachable(leader, &why))?;
    let header = Some(node.header_to(&member));
    let request = SessionsRequest { header, count_only: true, only: String::new(), confirm_leads: true };
    let ask = async { client(channel).sessions(request).await?.into_inner().message().await };
    let answer = tokio::time::timeout(within, ask).await.map_err(|_| unreachable(leader, &"no answer in time"))??;
    answer.map(|page| page.applied_index).ok_or_else(|| unreachable(leader, &"its answer says nothing"))
}

/// Tells a controller that it was removed. It is no member any more, so its last record says where it listens.
///
/// # Errors
/// Its status, or `Unavailable`.
pub(super) async fn tell_removed(node: &Node, member: &Member) -> Result<(), Status> {
    let mut last = unreachable(member.id, &"it has no address");
    for address in &member.peer {
        let header = Some(node.header_to(member));
        let tell = async { client(node.channel_at(address, member.id)).removed(RemovedRequest { header }).await };
        match tokio::time::timeout(TELL_WITHIN, tell).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => last = status,
            Err(_) => last = unreachable(member.id, &"no answer in time"),
        }
    }
    Err(last)
}
