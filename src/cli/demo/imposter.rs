//! A controller that went bad, made by hand: it greets routers as a member of their cluster and offers them an empty
//! list that claims to be newer than any other, in sessions as protocol 2 and to whoever watches as protocol 1. This is
//! the incident that the product answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use futures::Stream;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::proto::router::router_control_server::{RouterControl, RouterControlServer};
use crate::proto::router::{
    ControllerList, ControllerMessage, FlatList, ListUpdate, ListVersion, RegisterRequest, RegisterResponse,
    RouterMessage, WatchRequest, Welcome, controller_message, router_message,
};
use crate::rpc::list_codec;
use crate::tls::{Door, Security};

/// Answers that are kept until they are read.
const ANSWERS_MAX: usize = 64;
/// Messages on their way to one router.
const MESSAGES_MAX: usize = 4;
/// Connections that are being made at once.
const HANDSHAKES_MAX: usize = 16;
/// Longest that one of them may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// The protocol whose lists are flat.
const FLAT: u32 = 1;
/// The protocol whose lists are structured.
const STRUCTURED: u32 = 2;
/// How often the imposter says that both sides send heartbeats.
const HEARTBEAT_MS: u32 = 1_000;

/// Whom the imposter claims to be.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) controller_id: u64,
    pub(crate) cluster_id: Vec<u8>,
    pub(crate) epoch: u32,
}

/// An answer to the empty list: the reason of a NACK, or "ack".
pub(crate) type Answer = String;

/// A server that offers an empty list to whoever comes.
#[derive(Debug)]
pub(crate) struct Imposter {
    /// What routers answered.
    pub(crate) answers: mpsc::Receiver<Answer>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Imposter {
    /// Takes the port of a controller that is gone.
    pub(crate) async fn start(port: u16, claim: Claim, security: Security) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        Ok(Self::serve(listener, claim, security))
    }

