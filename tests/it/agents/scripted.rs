//! A controller that says what a test tells it to say, and remembers what it heard.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::{Stream, StreamExt};
use pilothouse::domain::controller_list::DigestScheme;
use pilothouse::domain::endpoint::Endpoint;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::listed_controller::Role;
use pilothouse::proto::router::router_control_server::{RouterControl, RouterControlServer};
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::proto::router::{
    ControllerHeartbeat, ControllerList, ControllerMessage, EventsTaken, ListUpdate, ListVersion, ListedController,
    Nack, Refused, RegisterRequest, RegisterResponse, RouterMessage, VoterSet, WatchRequest, Welcome,
};
use pilothouse::rpc::list_codec;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{SOON, eventually};

/// The cluster that scripted controllers belong to.
pub(super) const CLUSTER: [u8; 16] = [7; 16];
const MESSAGES_MAX: usize = 64;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Protocol 2.
    Proper,
    /// Protocol 2, and it takes events.
    Curious,
    /// Protocol 1, without saying who it is.
    Old,
    /// Never answers a hello.
    Mute,
    /// Refuses every hello: of a version that has nothing in common with the router.
    Foreign,
}

#[derive(Clone)]
struct Service {
    id: u64,
    manner: Manner,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What is sent to every session, from its beginning.
    script: Mutex<Vec<Kind>>,
    sessions: Mutex<Vec<mpsc::Sender<Result<ControllerMessage, Status>>>>,
    heard: Mutex<Vec<FromRouter>>,
    registered: Mutex<Vec<Instant>>,
    /// What the next registrations are answered, the last one first.
    refusals: Mutex<Vec<Status>>,
    /// Hellos that were answered or ignored.
    dials: Mutex<usize>,
    leader: Mutex<Leader>,
}

/// What it says of a leader.
#[derive(Clone, Copy)]
struct Leader {
    hint: u64,
    contact_age_ms: u64,
}

impl Default for Leader {
    fn default() -> Self {
        Self { hint: 1, contact_age_ms: 0 }
    }
}

/// A scripted controller that serves until it is dropped.
pub(super) struct Controller {
    pub(super) id: u64,
    pub(super) endpoint: Endpoint,
    state: Arc<State>,
    stop: CancellationToken,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
        self.state.sessions.lock().unwrap().clear();
    }
}

