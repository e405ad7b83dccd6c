//! How bytes travel: TLS with an identity, or plain text where the configuration asks for it. Everything that dials or
//! accepts goes through here, so that no part of the house can forget it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, OtherError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tonic::transport::server::Connected;

use super::certificate::read_leaf;
use super::material::Door;
use super::newcomer::Newcomer;
use super::store::Store;
use crate::domain::access::Caller;
use crate::domain::endpoint::{Endpoint, Scheme};
use crate::domain::principal::Principal;

/// How bytes travel.
#[derive(Debug, Clone)]
pub enum Security {
    /// Plain text (`tls.insecure`).
    Plain {
        /// Also to and from other hosts (`tls.insecure_off_loopback`).
        off_loopback: bool,
    },
    /// TLS 1.3, both sides verified.
    Tls(Store),
    /// TLS 1.3 without a certificate of one's own: to get one.
    Newcomer(Newcomer),
}

/// Plain text on this host: what tests and `tls.insecure` mean.
impl Default for Security {
    fn default() -> Self {
        Self::Plain { off_loopback: false }
    }
}

/// A connection to a controller.
#[derive(Debug)]
pub struct Dialed {
    /// The bytes.
    pub stream: Stream,
    /// Who answered; `None` over plain text.
    pub principal: Option<Principal>,
}

impl Security {
    /// Which scheme addresses have that are not written down anywhere.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Plain { .. } => Scheme::Plain,
            Self::Tls(_) | Self::Newcomer(_) => Scheme::Tls,
        }
    }

    /// The material in use, where there is any.
    #[must_use]
    pub const fn store(&self) -> Option<&Store> {
        match self {
            Self::Plain { .. } | Self::Newcomer(_) => None,
            Self::Tls(store) => Some(store),
        }
    }

    /// Connects to a controller and verifies it. Whoever calls sets the deadline.
    ///
    /// # Errors
    /// What went wrong, with what to do about it.
    pub async fn dial(&self, to: &Endpoint) -> io::Result<Dialed> {
        match (self, to.scheme()) {
            (Self::Plain { .. }, Scheme::Tls) => Err(unsupported(
                "https:// needs a certificate of one's own: set tls.certificate, tls.key and tls.ca_controllers",
            )),
            (Self::Tls(_) | Self::Newcomer(_), Scheme::Plain) => {
                Err(unsupported("http:// is plain text, which is refused here: write https://, or set tls.insecure"))
            }
            (Self::Plain { off_loopback }, Scheme::Plain) => {
                let stream = TcpStream::connect(to.authority()).await?;
                if !off_loopback && !is_loopback(stream.peer_addr()?.ip()) {
                    return Err(unsupported(
                        "plain text to another host is refused: use https://, or set tls.insecure_off_loopback",
                    ));
                }
                stream.set_nodelay(true)?;
                Ok(Dialed { stream: Stream::Plain(stream), principal: None })
            }
            (Self::Newcomer(newcomer), Scheme::Tls) => secured(newcomer.0.clone(), to).await,
            (Self::Tls(store), Scheme::Tls) => secured(store.current().client(), to).await,
        }
    }

    /// Connects to the HTTP port of a controller, where probes are answered, and verifies it. Whoever calls sets the deadline.
    ///
    /// # Errors
    /// What went wrong, with what to do about it.
    pub async fn dial_http(&self, to: &Endpoint) -> io::Result<Dialed> {
        match (self, to.scheme()) {
            (Self::Tls(store), Scheme::Tls) => secured(store.current().prober(), to).await,
            _ => self.dial(to).await,
        }
    }

    /// Takes a connection that came in through a door. Whoever calls sets the deadline.
    ///
    /// # Errors
    /// Why the other side is refused.
    pub async fn accept(&self, door: Door, stream: TcpStream) -> io::Result<(Stream, Caller)> {
        stream.set_nodelay(true)?;
        match self {
            Self::Plain { off_loopback } => {
                if !off_loopback && !is_loopback(stream.peer_addr()?.ip()) {
                    return Err(unsupported("plain text from another host is refused: set tls.insecure_off_loopback"));
                }
                Ok((Stream::Plain(stream), Caller::Plain))
            }
            Self::Newcomer(_) => Err(unsupported("nobody is served without a certificate")),
            Self::Tls(store) => {
                let config = store.current().server(door);
                let stream = TlsStream::from(TlsAcceptor::from(config).accept(stream).await.map_err(in_words)?);
                let caller = principal_of(&stream).map_or(Caller::Anonymous, Caller::Verified);
                Ok((Stream::Tls(Box::new(stream)), caller))
            }
        }
    }
}

async fn secured(config: Arc<ClientConfig>, to: &Endpoint) -> io::Result<Dialed> {
    let stream = TcpStream::connect(to.authority()).await?;
    stream.set_nodelay(true)?;
    let stream = TlsStream::from(TlsConnector::from(config).connect(server_name(to), stream).await.map_err(in_words)?);
    let principal = principal_of(&stream);
    Ok(Dialed { stream: Stream::Tls(Box::new(stream)), principal })
}

/// What a verifier of ours said, as it said it: rustls carries it along without words.
fn in_words(error: io::Error) -> io::Error {
    let ours = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ours)))) => ours.to_string(),
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the other side refused this one ({alert:?}): see its log")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), ours)
}

fn unsupported(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Only sent, never compared: identities are verified, not host names.
fn server_name(to: &Endpoint) -> ServerName<'static> {
    let host = to.host().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).unwrap_or(ServerName::IpAddress(IpAddr::from([0, 0, 0, 0]).into()))
}

/// Of the leaf whose signature the handshake checked.
fn principal_of(stream: &TlsStream<TcpStream>) -> Option<Principal> {
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates()?.first()?;
    read_leaf(leaf).ok().map(|leaf| leaf.principal)
}

/// A byte stream, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
