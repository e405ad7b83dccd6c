//! The doors: listeners that serve the router protocol and pass on what happens. They decide nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::lists::CLUSTER;
use crate::proto::router::register_response::Effect;
use crate::proto::router::router_control_server::{RouterControl, RouterControlServer};
use crate::proto::router::router_message::Kind as FromRouter;
use crate::proto::router::{
    ControllerMessage, Hello, ListUpdate, RegisterRequest, RegisterResponse, RouterMessage, WatchRequest,
};
use crate::tls::{self, Security};

/// Events that wait for the stage; a router that floods waits for them.
pub(super) const EVENTS_MAX: usize = 256;
/// Messages on their way to one router.
pub(super) const MESSAGES_MAX: usize = 64;
/// Most bytes of a message from a router.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A hello must come within this time.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Connections that are being made at once.
const HANDSHAKES_MAX: usize = 16;
/// Longest that one of them may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Streams of one connection at once.
const STREAMS_MAX: u32 = 16;

/// Which door a router came in through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The address that the router knows from its configuration.
    Seed,
    /// A second controller's.
    Second,
}

/// The way to a router. When it is dropped, the stream ends.
#[derive(Debug)]
pub(super) enum Line {
    Session(mpsc::Sender<Result<ControllerMessage, Status>>),
    Watch(mpsc::Sender<Result<ListUpdate, Status>>),
}

/// What happened at a door.
#[derive(Debug)]
pub(super) enum Event {
    /// A hello came, or a Watch was asked for.
    Opened { session: u64, door: Door, hello: Box<Hello>, line: Line },
    /// A router said something.
    Said { session: u64, kind: Box<FromRouter> },
    /// The router's side of a session is over.
    Ended { session: u64, how: String },
}

/// A listener that serves until it is dropped.
#[derive(Debug)]
pub(super) struct Doorway {
    pub(super) address: SocketAddr,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Drop for Doorway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Doorway {
    /// Begins to listen.
    pub(super) async fn open(
        at: SocketAddr,
        door: Door,
        security: Security,
        numbers: Arc<AtomicU64>,
        events: mpsc::Sender<Event>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let service = RouterControlServer::new(Service { door, numbers, events })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        let accept = move |connection: std::io::Result<TcpStream>| {
            let security = security.clone();
            async move {
                let accepted =
                    tokio::time::timeout(HANDSHAKE_MAX, security.accept(tls::Door::Router, connection?)).await;
                let accepted = accepted.map_err(std::io::Error::other)?;
                accepted.map(|(stream, _)| stream).inspect_err(|why| tracing::warn!("a connection failed: {why}"))
            }
        };
        let accepted =
            futures::StreamExt::buffer_unordered(TcpListenerStream::new(listener).map(accept), HANDSHAKES_MAX);
        // Whoever failed to connect comes again.
        let incoming = accepted.filter(|connection: &std::io::Result<_>| connection.is_ok());
        let server = tonic::transport::Server::builder().max_concurrent_streams(STREAMS_MAX).add_service(service);
        Ok(Self { address, serving: tokio::spawn(server.serve_with_incoming(incoming)) })
    }
}

struct Service {
    door: Door,
    numbers: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RouterControl for Service {
    type SessionStream = Outgoing<ControllerMessage>;
    type WatchStream = Outgoing<ListUpdate>;

    async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        Ok(Response::new(RegisterResponse { effect: Effect::Unchanged.into(), cluster_id: CLUSTER.to_vec() }))
    }

    async fn session(
        &self,
        request: Request<Streaming<RouterMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        let session = self.numbers.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(listen(session, self.door, request.into_inner(), outgoing, self.events.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        let session = self.numbers.fetch_add(1, Ordering::Relaxed);
        let hello = Box::new(Hello { router_id: request.into_inner().router_id, ..Hello::default() });
        let (events, closed) = (self.events.clone(), outgoing.clone());
        let line = Line::Watch(outgoing);
        let opened = Event::Opened { session, door: self.door, hello, line };
        events.send(opened).await.map_err(|_| Status::unavailable("it is over"))?;
        tokio::spawn(ended_by_the_router(session, closed.downgrade(), events));
        drop(closed);
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// Nothing is heard of somebody who watches but the end. The sender must not be kept, since it is the stage's to drop.
async fn ended_by_the_router(
    session: u64,
    line: mpsc::WeakSender<Result<ListUpdate, Status>>,
    events: mpsc::Sender<Event>,
) {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    while line.upgrade().is_some_and(|line| !line.is_closed()) {
        looks.tick().await;
    }
    let _ = events.send(Event::Ended { session, how: "it ended the stream".to_owned() }).await;
}

/// Passes on what a router says, from its hello to its end.
async fn listen(
    session: u64,
    door: Door,
    mut incoming: Streaming<RouterMessage>,
    outgoing: mpsc::Sender<Result<ControllerMessage, Status>>,
    events: mpsc::Sender<Event>,
) {
    let hello = match tokio::time::timeout(HELLO_MAX, incoming.message()).await {
        Ok(Ok(Some(RouterMessage { kind: Some(FromRouter::Hello(hello)) }))) => Box::new(hello),
        _ => {
            let _ = outgoing.send(Err(Status::invalid_argument("send Hello first"))).await;
            return;
        }
    };
    if events.send(Event::Opened { session, door, hello, line: Line::Session(outgoing) }).await.is_err() {
        return;
    }
    let how = loop {
        match incoming.message().await {
            Ok(Some(RouterMessage { kind: Some(kind) })) => {
                if events.send(Event::Said { session, kind: Box::new(kind) }).await.is_err() {
                    return;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break "it ended the stream".to_owned(),
            Err(status) => break format!("the stream broke ({:?})", status.code()),
        }
    };
    let _ = events.send(Event::Ended { session, how }).await;
}
