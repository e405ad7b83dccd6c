//! Connections: each is counted against a limit, must become somebody and say something soon, and has a handle by which
//! it can be closed: all of them, or those of one identity.
//!
//! Who is on the other side is found out by a [`Gate`]; what becomes of the bytes, by whoever takes the connections.
//!
//! | module | what it is |
//! |---|---|
//! | `open` | the open connections, and which of them has to make room |
//! | `connection` | one of them, as a byte stream |
//!
//! A flood of connections that say nothing closes the oldest of themselves, never one that did say something: whoever
//! means it needs a few milliseconds, and a flood has to renew itself faster than that to keep anybody out.

mod connection;
mod open;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use self::connection::Connection;
use self::open::{Entry, Open};
use crate::domain::access::Caller;
use crate::domain::pace::Rate;
use crate::domain::principal::Role;
use crate::ops::Seldom;
use crate::tls::{self, Door, Security};

/// A connection that has not said anything by then is closed: a port scanner may not hold a place.
pub const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);
/// Somebody who takes nothing of what is written to it for this long is gone.
pub const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// A TLS handshake must be done by then.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Most connections of one port that have said nothing yet, handshakes included; the oldest is closed for a further one.
pub const SILENT_CONNECTIONS_MAX: usize = 512;
/// Most connections of one identity to one port; the oldest is closed for a further one.
pub const CONNECTIONS_PER_IDENTITY_MAX: usize = 32;
/// How often a router may connect: 16 times at once, then 4 times a second.
pub const CONNECTIONS_PER_ROUTER: Rate = Rate { burst: 16, every_ms: 250 };
/// Most identities whose connections are remembered: twice as many as have sessions here.
pub const PACED_IDENTITIES_MAX: usize = 32_000;
/// A connection that came too soon waits for its turn no longer than this; then it is closed.
pub const TURN_WITHIN: Duration = Duration::from_secs(1);
/// Most connections without a certificate to the routers' port; the oldest is closed for a further one.
pub const ANONYMOUS_CONNECTIONS_MAX: usize = 64;
/// A connection without a certificate is closed after this time: enrolling takes a moment.
pub const ANONYMOUS_AGE_MAX: Duration = Duration::from_secs(15);
/// Most bytes from a connection without a certificate.
pub const ANONYMOUS_BYTES_MAX: usize = 64 * 1024;
/// A probe or scraper without a certificate connects again after this time.
pub const STRANGER_AGE_MAX: Duration = Duration::from_secs(60);
/// Most bytes from one of these.
pub const STRANGER_BYTES_MAX: usize = 256 * 1024;
/// Pause after a failed accept, such as no free file descriptor, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections a port takes, and how long it waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Of these, ones that have said nothing yet.
    pub silent: usize,
    /// Of one identity.
    pub per_identity: usize,
    /// Until the handshake is done.
    pub handshake: Duration,
    /// From then until the first bytes.
    pub first_bytes: Duration,
    /// For the other side to take something of what is written.
    pub taken: Duration,
    /// How often one identity may connect, where it is paced.
    pub pace: Option<Rate>,
    /// What somebody without a certificate gets, where that is little.
    pub anonymous: Option<Anonymous>,
}

/// What somebody without a certificate gets.
#[derive(Debug, Clone, Copy)]
pub struct Anonymous {
    /// Connections at a time.
    pub connections: usize,
    /// Age of each.
    pub age: Duration,
    /// Bytes that are read from each.
    pub bytes: usize,
}

impl Limits {
    /// The usual ones around so many connections.
    #[must_use]
    pub const fn of(connections: usize) -> Self {
        let half = connections.div_ceil(2);
        Self {
            connections,
            silent: if half < SILENT_CONNECTIONS_MAX { half } else { SILENT_CONNECTIONS_MAX },
            per_identity: CONNECTIONS_PER_IDENTITY_MAX,
            handshake: HANDSHAKE_WITHIN,
            first_bytes: FIRST_BYTES_WITHIN,
            taken: TAKEN_WITHIN,
            pace: None,
            anonymous: None,
        }
    }

    /// The same for a port where somebody without a certificate can only get one.
    #[must_use]
    pub const fn with_few_anonymous(self) -> Self {
        let anonymous =
            Anonymous { connections: ANONYMOUS_CONNECTIONS_MAX, age: ANONYMOUS_AGE_MAX, bytes: ANONYMOUS_BYTES_MAX };
        Self { anonymous: Some(anonymous), ..self }
    }

    /// The same for a port of many clients, each of which connects rarely.
    #[must_use]
    pub const fn with_pace(self, pace: Rate) -> Self {
        Self { pace: Some(pace), ..self }
    }

    /// The same for a port where nobody needs a certificate, and nobody may keep others from it.
    #[must_use]
    pub const fn with_passing_strangers(self) -> Self {
        let connections = self.connections - self.connections / 4;
        let anonymous = Anonymous { connections, age: STRANGER_AGE_MAX, bytes: STRANGER_BYTES_MAX };
        Self { anonymous: Some(anonymous), ..self }
    }
}

/// The open connections of one port. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    places: Arc<Semaphore>,
    limits: Limits,
    open: Arc<Open>,
    complaints: Arc<Complaints>,
}

