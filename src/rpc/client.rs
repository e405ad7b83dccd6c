//! The operators' client: tries each endpoint until one answers, and names the endpoint in every error.
//!
//! Whoever answers forwards to the leader, so any live controller will do. It does not know how results are rendered.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::status::{hint_of, reason_of};
use crate::domain::access::{Caller, Denied};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, RouterId};
use crate::proto::admin::admin_client::AdminClient as Wire;
use crate::proto::admin::{
    AllowRouterRequest, ChangeProgress, ChangeRequest, CreateTokenRequest, CreateTokenResponse, EventsRequest,
    EventsResponse, FinalizeUpgradeRequest, ForgetRouterRequest, ListRoutersRequest, ListRoutersResponse,
    StatusRequest, StatusResponse, TransferRequest, UpgradeProgress, UpgradeRequest, UpgradeResponse,
};
use crate::tls::Security;

/// Longest wait for a connection to one endpoint: a dead one must not hide a live one for long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for an answer that needs no change.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of a controller that forwards a request: whoever asked it waits longer, and hears why it failed.
const FORWARDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for the next progress message of a change; more than the longest step of a plan.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence while events are followed: a controller says something three times as often.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: a page of routers, or the status of 64 members.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The reason of a controller that belongs to no cluster, or not any more.
const NOT_MEMBER: &str = "not_member";
/// How often a request was forwarded from controller to controller.
pub const HOPS_METADATA: &str = "pilothouse-hops";

/// Where a controller can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Its admin port.
    Endpoint(Endpoint),
    /// Its unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody to ask.
    #[error(
        "no controller is named: give --endpoint https://HOST:PORT, set PILOTHOUSE_ENDPOINT, or run this on a controller's host"
    )]
    NoTarget,
    /// None of the endpoints answered.
    #[error("no controller answered ({}): check the addresses (the admin port is meant), and that a controller runs", attempts(.tried))]
    Unreachable {
        /// Every endpoint and why it did not answer.
        tried: Vec<(Target, String)>,
    },
    /// A controller answered with a refusal.
    #[error("{at}: {message}")]
    Refused {
        /// Who answered.
        at: Target,
        /// Stable name of the reason; empty when the controller gave none.
        reason: String,
        /// Why, for people.
        message: String,
        /// What to do, when the controller says so.
        hint: Option<String>,
        /// The transport's code.
        code: Code,
    },
    /// The answer did not come in time, or the connection broke after the request was sent.
    #[error(
        "{at} did not finish its answer ({message}): look at `pilothouse cluster status` before you repeat a change"
    )]
    Broken {
        /// Who was asked.
        at: Target,
        /// What happened.
        message: String,
    },
}

fn attempts(tried: &[(Target, String)]) -> String {
    let each: Vec<_> = tried.iter().map(|(target, why)| format!("{target}: {why}")).collect();
    each.join("; ")
}

/// A client of the admin service of whichever controller answers.
#[derive(Debug, Clone)]
pub struct AdminClient {
    targets: Vec<Target>,
    connected: Option<(Target, Wire<Channel>)>,
    hops: u32,
    patience: Duration,
    security: Security,
    whom: Option<ControllerId>,
}

impl AdminClient {
    /// Connects to the first endpoint that answers; the socket is tried first.
    ///
    /// # Errors
    /// [`ClientError::NoTarget`], or [`ClientError::Unreachable`] with every attempt.
    pub async fn connect(
        endpoints: &[Endpoint],
        socket: Option<PathBuf>,
        security: Security,
    ) -> Result<Self, ClientError> {
        let mut client = Self { patience: ANSWER_TIMEOUT, ..Self::forwarding(endpoints, socket, 0, security) };
        client.channel().await?;
        Ok(client)
    }

    /// A client that is not connected yet, for a request that was already forwarded `hops` times.
    #[must_use]
    pub fn forwarding(endpoints: &[Endpoint], socket: Option<PathBuf>, hops: u32, security: Security) -> Self {
        let targets = socket.map(Target::Socket).into_iter().chain(endpoints.iter().cloned().map(Target::Endpoint));
        Self {
            targets: targets.collect(),
            connected: None,
            hops,
            patience: FORWARDED_ANSWER_TIMEOUT,
            security,
            whom: None,
        }
    }

    /// The same client with less patience for each answer.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same client, of this controller alone where certificates say who answers.
    #[must_use]
    pub fn of(self, whom: ControllerId) -> Self {
        Self { whom: Some(whom), ..self }
    }

    /// Whom the client is connected to.
    #[must_use]
    pub fn connected_to(&self) -> Option<&Target> {
        self.connected.as_ref().map(|(target, _)| target)
    }

