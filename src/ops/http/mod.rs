//! The HTTP side of a process: `/livez`, `/readyz`, `/metrics`, and the routes that its owner adds.
//!
//! `surface` says what is served, this file how: connections are capped, and nobody can hold one without sending.
//! It knows nothing of controllers or routers.

mod surface;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use surface::Surface;

/// Most connections at a time; further ones wait in the listener's backlog. Probes and scrapers need a handful.
pub const CONNECTIONS_MAX: usize = 128;
/// Largest request body. No request of ours needs more.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// A request's header must arrive whole within this time; a connection that is idle for longer is closed.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(10);
/// A request must be answered within this time, its body read included.
pub const REQUEST_MAX: Duration = Duration::from_secs(10);
/// A connection is closed after this time, whatever it does: the bound for peers that never read their answer.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// Requests in flight get this long at a stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Pause after a failed accept, such as no free file descriptor, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Largest read buffer of a connection, and so the largest request header.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The bytes of a connection.
pub trait Bytes: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Bytes for T {}
/// Connections as they come in.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Box<dyn Bytes>>> + Send>>;

/// Connections to a TCP port, in plain text.
#[must_use]
pub fn tcp(listener: TcpListener) -> Incoming {
    Box::pin(TcpListenerStream::new(listener).map(|stream| stream.map(|stream| Box::new(stream) as Box<dyn Bytes>)))
}

/// Connections to a local socket.
#[must_use]
pub fn unix(listener: UnixListener) -> Incoming {
    Box::pin(UnixListenerStream::new(listener).map(|stream| stream.map(|stream| Box::new(stream) as Box<dyn Bytes>)))
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    header_read: Duration,
    request: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { header_read: HEADER_READ_MAX, request: REQUEST_MAX }
    }
}

/// Serves until `shutdown`, then gives requests in flight [`DRAIN_MAX`].
pub async fn serve<S: Bytes>(
    incoming: impl Stream<Item = io::Result<S>> + Send,
    surface: Surface,
    shutdown: impl Future<Output = ()>,
) {
    let server = Server::new(surface, Patience::default());
    {
        let incoming = std::pin::pin!(incoming);
        tokio::select! {
            () = server.accept(incoming) => {}
            () = shutdown => {}
        }
    }
    server.stop.cancel();
    server.connections.close();
    if tokio::time::timeout(DRAIN_MAX, server.connections.wait()).await.is_err() {
        tracing::debug!(open = server.connections.len(), "left HTTP connections open at the end of the drain");
    }
}

struct Server {
    app: axum::Router,
    patience: Patience,
    seats: Arc<Semaphore>,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    fn new(surface: Surface, patience: Patience) -> Self {
        Self {
            app: surface.into_router(patience.request),
            patience,
            seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
        }
    }

    /// As long as connections come: an accept that fails is tried again.
    async fn accept<S: Bytes>(&self, mut incoming: Pin<&mut impl Stream<Item = io::Result<S>>>) {
        loop {
            let seat = self.seats.clone().acquire_owned().await.expect("the semaphore is never closed");
            match incoming.next().await {
                Some(Ok(stream)) => self.spawn(stream, seat),
                Some(Err(error)) => {
                    tracing::warn!(%error, "could not accept an HTTP connection; will try again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }

    fn spawn(&self, stream: impl Bytes, seat: OwnedSemaphorePermit) {
        let (app, stop, patience) = (self.app.clone(), self.stop.clone(), self.patience);
        self.connections.spawn(async move {
            let _seat = seat;
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(patience.header_read)
                .max_buf_size(HEADER_BYTES_MAX);
            let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = tokio::time::sleep(CONNECTION_AGE_MAX) => return,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error = %error, "an HTTP connection ended early");
            }
        });
    }
}

#[cfg(test)]
mod tests;