impl Controller {
    pub(super) async fn start(id: u64, manner: Manner) -> Self {
        Self::start_at(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), id, manner)
    }

    /// The same, where somebody listens already.
    pub(super) fn start_at(listener: tokio::net::TcpListener, id: u64, manner: Manner) -> Self {
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (state, stop) = (Arc::new(State::default()), CancellationToken::new());
        let service = RouterControlServer::new(Service { id, manner, state: state.clone() });
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = serving => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { id, endpoint, state, stop }
    }

    /// Says this to all sessions, and to later ones at their beginning.
    pub(super) async fn says(&self, kind: Kind) {
        self.state.script.lock().unwrap().push(kind.clone());
        self.says_once(kind).await;
    }

    /// Says this to the sessions that there are.
    pub(super) async fn says_once(&self, kind: Kind) {
        let sessions = self.state.sessions.lock().unwrap().clone();
        for session in sessions {
            let _ = session.send(Ok(ControllerMessage { kind: Some(kind.clone()) })).await;
        }
    }

    /// From now on it is out of contact with a leader, and says this hint in its welcomes all the same.
    pub(super) fn loses_its_leader(&self, hint: u64) {
        *self.state.leader.lock().unwrap() = Leader { hint, contact_age_ms: u64::from(u32::MAX) };
    }

    /// Ends the streams of all sessions.
    pub(super) fn closes(&self) {
        self.state.sessions.lock().unwrap().clear();
    }

    /// How many sessions were begun here.
    pub(super) fn dials(&self) -> usize {
        *self.state.dials.lock().unwrap()
    }

    /// How many messages of this kind it heard.
    pub(super) fn count(&self, is: impl Fn(&FromRouter) -> bool) -> usize {
        self.state.heard.lock().unwrap().iter().filter(|heard| is(heard)).count()
    }

    /// What is in all messages that it heard, in their order.
    pub(super) fn all<T>(&self, each: impl Fn(&FromRouter) -> Vec<T>) -> Vec<T> {
        self.state.heard.lock().unwrap().iter().flat_map(each).collect()
    }

    pub(super) async fn offers(&self, update: ListUpdate) {
        self.says(Kind::Update(update)).await;
    }

    /// Waits for something that was said.
    pub(super) async fn hears<T>(&self, what: &str, find: impl Fn(&FromRouter) -> Option<T>) -> T {
        eventually(what, SOON, || async {
            let heard = self.state.heard.lock().unwrap();
            heard.iter().find_map(&find).ok_or_else(|| format!("controller {} heard {heard:?}", self.id))
        })
        .await
    }

    /// Waits for the NACK of an offer.
    pub(super) async fn hears_nack(&self, nonce: u64) -> Nack {
        self.hears("a NACK", |heard| match heard {
            FromRouter::Nack(nack) if nack.nonce == nonce => Some(nack.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the acknowledgement of an offer.
    pub(super) async fn hears_ack(&self, nonce: u64) {
        self.hears("an ACK", |heard| matches!(heard, FromRouter::Ack(ack) if ack.nonce == nonce).then_some(())).await;
    }

    pub(super) fn registrations(&self) -> usize {
        self.state.registered.lock().unwrap().len()
    }

    /// When registrations came.
    pub(super) fn registered_at(&self) -> Vec<Instant> {
        self.state.registered.lock().unwrap().clone()
    }

    /// Refuses the next registration.
    pub(super) fn refuses_a_registration(&self, with: Status) {
        self.state.refusals.lock().unwrap().push(with);
    }
}

/// The list of these controllers at this index, as bytes of protocol 2 in an offer.
pub(super) fn offer(nonce: u64, cluster: [u8; 16], index: u64, members: &[(u64, &Endpoint)]) -> ListUpdate {
    offer_that_retires(nonce, cluster, index, members, &[])
}

/// The same, with ids that it says are retired.
pub(super) fn offer_that_retires(
    nonce: u64,
    cluster: [u8; 16],
    index: u64,
    members: &[(u64, &Endpoint)],
    retired: &[u64],
) -> ListUpdate {
    let list = ControllerList {
        domain_tag: list_codec::DOMAIN_TAG.to_owned(),
        cluster_id: cluster.to_vec(),
        version: Some(ListVersion { epoch: 1, index }),
        term: 1,
        controllers: members
            .iter()
            .map(|(id, endpoint)| ListedController {
                id: *id,
                name: format!("controller-{id}"),
                role: Role::Voter.into(),
                endpoints: vec![endpoint.to_string()],
                incarnation: vec![u8::try_from(*id).unwrap(); 16],
                keys: Vec::new(),
            })
            .collect(),
        voter_sets: vec![VoterSet { ids: members.iter().map(|(id, _)| *id).collect() }],
        retired_ids: retired.to_vec(),
        digest_scheme: DigestScheme::SHA256.0,
        ..ControllerList::default()
    };
    sealed(nonce, list.encode_to_vec())
}

/// Any bytes, as an offer of protocol 2 with the right digest.
pub(super) fn sealed(nonce: u64, bytes: Vec<u8>) -> ListUpdate {
    let digest = Some(list_codec::digest(&bytes).into());
    ListUpdate { nonce, protocol: 2, list: bytes.into(), digest, ..ListUpdate::default() }
}

type Messages = Pin<Box<dyn Stream<Item = Result<ControllerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl RouterControl for Service {
    async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        self.state.registered.lock().unwrap().push(Instant::now());
        if let Some(refusal) = self.state.refusals.lock().unwrap().pop() {
            return Err(refusal);
        }
        Ok(Response::new(RegisterResponse { effect: 1, cluster_id: CLUSTER.to_vec() }))
    }

    type SessionStream = Messages;

    async fn session(&self, request: Request<Streaming<RouterMessage>>) -> Result<Response<Messages>, Status> {
        let mut incoming = request.into_inner();
        let (session, messages) = mpsc::channel(MESSAGES_MAX);
        *self.state.dials.lock().unwrap() += 1;
        if self.manner == Manner::Foreign {
            let refused = Refused {
                reason: "no_common_protocol".into(),
                message: "no common protocol: this cluster serves 7 to 9, the router speaks 1 to 2".into(),
                hint: "upgrade the router".into(),
                supported_min: 7,
                supported_max: 9,
                ..Refused::default()
            };
            session.try_send(Ok(ControllerMessage { kind: Some(Kind::Refused(refused)) })).unwrap();
            return Ok(Response::new(Box::pin(ReceiverStream::new(messages))));
        }
        if self.manner != Manner::Mute {
            let old = self.manner == Manner::Old;
            let welcome = Welcome {
                protocol: if old { 1 } else { 2 },
                cluster_id: if old { Vec::new() } else { CLUSTER.to_vec() },
                controller_id: if old { 0 } else { self.id },
                leader_hint: self.state.leader.lock().unwrap().hint,
                heartbeat_ms: 50,
                capabilities: (self.manner == Manner::Curious).then(|| "events".to_owned()).into_iter().collect(),
            };
            let script = self.state.script.lock().unwrap().clone();
            for kind in std::iter::once(Kind::Welcome(welcome)).chain(script) {
                session.try_send(Ok(ControllerMessage { kind: Some(kind) })).unwrap();
            }
        }
        // The only owner is the list of sessions: when that is cleared the stream ends.
        let answers = session.downgrade();
        self.state.sessions.lock().unwrap().push(session);
        let state = self.state.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                let beat = matches!(message.kind, Some(FromRouter::Heartbeat(_)));
                if let (Some(FromRouter::Events(report)), Some(session)) = (&message.kind, answers.upgrade()) {
                    let number = report.events.last().unwrap().number;
                    let taken = Kind::EventsTaken(EventsTaken { instance: report.instance, number });
                    let _ = session.try_send(Ok(ControllerMessage { kind: Some(taken) }));
                }
                state.heard.lock().unwrap().extend(message.kind);
                let leader = *state.leader.lock().unwrap();
                let heartbeat = ControllerHeartbeat {
                    leader_contact_age_ms: leader.contact_age_ms,
                    leader_hint: leader.hint,
                    ..Default::default()
                };
                if let Some(session) = answers.upgrade().filter(|_| beat) {
                    let _ = session.try_send(Ok(ControllerMessage { kind: Some(Kind::Heartbeat(heartbeat)) }));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<ListUpdate, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}