    /// The cluster and its members.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&mut self) -> Result<StatusResponse, ClientError> {
        self.ask(StatusRequest {}, |mut wire, request| async move { wire.status(request).await }).await
    }

    /// One change of membership: a stream of progress that ends in `done`.
    ///
    /// # Errors
    /// [`ClientError`]; also from [`Progress::next`].
    pub async fn change(&mut self, change: ChangeRequest) -> Result<Progress<ChangeProgress>, ClientError> {
        let stream = self.ask(change, |mut wire, request| async move { wire.change(request).await }).await?;
        self.progress(stream)
    }

    /// Which builds run, what the cluster may write, and what is in the way of more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upgrade(&mut self, request: UpgradeRequest) -> Result<UpgradeResponse, ClientError> {
        self.ask(request, |mut wire, request| async move { wire.upgrade(request).await }).await
    }

    /// Raises what the cluster may write: a stream of progress that ends in `done`.
    ///
    /// # Errors
    /// [`ClientError`]; also from [`Progress::next`].
    pub async fn finalize_upgrade(
        &mut self,
        request: FinalizeUpgradeRequest,
    ) -> Result<Progress<UpgradeProgress>, ClientError> {
        let stream = self.ask(request, |mut wire, request| async move { wire.finalize_upgrade(request).await }).await?;
        self.progress(stream)
    }

    fn progress<M>(&self, stream: Streaming<M>) -> Result<Progress<M>, ClientError> {
        let at = self.connected.as_ref().map(|(at, _)| at.clone()).ok_or(ClientError::NoTarget)?;
        Ok(Progress { at, stream })
    }

    /// Hands leadership over, to whoever is most caught up when `to` is `None`. Returns the new leader.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transfer(&mut self, to: Option<ControllerId>) -> Result<Option<ControllerId>, ClientError> {
        let request = TransferRequest { to: to.map_or(0, ControllerId::get) };
        let answer = self.ask(request, |mut wire, request| async move { wire.transfer(request).await }).await?;
        Ok(ControllerId::new(answer.leader))
    }

    /// One page of routers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_routers(&mut self, page: ListRoutersRequest) -> Result<ListRoutersResponse, ClientError> {
        self.ask(page, |mut wire, request| async move { wire.list_routers(request).await }).await
    }

    /// Forgets a router. Whether there was one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn forget(&mut self, router: &RouterId) -> Result<bool, ClientError> {
        self.forget_and(router, false).await
    }

    /// Forgets a router and bans it. Whether it was registered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ban(&mut self, router: &RouterId) -> Result<bool, ClientError> {
        self.forget_and(router, true).await
    }

    /// Lifts the ban of a router. Whether there was one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn allow(&mut self, router: &RouterId) -> Result<bool, ClientError> {
        let request = AllowRouterRequest { id: router.to_string() };
        let answer = self.ask(request, |mut wire, request| async move { wire.allow_router(request).await }).await?;
        Ok(answer.existed)
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&mut self, request: CreateTokenRequest) -> Result<CreateTokenResponse, ClientError> {
        self.ask(request, |mut wire, request| async move { wire.create_token(request).await }).await
    }

    /// What happened on every controller that answers, and with `follow` whatever happens.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&mut self, follow: bool) -> Result<Happened, ClientError> {
        let request = EventsRequest { follow };
        let stream = self.ask(request, |mut wire, request| async move { wire.events(request).await }).await?;
        let (at, _) = self.channel().await?;
        Ok(Happened { at, stream })
    }

    async fn forget_and(&mut self, router: &RouterId, ban: bool) -> Result<bool, ClientError> {
        let request = ForgetRouterRequest { id: router.to_string(), ban };
        let answer = self.ask(request, |mut wire, request| async move { wire.forget_router(request).await }).await?;
        Ok(answer.existed)
    }

    /// Asks whoever is connected. A connection that turns out to be dead is replaced once, and whoever is no member any
    /// more, or is of a build that does not know the question, is asked no more, while there are others. Repeating is safe: a change that was made already is refused the
    /// second time, and everything else may be done twice.
    async fn ask<Q, A, F>(
        &mut self,
        question: Q,
        call: impl Fn(Wire<Channel>, Request<Q>) -> F,
    ) -> Result<A, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut again = true;
        loop {
            let (at, wire) = self.channel().await?;
            let mut request = Request::new(question.clone());
            request.metadata_mut().insert(HOPS_METADATA, self.hops.into());
            let answer = tokio::time::timeout(self.patience, call(wire, request)).await;
            match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if again && lost(&status) => {
                    again = false;
                    self.connected = None;
                }
                Ok(Err(status)) if reason_of(&status).is_some_and(others_may_know) && self.targets.len() > 1 => {
                    self.targets.retain(|target| *target != at);
                    self.connected = None;
                    if self.channel().await.is_err() {
                        return Err(refused(at, &status));
                    }
                }
                Ok(Err(status)) => return Err(refused(at, &status)),
                Err(_) => {
                    self.connected = None;
                    return Err(ClientError::Broken { at, message: format!("nothing within {:?}", self.patience) });
                }
            }
        }
    }

    async fn channel(&mut self) -> Result<(Target, Wire<Channel>), ClientError> {
        if let Some(connected) = &self.connected {
            return Ok(connected.clone());
        }
        if self.targets.is_empty() {
            return Err(ClientError::NoTarget);
        }
        let mut tried = Vec::new();
        for target in &self.targets {
            match dial(&self.security, self.whom, target).await {
                Ok(channel) => {
                    let wire = Wire::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
                    return Ok(self.connected.insert((target.clone(), wire)).clone());
                }
                Err(why) => tried.push((target.clone(), why)),
            }
        }
        Err(ClientError::Unreachable { tried })
    }
}

