//! How a connection to another controller is made. It does not know Raft, nor who is who.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Uri};

use crate::domain::endpoint::{Endpoint, Scheme};
use crate::domain::ids::ControllerId;

/// Longest time for one address.
pub const DIAL_MS_MAX: u64 = 1_000;
/// HTTP/2 ping after this much silence, idle connections included: finds a peer that vanished without a word.
pub const KEEPALIVE_MS: u64 = 2_000;
/// A ping without an answer for this long ends the connection.
pub const KEEPALIVE_ANSWER_MS_MAX: u64 = 2_000;

/// A byte stream between two controllers.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection under way.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Makes connections.
pub trait Dial: std::fmt::Debug + Send + Sync + 'static {
    /// Connects to one address, where this controller has to answer; `None`: any controller. Where both sides are
    /// verified, another one is an error.
    fn dial(&self, to: &Endpoint, whom: Option<ControllerId>) -> Dialing;
}

/// Plain TCP: nobody is verified.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, to: &Endpoint, _: Option<ControllerId>) -> Dialing {
        let (scheme, authority) = (to.scheme(), to.authority());
        Box::pin(async move {
            if scheme == Scheme::Tls {
                let reason = "https:// needs a certificate, and this controller has none";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Where the addresses of one member come from, asked anew at each connect: membership may have changed meanwhile.
pub type Addresses = Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>;

/// A channel that connects when it is first used, and again whenever the connection is lost; each time to the first
/// address that answers.
pub fn channel(dialer: Arc<dyn Dial>, whom: Option<ControllerId>, addresses: Addresses) -> Channel {
    // The connector ignores this address: it only gives requests an authority.
    tonic::transport::Endpoint::from_static("http://peer.pilothouse.invalid")
        .http2_keep_alive_interval(Duration::from_millis(KEEPALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(KEEPALIVE_ANSWER_MS_MAX))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_with_connector_lazy(Connector { dialer, whom, addresses })
}

#[derive(Clone)]
struct Connector {
    dialer: Arc<dyn Dial>,
    whom: Option<ControllerId>,
    addresses: Addresses,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { dialer, whom, addresses } = self.clone();
        Box::pin(async move { first_that_answers(&*dialer, whom, &addresses()).await.map(TokioIo::new) })
    }
}

async fn first_that_answers(
    dialer: &dyn Dial,
    whom: Option<ControllerId>,
    addresses: &[Endpoint],
) -> io::Result<Box<dyn Io>> {
    let mut failures = Vec::new();
    for address in addresses {
        match tokio::time::timeout(Duration::from_millis(DIAL_MS_MAX), dialer.dial(address, whom)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(reason)) => failures.push(format!("{address}: {reason}")),
            Err(_) => failures.push(format!("{address}: no answer within {DIAL_MS_MAX} ms")),
        }
    }
    if failures.is_empty() {
        failures.push("no address is known".to_owned());
    }
    Err(io::Error::new(io::ErrorKind::NotConnected, failures.join("; ")))
}
