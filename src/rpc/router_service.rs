//! The router protocol's service: `Register`, `Session`, `Watch`. It checks what comes in and speaks the dialect; who
//! registers, who leads and which list is published it asks its [`ControlPlane`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::control_plane::{ControlPlane, NotServing, Seat};
use super::convert::registration;
use super::guard::{caller, not_his};
use super::router_session;
use super::session::Farewell;
use crate::domain::ids::RouterId;
use crate::domain::negotiation::{Dialect, ProtocolVersion, negotiate};
use crate::domain::principal::Role;
use crate::proto::router::router_control_server::{RouterControl, RouterControlServer};
use crate::proto::router::{
    ControllerMessage, ListUpdate, RegisterRequest, RegisterResponse, RouterMessage, WatchRequest,
};

/// Most bytes of one message, either way.
pub const ROUTER_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Most streams of one router connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Messages that wait for a slow reader: list and heartbeat. The list itself waits in the latest-wins slot.
pub(super) const OUTGOING_MESSAGES_MAX: usize = 2;

/// How long things may take, and how often they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A session's first message must have come by then.
    pub hello: Duration,
    /// How often both sides send a heartbeat.
    pub heartbeat: Duration,
    /// A reader that takes nothing for this long is gone.
    pub send: Duration,
    /// A list that a router refused is offered again after this long.
    pub offer_again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(5),
            heartbeat: Duration::from_secs(1),
            send: Duration::from_secs(10),
            offer_again: Duration::from_secs(30),
        }
    }
}

/// The service.
#[derive(Debug)]
pub struct RouterService<P> {
    plane: Arc<P>,
    pace: Pace,
}

impl<P: ControlPlane> RouterService<P> {
    /// The service, with its limits, in front of a control plane.
    pub fn server(plane: Arc<P>, pace: Pace) -> RouterControlServer<Self> {
        RouterControlServer::new(Self { plane, pace })
            .max_decoding_message_size(ROUTER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(ROUTER_MESSAGE_BYTES_MAX)
    }
}

#[async_trait]
impl<P: ControlPlane> RouterControl for RouterService<P> {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;
    type WatchStream = ReceiverStream<Result<ListUpdate, Status>>;

    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let caller = caller(request.extensions());
        let registration = registration::from_wire(request.into_inner())?;
        if !caller.may_speak_for_router(&registration.router) {
            return Err(not_his(&caller, &format!("router {}", registration.router)));
        }
        let (registered, cluster) = self.plane.register(registration).await?;
        Ok(Response::new(registration::answer(registered, cluster)))
    }

    async fn session(
        &self,
        request: Request<Streaming<RouterMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (to_router, outgoing) = mpsc::channel(OUTGOING_MESSAGES_MAX);
        let caller = caller(request.extensions());
        let session = router_session::run(self.plane.clone(), self.pace, (caller, request.into_inner()), to_router);
        self.plane.spawn("router session", Box::pin(session));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(request.extensions());
        let request = request.into_inner();
        let router = match request.router_id.as_str() {
            "" => None,
            id => Some(RouterId::new(id).map_err(super::convert::InvalidRequest::from)?),
        };
        if let Some(router) = router.as_ref().filter(|router| !caller.may_speak_for_router(router)) {
            return Err(not_his(&caller, &format!("router {router}")));
        }
        let protocols = registration::protocols(request.protocol_min, request.protocol_max)?;
        let theirs = Dialect { protocols, capabilities: Default::default(), needs: Default::default() };
        let standing = self.plane.standing()?;
        let agreed = negotiate(&standing.dialect, &theirs)?;
        // A seat is taken by whoever shows a certificate, whether or not it says so.
        let shown = match caller.role() {
            Some(Role::Router(shown)) => Some(shown.clone()),
            _ => None,
        };
        let router = router.or(shown);
        let seat = self.plane.seat_watcher(router.as_ref())?;
        let plane = self.plane.clone();
        let banned = async move {
            match router {
                Some(router) => plane.banned(&router).await,
                None => std::future::pending().await,
            }
        };
        let (to_router, outgoing) = mpsc::channel(OUTGOING_MESSAGES_MAX);
        self.plane.spawn("router watch", Box::pin(watch(seat, agreed.protocol, self.pace.send, banned, to_router)));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// Sends the list and every later one, until the reader or the controller is gone.
async fn watch(
    mut seat: Seat,
    protocol: ProtocolVersion,
    patience: Duration,
    banned: impl Future<Output = ()>,
    to_router: mpsc::Sender<Result<ListUpdate, Status>>,
) {
    let mut banned = std::pin::pin!(banned);
    for nonce in 1.. {
        let update = seat.lists.borrow_and_update().as_ref().map(|list| list.encoding(protocol).update(nonce));
        if let Some(update) = update
            && to_router.send_timeout(Ok(update), patience).await.is_err()
        {
            return;
        }
        tokio::select! {
            changed = seat.lists.changed() => if changed.is_err() { return },
            () = to_router.closed() => return,
            () = &mut banned => return watch_over(&to_router, Farewell::Banned),
            farewell = router_session::closing(&mut seat.closing) => return watch_over(&to_router, farewell),
        }
    }
}

/// Whoever does not read this sees the stream end all the same.
fn watch_over(to_router: &mpsc::Sender<Result<ListUpdate, Status>>, farewell: Farewell) {
    let why = match farewell {
        Farewell::NotMember => NotServing::NotMember.into(),
        Farewell::Banned => NotServing::Banned.into(),
        Farewell::Draining { .. } | Farewell::Superseded => NotServing::Draining.into(),
    };
    let _ = to_router.try_send(Err(why));
}
