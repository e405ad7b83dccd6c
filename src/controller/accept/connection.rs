//! One open connection as a byte stream that ends when its time or its bytes are used up, or its handle says so.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::open::Entry;
use super::{Anonymous, Limits};
use crate::domain::access::Caller;
use crate::rpc::visits::{ANONYMOUS_CALLS, CALLS_PER_CONNECTION, Visitor, Visits};

/// One open connection.
#[derive(Debug)]
pub struct Connection<Io> {
    io: Io,
    caller: Caller,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the first bytes.
    silent: Option<Pin<Box<Sleep>>>,
    /// What is left of an anonymous one.
    allowance: Option<Allowance>,
    /// While the other side takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    entry: Entry,
}

#[derive(Debug)]
struct Allowance {
    end: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<Io> Connection<Io> {
    pub(super) fn new(io: Io, caller: Caller, entry: Entry, limits: &Limits) -> Self {
        entry.identify(&caller);
        let allow = |limits: Anonymous| Allowance { end: Box::pin(sleep(limits.age)), bytes: limits.bytes };
        Self {
            io,
            closed: Box::pin(entry.closed().cancelled_owned()),
            silent: Some(Box::pin(sleep(limits.first_bytes))),
            allowance: limits.anonymous.filter(|_| caller == Caller::Anonymous).map(allow),
            stuck: None,
            patience: limits.taken,
            caller,
            entry,
        }
    }

    /// Who is on the other side.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Why it ends, if so. Asked for by reads and by writes: an HTTP/2 server that cannot write does not read.
    fn over(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Some(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by its handle"));
        }
        let allowance = self.allowance.as_mut()?;
        if allowance.end.as_mut().poll(cx).is_ready() || allowance.bytes == 0 {
            let reason = "used up what a connection without a certificate gets";
            return Some(io::Error::new(io::ErrorKind::ConnectionAborted, reason));
        }
        None
    }

    /// A write that moves nothing for too long is the last one.
    fn moved<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        if stuck.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing")));
        }
        Poll::Pending
    }
}

/// Every request of the connection carries its caller, and is counted.
impl<Io> Connected for Connection<Io> {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        let closes = self.entry.closed();
        let calls = if self.allowance.is_some() { ANONYMOUS_CALLS } else { CALLS_PER_CONNECTION };
        Visitor { caller: self.caller.clone(), visits: Arc::new(Visits::new(calls, move || closes.cancel())) }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Connection<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(over) = self.over(cx) {
            return Poll::Ready(Err(over));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            if self.silent.take().is_some() {
                self.entry.spoke();
            }
            if let Some(allowance) = &mut self.allowance {
                allowance.bytes = allowance.bytes.saturating_sub(bytes);
            }
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(over) = self.over(cx) {
            return Poll::Ready(Err(over));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.moved(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(over) = self.over(cx) {
            return Poll::Ready(Err(over));
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.moved(cx, flushed)
    }

    /// A farewell of TLS is written too, which whoever takes nothing would hold up.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.over(cx).is_some() {
            return Poll::Ready(Ok(()));
        }
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.moved(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(over) = self.over(cx) {
            return Poll::Ready(Err(over));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.moved(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
