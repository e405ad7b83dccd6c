//! The peer port: one HTTP/2 server for Raft and whatever else controllers say to each other, with every limit set.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::PEER_MESSAGE_BYTES_MAX;
use super::dial::{Io, KEEPALIVE_ANSWER_MS_MAX, KEEPALIVE_MS};
use super::service::PeerService;
use crate::domain::access::Caller;
use crate::proto::peer::raft_peer_server::RaftPeerServer;

/// Most connections to the peer port: a full cluster makes five for each member.
const CONNECTIONS_MAX: usize = 512;
/// Most calls under way on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 64;
/// A connection that says nothing for this long after it was opened is closed.
const FIRST_WORD_MS_MAX: u64 = 5_000;
/// How much of a stream may be under way before it is read: an append message or a few chunks of a snapshot.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The same for a whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Largest head of a request.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a peer may open and reset before they are accepted.
const PENDING_RESETS_MAX: usize = 32;

/// The service with its limits.
pub(in crate::raft) fn service(service: PeerService) -> RaftPeerServer<PeerService> {
    RaftPeerServer::new(service)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

/// Serves until `stop`.
pub(in crate::raft) async fn serve<S: Io>(
    incoming: impl Stream<Item = io::Result<(S, Caller)>> + Send + 'static,
    routes: Routes,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let admitted = incoming.filter_map(move |stream| {
        let place = Arc::clone(&places).try_acquire_owned();
        std::future::ready(match (stream, place) {
            (Ok((stream, caller)), Ok(place)) => Some(Ok::<_, io::Error>(Connection::new(stream, caller, place))),
            (Ok(_), Err(_)) => {
                tracing::warn!(limit = CONNECTIONS_MAX, "closed a connection: too many to the peer port");
                None
            }
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a connection to the peer port");
                None
            }
        })
    });
    Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX as usize)
        .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(KEEPALIVE_ANSWER_MS_MAX)))
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_routes(routes)
        .serve_with_incoming_shutdown(admitted, stop)
        .await
}

/// A connection that holds its place among [`CONNECTIONS_MAX`], and has to say something soon.
struct Connection<S> {
    stream: S,
    caller: Caller,
    first_word: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    fn new(stream: S, caller: Caller, place: OwnedSemaphorePermit) -> Self {
        let patience = tokio::time::sleep(Duration::from_millis(FIRST_WORD_MS_MAX));
        Self { stream, caller, first_word: Some(Box::pin(patience)), _place: place }
    }
}

impl<S: Io> Connected for Connection<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: Io> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.first_word = None;
        } else if let Some(patience) = &mut self.first_word
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: Io> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
