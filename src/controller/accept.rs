//! Connections: each is counted against a limit, must say something soon, and has a handle by which it can be closed:
//! all of them, or those of one identity.
//!
//! The byte stream is any stream: TCP, a unix socket, one that a test made. Whoever verifies the other side attaches
//! its identity; how it is verified is not known here.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// A connection that has not said anything by then is closed: a port scanner may not hold a place.
pub const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept, such as no free file descriptor, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open connections of one listener. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    places: Arc<Semaphore>,
    patience: Duration,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: AtomicU64,
    handles: Mutex<BTreeMap<u64, Handle>>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Handle {
    close: CancellationToken,
    identity: Option<Identity>,
}

/// Who is on the other side of a connection, as it was verified: a name such as the URI of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Arc<str>);

impl Identity {
    /// From its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl Connections {
    /// None open, and at most this many at a time; further ones wait in the listener's backlog.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections_max));
        Self { places, patience: FIRST_BYTES_WITHIN, open: Arc::default() }
    }

    /// Closes every open connection.
    pub fn close_all(&self) {
        self.open.lock().values().for_each(|handle| handle.close.cancel());
    }

    /// Closes every connection of an identity, and no other. How many there were.
    pub fn close(&self, identity: &Identity) -> usize {
        let handles = self.open.lock();
        let theirs = handles.values().filter(|handle| handle.identity.as_ref() == Some(identity));
        theirs.inspect(|handle| handle.close.cancel()).count()
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Connections as they are accepted. An accept that fails is tried again.
    pub fn incoming<L: Listen>(&self, listener: L) -> impl Stream<Item = io::Result<Connection<L::Io>>> + use<L> {
        let connections = self.clone();
        futures::stream::unfold((listener, connections), |(listener, connections)| async move {
            let place = connections.places.clone().acquire_owned().await.expect("the semaphore is never closed");
            loop {
                match listener.accept_one().await {
                    Ok(io) => return Some((Ok(connections.admit(io, place)), (listener, connections))),
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection; will try again");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }

    fn admit<Io>(&self, io: Io, place: OwnedSemaphorePermit) -> Connection<Io> {
        let number = self.open.next.fetch_add(1, Ordering::Relaxed);
        let close = CancellationToken::new();
        let closed = Box::pin(close.clone().cancelled_owned());
        self.open.lock().insert(number, Handle { close, identity: None });
        let entry = Entry { open: self.open.clone(), number, _place: place };
        Connection { io, closed, silent: Some(Box::pin(sleep(self.patience))), entry }
    }
}

/// Somewhere connections come from.
pub trait Listen: Send + 'static {
    /// The byte stream of one.
    type Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;

    /// The next one.
    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listen for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept_one(&self) -> io::Result<Self::Io> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Listen for UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept_one(&self) -> io::Result<Self::Io> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Connection<Io> {
    io: Io,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    silent: Option<Pin<Box<Sleep>>>,
    entry: Entry,
}

impl<Io> Connection<Io> {
    /// From now on the connection is known to be this one's.
    pub fn identify(&self, identity: Identity) {
        if let Some(handle) = self.entry.open.lock().get_mut(&self.entry.number) {
            handle.identity = Some(identity);
        }
    }
}

/// A connection's line among the open ones, struck out when it is dropped.
#[derive(Debug)]
struct Entry {
    open: Arc<Open>,
    number: u64,
    _place: OwnedSemaphorePermit,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().remove(&self.number);
    }
}

impl<Io: Connected> Connected for Connection<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Connection<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by its handle")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.silent = None;
        }
        if let (Poll::Pending, Some(silent)) = (&read, &mut self.silent)
            && silent.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came on a new connection")));
        }
        read
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Connection<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