/// The progress of something that takes its time.
#[derive(Debug)]
pub struct Progress<M> {
    at: Target,
    stream: Streaming<M>,
}

impl<M> Progress<M> {
    /// The next message; `None` after the last one.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the change stopped, [`ClientError::Broken`] when the connection did.
    pub async fn next(&mut self) -> Result<Option<M>, ClientError> {
        match tokio::time::timeout(PROGRESS_TIMEOUT, self.stream.message()).await {
            Ok(Ok(progress)) => Ok(progress),
            Ok(Err(status)) => Err(refused(self.at.clone(), &status)),
            Err(_) => Err(ClientError::Broken {
                at: self.at.clone(),
                message: format!("nothing within {PROGRESS_TIMEOUT:?}"),
            }),
        }
    }
}

/// Events, as they are told.
#[derive(Debug)]
pub struct Happened {
    at: Target,
    stream: Streaming<EventsResponse>,
}

impl Happened {
    /// The next message; `None` after the last one.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the controller ends it, [`ClientError::Broken`] when the connection did.
    pub async fn next(&mut self) -> Result<Option<EventsResponse>, ClientError> {
        match tokio::time::timeout(EVENTS_TIMEOUT, self.stream.message()).await {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(status)) => Err(refused(self.at.clone(), &status)),
            Err(_) => {
                let message = format!("nothing within {EVENTS_TIMEOUT:?}");
                Err(ClientError::Broken { at: self.at.clone(), message })
            }
        }
    }
}

async fn dial(security: &Security, whom: Option<ControllerId>, target: &Target) -> Result<Channel, String> {
    let connecting = async {
        match target {
            Target::Endpoint(endpoint) => {
                let (security, to) = (security.clone(), endpoint.clone());
                let connector = tower::service_fn(move |_| {
                    let (security, to) = (security.clone(), to.clone());
                    async move { dial_controller(&security, whom, &to).await.map(TokioIo::new) }
                });
                // Plain for tonic: the connector adds what is needed.
                let endpoint = tonic::transport::Endpoint::from_shared(endpoint.plain().to_string());
                let endpoint = endpoint.map_err(|e| chain(&e))?;
                endpoint.connect_with_connector(connector).await.map_err(|e| chain(&e))
            }
            Target::Socket(path) => {
                let path = path.clone();
                let connector = tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                // The address is never resolved: the connector ignores it.
                let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
                endpoint.connect_with_connector(connector).await.map_err(|e| chain(&e))
            }
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(format!("no connection within {CONNECT_TIMEOUT:?}")))
}

async fn dial_controller(
    security: &Security,
    whom: Option<ControllerId>,
    to: &Endpoint,
) -> std::io::Result<crate::tls::Stream> {
    let dialed = security.dial(to).await?;
    let caller = dialed.principal.map(Caller::Verified);
    match (caller, whom) {
        (Some(caller), Some(whom)) if !caller.may_speak_for_controller(whom) => {
            Err(std::io::Error::other(format!("{caller} answers there, controller {whom} is expected")))
        }
        _ => Ok(dialed.stream),
    }
}

/// Whether another controller may well answer what this one refused.
fn others_may_know(reason: &str) -> bool {
    reason == NOT_MEMBER || reason == Denied::Unknown.code()
}

/// Whether the transport failed, rather than the controller answering.
fn lost(status: &Status) -> bool {
    status.code() == Code::Unavailable && reason_of(status).is_none()
}

fn refused(at: Target, status: &Status) -> ClientError {
    let message = status.message().to_owned();
    if reason_of(status).is_none() && matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown) {
        return ClientError::Broken { at, message };
    }
    let reason = reason_of(status).unwrap_or_default().to_owned();
    ClientError::Refused { at, reason, message, hint: hint_of(status).map(str::to_owned), code: status.code() }
}

/// The innermost cause: transport errors say little themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