    fn serve(listener: TcpListener, claim: Claim, security: Security) -> Self {
        let (answered, answers) = mpsc::channel(ANSWERS_MAX);
        let service = RouterControlServer::new(EmptyList { claim, answered });
        let serving = tonic::transport::Server::builder().add_service(service);
        let accept = move |connection: std::io::Result<TcpStream>| {
            let security = security.clone();
            async move {
                let accepted = tokio::time::timeout(HANDSHAKE_DEADLINE, security.accept(Door::Router, connection?));
                Ok(accepted.await.map_err(std::io::Error::other)??.0)
            }
        };
        let accepted =
            futures::StreamExt::buffer_unordered(TcpListenerStream::new(listener).map(accept), HANDSHAKES_MAX);
        // Whoever failed to connect comes again.
        let incoming = accepted.filter(|connection: &std::io::Result<_>| connection.is_ok());
        let server = tokio::spawn(serving.serve_with_incoming(incoming));
        Self { answers, server }
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct EmptyList {
    claim: Claim,
    answered: mpsc::Sender<Answer>,
}

impl Claim {
    /// The index of the empty list, as protocol 1 writes it: that of its epoch and above every other.
    pub(crate) fn flat_index(&self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(u32::MAX)
    }
}

impl EmptyList {
    fn flat(&self) -> ListUpdate {
        let list = FlatList { addresses: Vec::new(), index: self.claim.flat_index() };
        sealed(FLAT, list.encode_to_vec())
    }

    fn structured(&self) -> [controller_message::Kind; 2] {
        let Claim { controller_id, cluster_id, epoch } = self.claim.clone();
        let list = ControllerList {
            domain_tag: "pilothouse.list.2".to_owned(),
            cluster_id: cluster_id.clone(),
            version: Some(ListVersion { epoch, index: u64::from(u32::MAX) }),
            term: u64::from(u32::MAX),
            digest_scheme: 1,
            ..ControllerList::default()
        };
        [
            controller_message::Kind::Welcome(Welcome {
                protocol: STRUCTURED,
                cluster_id,
                controller_id,
                leader_hint: controller_id,
                heartbeat_ms: HEARTBEAT_MS,
                ..Welcome::default()
            }),
            controller_message::Kind::Update(sealed(STRUCTURED, list.encode_to_vec())),
        ]
    }
}

/// A list with its digest: nothing is wrong with it but what it says.
fn sealed(protocol: u32, list: Vec<u8>) -> ListUpdate {
    let digest = Some(list_codec::digest(&list).into());
    ListUpdate { nonce: 1, protocol, list: list.into(), digest, ..ListUpdate::default() }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RouterControl for EmptyList {
    type SessionStream = Outgoing<ControllerMessage>;
    type WatchStream = Outgoing<ListUpdate>;

    async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        Err(Status::unavailable("the leader is elsewhere"))
    }

    async fn session(
        &self,
        request: Request<Streaming<RouterMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        for kind in self.structured() {
            let _ = outgoing.try_send(Ok(ControllerMessage { kind: Some(kind) }));
        }
        let answered = self.answered.clone();
        tokio::spawn(async move {
            // The session stays open for as long as the router wants it.
            let _open = outgoing;
            while let Some(Ok(message)) = incoming.next().await {
                let answer = match message.kind {
                    Some(router_message::Kind::Nack(nack)) => nack.reason,
                    Some(router_message::Kind::Ack(_)) => "ack".to_owned(),
                    _ => continue,
                };
                if answered.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // Nothing follows, and the stream stays open.
        let list = futures::stream::iter([Ok(self.flat())]).chain(futures::stream::pending());
        Ok(Response::new(Box::pin(list)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::credentials;
    use crate::cli::demo::layout::{Layout, Unit};
    use crate::cli::demo::prober::channel;
    use crate::domain::acceptance::{Held, Offerer, Refusal, Verdict, decide};
    use crate::domain::controller_list::Defect;
    use crate::proto::router::Nack;
    use crate::proto::router::router_control_client::RouterControlClient;

    #[tokio::test]
    async fn what_the_imposter_offers_is_an_empty_list_and_nothing_else_is_wrong_with_it() {
        for secure in [false, true] {
            offers_an_empty_list(secure).await;
        }
    }

    async fn offers_an_empty_list(secure: bool) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout { folder: folder.path().to_owned(), base_port: 20_000, controllers: 3, routers: 1, secure };
        credentials::prepare(&layout).unwrap();
        credentials::of_unit(&layout, Unit::Controller(3)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = layout.endpoint(listener.local_addr().unwrap().port());
        let claim = Claim { controller_id: 3, cluster_id: vec![7; 16], epoch: 1 };
        let mut imposter = Imposter::serve(listener, claim, credentials::as_controller(&layout, 3).unwrap());
        let router = credentials::of_router(&layout, "router-1").unwrap();
        if secure {
            // A router believes that it speaks to the controller of that id: what it then refuses, it refuses itself.
            let answered = router.dial(&endpoint).await.unwrap().principal.unwrap();
            assert_eq!(answered.to_string(), "spiffe://demo.pilothouse/controller/3");
        }
        let mut client = RouterControlClient::new(channel(endpoint, router));
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        let mut session = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let welcome = session.message().await.unwrap().unwrap().kind;
        assert!(matches!(welcome, Some(controller_message::Kind::Welcome(welcome)) if welcome.controller_id == 3));
        let Some(controller_message::Kind::Update(update)) = session.message().await.unwrap().unwrap().kind else {
            panic!("no update")
        };
        let empty = |update: &ListUpdate| {
            let verdict = decide(&Held::default(), &list_codec::offer(update, Offerer::Unidentified));
            assert!(matches!(verdict, Verdict::Refuse(Refusal::Defective(Defect::Empty))), "{verdict:?}");
        };
        empty(&update);
        let request = WatchRequest { router_id: "router-1".to_owned(), ..WatchRequest::default() };
        let watched = client.watch(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
        empty(&watched);
        assert_eq!(FlatList::decode(&*watched.list).unwrap().index, 2 * (1 << 32) - 1);

        let nack = Nack { nonce: update.nonce, reason: "empty".to_owned(), ..Nack::default() };
        outgoing.send(RouterMessage { kind: Some(router_message::Kind::Nack(nack)) }).await.unwrap();
        assert_eq!(imposter.answers.recv().await.unwrap(), "empty");
    }
}
