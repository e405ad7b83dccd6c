//! The network between the controllers of a test: real TCP, with connections that can be cut and healed, and that are
//! counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use pilothouse::domain::endpoint::Endpoint;
use pilothouse::domain::ids::ControllerId;
use pilothouse::raft::network::dial::{Dial, Dialing, Io, Tcp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Shared by all controllers of a test. A controller is known by its peer port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cut: BTreeSet<u16>,
    open: BTreeMap<u16, Vec<CancellationToken>>,
    /// The next connection to this port that has carried so many bytes is cut, once.
    scissors: BTreeMap<u16, u64>,
    /// To which hosts one port has dialled another, whether it led to a connection or not.
    dials: BTreeMap<(u16, u16), Vec<String>>,
}

impl Network {
    /// How the controller at this peer port dials.
    pub(crate) fn dialer(&self, from: u16) -> Arc<dyn Dial> {
        Arc::new(Dialer { over: Arc::new(Tcp), network: self.clone(), from })
    }

    /// Nothing reaches this controller from its peers any more, nor the other way.
    pub(crate) fn cut(&self, port: u16) {
        let mut state = self.state();
        state.cut.insert(port);
        state.open.remove(&port).unwrap_or_default().iter().for_each(CancellationToken::cancel);
    }

    /// As before.
    pub(crate) fn heal(&self, port: u16) {
        self.state().cut.remove(&port);
    }

    /// Cuts the next connection to this port that has carried more than so many bytes. Once: the one after it holds.
    pub(crate) fn cut_after(&self, port: u16, bytes: u64) {
        self.state().scissors.insert(port, bytes);
    }

    /// Whether [`Self::cut_after`] is still to happen.
    pub(crate) fn will_cut(&self, port: u16) -> bool {
        self.state().scissors.contains_key(&port)
    }

    /// How often the controller at one peer port has dialled another.
    pub(crate) fn dials(&self, from: u16, to: u16) -> usize {
        self.hosts(from, to).len()
    }

    /// Under which host names or addresses it did.
    pub(crate) fn hosts(&self, from: u16, to: u16) -> Vec<String> {
        self.state().dials.get(&(from, to)).cloned().unwrap_or_default()
    }

    /// Counts from here on.
    pub(crate) fn forget_dials(&self) {
        self.state().dials.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[derive(Debug)]
struct Dialer {
    over: Arc<dyn Dial>,
    network: Network,
    from: u16,
}

impl Dial for Dialer {
    fn dial(&self, to: &Endpoint, whom: Option<ControllerId>) -> Dialing {
        let (over, network, from, to) = (self.over.clone(), self.network.clone(), self.from, to.clone());
        Box::pin(async move {
            let handle = CancellationToken::new();
            {
                let mut state = network.state();
                state.dials.entry((from, to.port())).or_default().push(to.host().to_string());
                if state.cut.contains(&from) || state.cut.contains(&to.port()) {
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "cut by the test"));
                }
                for port in [from, to.port()] {
                    state.open.entry(port).or_default().push(handle.clone());
                }
            }
            let inner = over.dial(&to, whom).await?;
            let cut = Box::pin(handle.cancelled_owned());
            Ok(Box::new(Wire { inner, cut, network, to: to.port(), carried: 0 }) as Box<dyn Io>)
        })
    }
}

/// A connection that fails once it is cut.
struct Wire {
    inner: Box<dyn Io>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    network: Network,
    to: u16,
    carried: u64,
}

impl Wire {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut by the test")),
            Poll::Pending => Ok(()),
        }
    }

    fn carry(&mut self, bytes: usize) -> io::Result<()> {
        self.carried += bytes as u64;
        let mut state = self.network.state();
        if state.scissors.get(&self.to).is_some_and(|limit| self.carried > *limit) {
            state.scissors.remove(&self.to);
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut by the test after so many bytes"));
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            self.carry(bytes)?;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