impl Connections {
    /// None open, and at most so many at a time; further ones wait in the listener's backlog. Refused ones are counted.
    #[must_use]
    pub fn new(limits: Limits, refused: Counter) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        let complaints = Arc::new(Complaints { refused, told: Seldom::new() });
        Self { places, limits, open: Arc::new(Open::new(limits)), complaints }
    }

    /// Closes every open connection.
    pub fn close_all(&self) {
        self.open.close_all();
    }

    /// Closes every connection of an identity, and no other. How many there were.
    pub fn close(&self, role: &Role) -> usize {
        self.open.close(role)
    }

    /// Whose connections are open: each identity once.
    #[must_use]
    pub fn identities(&self) -> Vec<Role> {
        self.open.identities()
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.count()
    }

    /// Connections as they come through the gate. An accept that fails is tried again.
    pub fn incoming<L: Listen, G: Gate<From = L::Io>>(
        &self,
        listener: L,
        gate: G,
    ) -> impl Stream<Item = io::Result<Connection<G::Io>>> + Send + use<L, G> {
        let coming = Coming { connections: self.clone(), listener, gate, waiting: None, opening: JoinSet::new() };
        futures::stream::unfold(coming, |mut coming| async move { Some((Ok(coming.next().await), coming)) })
    }
}

/// A listener, and what comes through it.
struct Coming<L: Listen, G: Gate> {
    connections: Connections,
    listener: L,
    gate: G,
    /// Accepted, and without a place yet.
    waiting: Option<L::Io>,
    opening: JoinSet<Option<Connection<G::Io>>>,
}

impl<L: Listen, G: Gate<From = L::Io>> Coming<L, G> {
    async fn next(&mut self) -> Connection<G::Io> {
        loop {
            tokio::select! {
                Some(opened) = self.opening.join_next() => {
                    if let Ok(Some(connection)) = opened {
                        return connection;
                    }
                }
                Ok(place) = self.connections.places.clone().acquire_owned(), if self.waiting.is_some() => {
                    if let Some(io) = self.waiting.take() {
                        let entry = self.connections.open.enter(place);
                        let (gate, connections) = (self.gate.clone(), self.connections.clone());
                        self.opening.spawn(async move { connections.open(gate, io, entry).await });
                    }
                }
                io = accept(&self.listener), if self.waiting.is_none() => {
                    self.waiting = Some(io);
                    if self.connections.places.available_permits() == 0 {
                        self.connections.open.make_room();
                    }
                }
            }
        }
    }
}

async fn accept<L: Listen>(listener: &L) -> L::Io {
    loop {
        match listener.accept_one().await {
            Ok(io) => return io,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection; will try again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Connections {
    async fn open<G: Gate>(&self, gate: G, io: G::From, entry: Entry) -> Option<Connection<G::Io>> {
        let closed = entry.closed();
        let opened = tokio::select! {
            () = closed.cancelled() => return None,
            opened = tokio::time::timeout(self.limits.handshake, gate.open(io)) => opened,
        };
        match opened {
            Ok(Ok((io, caller))) => {
                // Held up rather than closed: whoever floods would come back at once, and handshakes are what costs.
                let turn = tokio::time::timeout(TURN_WITHIN, self.open.turn(&caller));
                tokio::select! {
                    () = closed.cancelled() => None,
                    turn = turn => match turn {
                        Ok(()) => Some(Connection::new(io, caller, entry, &self.limits)),
                        Err(_) => {
                            self.complaints.raise(&format_args!("{caller} connects too often"));
                            None
                        }
                    }
                }
            }
            Ok(Err(reason)) => {
                self.complaints.raise(&reason);
                None
            }
            Err(_) => {
                let within = self.limits.handshake;
                self.complaints.raise(&format_args!("its handshake was not done within {within:?}"));
                None
            }
        }
    }
}

/// Refused connections, told of now and then.
#[derive(Debug)]
struct Complaints {
    refused: Counter,
    told: Seldom,
}

impl Complaints {
    fn raise(&self, reason: &dyn std::fmt::Display) {
        let refused = self.refused.inc() + 1;
        if self.told.now() {
            tracing::warn!(%reason, refused, "refused a connection");
        }
    }
}

/// Somewhere connections come from.
pub trait Listen: Send + Sync + 'static {
    /// The bytes of one.
    type Io: Send + 'static;

    /// The next one.
    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept_one(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listen for UnixListener {
    type Io = UnixStream;

    async fn accept_one(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Finds out who is on the other side.
pub trait Gate: Clone + Send + Sync + 'static {
    /// What comes.
    type From: Send + 'static;
    /// What goes on.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Takes a connection, or says why not. Whoever calls sets the deadline.
    fn open(&self, io: Self::From) -> impl Future<Output = io::Result<(Self::Io, Caller)>> + Send;
}

/// TCP, with or without TLS.
#[derive(Debug, Clone)]
pub struct Secured(pub Security, pub Door);

impl Gate for Secured {
    type From = TcpStream;
    type Io = tls::Stream;

    async fn open(&self, io: TcpStream) -> io::Result<(tls::Stream, Caller)> {
        self.0.accept(self.1, io).await
    }
}

/// The unix socket: whoever could open it is the controller's own user.
#[derive(Debug, Clone, Copy)]
pub struct LocalSocket;

impl Gate for LocalSocket {
    type From = UnixStream;
    type Io = UnixStream;

    async fn open(&self, io: UnixStream) -> io::Result<(UnixStream, Caller)> {
        Ok((io, Caller::Local))
    }
}

#[cfg(test)]
mod tests;
