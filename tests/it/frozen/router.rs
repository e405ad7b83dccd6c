//! A small router of protocol 1, made from the frozen messages alone. It knows no versions, and of its lists only that
//! an empty one is of no use.

use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::messages::{
    Ack, ControllerSays, FlatList, Hello, ListUpdate, Nack, RegisterRequest, RegisterResponse, RouterHeartbeat,
    RouterMessage, RouterSays, WatchRequest,
};

const REGISTER: &str = "/pilothouse.router.v1.RouterControl/Register";
const SESSION: &str = "/pilothouse.router.v1.RouterControl/Session";
const WATCH: &str = "/pilothouse.router.v1.RouterControl/Watch";

/// How often the next address is tried, at most.
const RETRY: Duration = Duration::from_millis(100);
/// How long one connection or call may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often it says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A session on which nothing is said for so long is lost.
const SILENCE: Duration = Duration::from_secs(5);

/// How it follows the list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    Session,
    Watch,
}

/// What it went through so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Addresses at which it registered, in order.
    pub(crate) registered: Vec<String>,
    /// Where it gets its lists from now.
    pub(crate) connected: Option<String>,
    /// The last list that was good.
    pub(crate) list: FlatList,
    /// Lists that no controller may ever send: empty, or older than one before.
    pub(crate) wrong: Vec<FlatList>,
    /// Why connections ended.
    pub(crate) lost: Vec<String>,
}

impl Seen {
    /// Takes a list over when it is good. The reason when it is not.
    fn take(&mut self, list: FlatList) -> Result<(), &'static str> {
        let refusal = match &list {
            FlatList { addresses, .. } if addresses.is_empty() => "empty",
            FlatList { index, .. } if *index < self.list.index => "older",
            _ => {
                self.list = list;
                return Ok(());
            }
        };
        self.wrong.push(list);
        Err(refusal)
    }
}

/// A running router; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Router {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Router {
    pub(crate) fn start(id: &str, seed: String, manner: Manner) -> Self {
        let (tells, seen) = watch::channel(Seen::default());
        let life = Life { id: id.to_owned(), boot: rand::random::<u128>().to_be_bytes().to_vec(), manner, tells };
        Self { seen, task: tokio::spawn(life.run(seed)) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Life {
    id: String,
    boot: Vec<u8>,
    manner: Manner,
    tells: watch::Sender<Seen>,
}

impl Life {
    /// Tries one address that it knows after the other, for ever: those of its list, or its seed without one.
    async fn run(self, seed: String) {
        let mut ticks = interval(RETRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0;
        loop {
            ticks.tick().await;
            let known = self.tells.borrow().list.addresses.clone();
            let address = if known.is_empty() { &seed } else { &known[turn % known.len()] };
            turn += 1;
            let why = self.follow(address).await.map_or_else(|status| status.to_string(), |()| "it ended".to_owned());
            self.tells.send_modify(|seen| {
                seen.connected = None;
                seen.lost.push(format!("{address}: {why}"));
            });
        }
    }

    async fn follow(&self, address: &str) -> Result<(), Status> {
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| Status::internal("no address"))?;
        let channel = endpoint.connect_timeout(DEADLINE).connect().await;
        let mut grpc = Grpc::new(channel.map_err(|error| Status::unavailable(error.to_string()))?);
        within(self.register(&mut grpc)).await?;
        self.tells.send_modify(|seen| seen.registered.push(address.to_owned()));
        match self.manner {
            Manner::Session => self.session(grpc, address).await,
            Manner::Watch => self.watch(grpc, address).await,
        }
    }

    async fn register(&self, grpc: &mut Grpc<Channel>) -> Result<(), Status> {
        let request = RegisterRequest {
            router_id: self.id.clone(),
            software_version: "1.3.1".to_owned(),
            boot_id: self.boot.clone(),
            sequence: 1,
            labels: [("zone".to_owned(), "north".to_owned())].into(),
        };
        ready(grpc).await?;
        let codec = ProstCodec::<_, RegisterResponse>::default();
        grpc.unary(Request::new(request), PathAndQuery::from_static(REGISTER), codec).await?;
        Ok(())
    }

    async fn session(&self, mut grpc: Grpc<Channel>, address: &str) -> Result<(), Status> {
        let (to, messages) = mpsc::channel(16);
        let says = |kind| {
            let to = to.clone();
            async move { to.send(RouterMessage { kind: Some(kind) }).await.map_err(|_| Status::cancelled("it left")) }
        };
        let boot_id = self.boot.clone();
        let hello = Hello { router_id: self.id.clone(), software_version: "1.3.1".to_owned(), boot_id };
        says(RouterSays::Hello(hello)).await?;
        ready(&mut grpc).await?;
        let call = grpc.streaming(
            Request::new(ReceiverStream::new(messages)),
            PathAndQuery::from_static(SESSION),
            ProstCodec::<RouterMessage, super::messages::ControllerMessage>::default(),
        );
        let mut hears = within(call).await?.into_inner();
        let mut ticks = interval(HEARTBEAT);
        let mut quiet = 0;
        loop {
            let message = tokio::select! {
                message = hears.message() => message?,
                _ = ticks.tick() => {
                    quiet += 1;
                    if HEARTBEAT * quiet > SILENCE {
                        return Err(Status::deadline_exceeded("silence"));
                    }
                    says(RouterSays::Heartbeat(RouterHeartbeat::default())).await?;
                    continue;
                }
            };
            quiet = 0;
            match message.map(|message| message.kind) {
                None => return Ok(()),
                Some(Some(ControllerSays::Refused(refused))) => return Err(Status::aborted(refused.reason)),
                Some(Some(ControllerSays::Goodbye(goodbye))) => return Err(Status::aborted(goodbye.reason)),
                Some(Some(ControllerSays::Welcome(welcome))) if welcome.protocol != 1 => {
                    return Err(Status::aborted("welcomed with another protocol"));
                }
                Some(Some(ControllerSays::Update(update))) => says(self.judge(update, address)?).await?,
                Some(_) => {}
            }
        }
    }

    async fn watch(&self, mut grpc: Grpc<Channel>, address: &str) -> Result<(), Status> {
        ready(&mut grpc).await?;
        let call = grpc.server_streaming(
            Request::new(WatchRequest { router_id: self.id.clone() }),
            PathAndQuery::from_static(WATCH),
            ProstCodec::<_, ListUpdate>::default(),
        );
        let mut hears = within(call).await?.into_inner();
        while let Some(update) = hears.message().await? {
            self.judge(update, address)?;
        }
        Ok(())
    }

    /// The answer to a list.
    fn judge(&self, update: ListUpdate, address: &str) -> Result<RouterSays, Status> {
        if update.protocol != 1 {
            return Err(Status::aborted("a list of another protocol"));
        }
        let list = FlatList::decode(&*update.list).map_err(|error| Status::data_loss(error.to_string()))?;
        let mut taken = Ok(());
        self.tells.send_modify(|seen| {
            taken = seen.take(list);
            seen.connected = Some(address.to_owned());
        });
        Ok(match taken {
            Ok(()) => RouterSays::Ack(Ack { nonce: update.nonce, digest: update.digest }),
            Err(reason) => RouterSays::Nack(Nack { nonce: update.nonce, reason: reason.to_owned(), ..Nack::default() }),
        })
    }
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(DEADLINE, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}
