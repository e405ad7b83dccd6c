//! What controllers ask of each other beside Raft: to write a registration, to name live sessions, to believe that one
//! of them was removed. Every request is admitted by its identity first.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, async_trait};

use super::backend::Backend;
use crate::domain::command::{Registered, Registration};
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::membership::Member;
use crate::proto::relay::relay_client::RelayClient;
use crate::proto::relay::relay_server::{Relay, RelayServer};
use crate::proto::relay::{RelayRegister, RemovedRequest, RemovedResponse, SessionsRequest, SessionsResponse};
use crate::proto::router::RegisterResponse;
use crate::raft::Node;
use crate::rpc::convert::{registration, status};

/// Most bytes of one message.
pub const RELAY_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sessions in one message: well within its limit with the longest ids and texts.
const SESSIONS_PER_MESSAGE: usize = 256;
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
        let request = request.into_inner();
        self.backend.node().admit(request.header.as_ref())?;
        let wire = request.request.ok_or_else(|| Status::invalid_argument("a relayed registration without content"))?;
        let registration = registration::from_wire(wire)?;
        // A controller that forwards counts itself: less than one hop is none.
        let hops = request.hops.max(1);
        let (registered, cluster) = self.backend.registrar().register_forwarded(registration, hops).await?;
        Ok(Response::new(registration::answer(registered, cluster)))
    }

    async fn sessions(&self, request: Request<SessionsRequest>) -> Result<Response<Self::SessionsStream>, Status> {
        let request = request.into_inner();
        self.backend.node().admit(request.header.as_ref())?;
        let pages = self.backend.session_pages(request.count_only, &request.only, SESSIONS_PER_MESSAGE);
        Ok(Response::new(Box::pin(futures::stream::iter(pages.into_iter().map(Ok)))))
    }

    async fn removed(&self, request: Request<RemovedRequest>) -> Result<Response<RemovedResponse>, Status> {
        let by = self.backend.node().admit(request.into_inner().header.as_ref())?;
        tracing::info!(%by, "hear that this controller was removed");
        self.backend.removed();
        Ok(Response::new(RemovedResponse {}))
    }
}

impl Backend {
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
        let request = SessionsRequest { header, count_only, only: only.to_owned() };
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

/// Tells a controller that it was removed. It is no member any more, so its last record says where it listens.
///
/// # Errors
/// Its status, or `Unavailable`.
pub(super) async fn tell_removed(node: &Node, member: &Member) -> Result<(), Status> {
    let mut last = unreachable(member.id, &"it has no address");
    for address in &member.peer {
        let header = Some(node.header_to(member));
        let tell = async { client(node.channel_at(address)).removed(RemovedRequest { header }).await };
        match tokio::time::timeout(TELL_WITHIN, tell).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => last = status,
            Err(_) => last = unreachable(member.id, &"no answer in time"),
        }
    }
    Err(last)
}
