//! The stage: everything that was heard of the router, and the way to say something to it. One task owns it, answers
//! hellos, sends heartbeats, and waits; what a case makes of it is elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Settings;
use super::lists::{CLUSTER, Dialect, Draft, Offer};
use super::server::{Door, Doorway, EVENTS_MAX, Event, Line};
use crate::domain::endpoint::Endpoint;
use crate::proto::router::controller_message::Kind;
use crate::proto::router::router_message::Kind as FromRouter;
use crate::proto::router::{Ack, ControllerHeartbeat, ControllerMessage, HeldVersion, Hello, Nack, Refused, Welcome};

/// How often both sides send heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);
/// Sessions that are remembered; more open ones than this are refused.
const SESSIONS_MAX: usize = 32;
/// Answers that are remembered; later ones are counted only.
const ANSWERS_MAX: usize = 4_096;
/// Most characters of a router's text that are shown.
const TEXT_CHARS_MAX: usize = 64;

/// How hellos are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As the protocol says.
    Proper,
    /// With a protocol that was not offered.
    BadWelcome,
    /// As the protocol says, and never a word after it.
    Silent,
}

/// One session of the router.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) door: Door,
    pub(super) hello: Hello,
    pub(super) dialect: Dialect,
    pub(super) manner: Manner,
    line: Option<Line>,
    /// How many heartbeats came.
    pub(super) beats: u64,
    /// What the last of them said.
    pub(super) held: Option<HeldVersion>,
    /// How it ended.
    pub(super) ended: Option<String>,
}

/// An answer to an offer.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Ack(Ack),
    Nack(Nack),
}

/// Everything that was heard, and the way to say something.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) settings: Settings,
    pub(super) endpoint: Endpoint,
    _doorway: Doorway,
    events: mpsc::Receiver<Event>,
    /// For further doors; it also keeps the queue open.
    events_in: mpsc::Sender<Event>,
    numbers: Arc<AtomicU64>,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) answers: BTreeMap<u64, Answer>,
    /// Whom this run is about: whoever came first.
    pub(super) router: Option<String>,
    pub(super) manner: Manner,
    /// What the router should hold.
    pub(super) good: Option<Draft>,
    pub(super) last_index: u64,
    last_nonce: u64,
    beat: Interval,
}

impl Stage {
    /// Opens the door that the router knows.
    pub(super) async fn open(settings: &Settings) -> std::io::Result<Self> {
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let numbers = Arc::new(AtomicU64::new(1));
        let security = settings.security.clone();
        let doorway = Doorway::open(settings.listen, Door::Seed, security, numbers.clone(), events_in.clone()).await?;
        let endpoint = match &settings.advertise {
            Some(endpoint) => endpoint.clone(),
            None => endpoint_of(settings, doorway.address)?,
        };
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            settings: settings.clone(),
            endpoint,
            _doorway: doorway,
            events,
            events_in,
            numbers,
            sessions: BTreeMap::new(),
            answers: BTreeMap::new(),
            router: None,
            manner: Manner::Proper,
            good: None,
            last_index: 0,
            last_nonce: 0,
            beat,
        })
    }

    /// Opens a door of a second controller, on the same address.
    pub(super) async fn second_door(&self) -> std::io::Result<(Doorway, Endpoint)> {
        let at = SocketAddr::new(self.settings.listen.ip(), 0);
        let (numbers, events) = (self.numbers.clone(), self.events_in.clone());
        let doorway = Doorway::open(at, Door::Second, self.settings.security.clone(), numbers, events).await?;
        let place =
            format!("{}://{}:{}", self.endpoint.scheme().as_str(), self.endpoint.host(), doorway.address.port());
        Ok((doorway, place.parse().map_err(std::io::Error::other)?))
    }

    /// Until `find` finds something in what was heard, or the time is over.
    pub(super) async fn wait<T>(&mut self, within: Duration, mut find: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = find(self) {
                return Some(found);
            }
            tokio::select! {
                Some(event) = self.events.recv() => self.take(event),
                _ = self.beat.tick() => self.beat_everywhere(),
                () = tokio::time::sleep_until(deadline) => return find(self),
            }
        }
    }

    /// The newest open session at a door that was welcomed properly.
    pub(super) fn open_at(&self, door: Door) -> Option<u64> {
        let open = |session: &Session| {
            session.door == door
                && session.ended.is_none()
                && session.line.is_some()
                && session.manner == Manner::Proper
        };
        self.sessions.iter().rev().find(|(_, session)| open(session)).map(|(number, _)| *number)
    }

    /// Number of the newest session, open or not.
    pub(super) fn newest(&self) -> u64 {
        self.sessions.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Sends an offer; its nonce, or nothing when the session takes no more messages.
    pub(super) fn send(&mut self, session: u64, offer: &Offer) -> Option<u64> {
        self.last_nonce += 1;
        let update = offer.update(self.last_nonce);
        let line = self.sessions.get(&session)?.line.as_ref()?;
        let sent = match line {
            Line::Session(line) => line.try_send(Ok(ControllerMessage { kind: Some(Kind::Update(update)) })).is_ok(),
            Line::Watch(line) => line.try_send(Ok(update)).is_ok(),
        };
        sent.then_some(self.last_nonce)
    }

    /// Ends every session at a door, from this side.
    pub(super) fn hang_up(&mut self, door: Door) {
        for session in self.sessions.values_mut().filter(|session| session.door == door) {
            session.line = None;
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened { session, door, hello, line } => self.welcome(session, door, *hello, line),
            Event::Said { session, kind } => self.hear(session, *kind),
            Event::Ended { session, how } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.line = None;
                    session.ended.get_or_insert(how);
                }
            }
        }
    }

    fn hear(&mut self, session: u64, kind: FromRouter) {
        let (nonce, answer) = match kind {
            FromRouter::Ack(ack) => (ack.nonce, Answer::Ack(ack)),
            FromRouter::Nack(nack) => (nack.nonce, Answer::Nack(nack)),
            FromRouter::Heartbeat(heartbeat) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.beats += 1;
                    session.held = heartbeat.held;
                }
                return;
            }
            FromRouter::Hello(_) | FromRouter::Events(_) => return,
        };
        while self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_first();
        }
        self.answers.insert(nonce, answer);
    }

    fn welcome(&mut self, number: u64, door: Door, hello: Hello, line: Line) {
        let subject = self.router.get_or_insert_with(|| hello.router_id.clone());
        let ours = *subject == hello.router_id;
        while self.sessions.len() >= SESSIONS_MAX {
            let ended = self.sessions.iter().find(|(_, session)| session.line.is_none()).map(|(number, _)| *number);
            let Some(ended) = ended.or_else(|| self.sessions.keys().next().copied()) else { break };
            self.sessions.remove(&ended);
        }
        let Some(dialect) = dialect(&hello, &line).filter(|_| ours) else {
            return refuse(&line, ours);
        };
        if let Line::Session(line) = &line {
            let welcome = Kind::Welcome(self.words_of_welcome(door, &hello, dialect));
            if line.try_send(Ok(ControllerMessage { kind: Some(welcome) })).is_err() {
                return;
            }
        }
        let session =
            Session { door, hello, dialect, manner: self.manner, line: Some(line), beats: 0, held: None, ended: None };
        self.sessions.insert(number, session);
    }

    fn words_of_welcome(&self, door: Door, hello: &Hello, dialect: Dialect) -> Welcome {
        let protocol = match self.manner {
            Manner::BadWelcome => hello.protocol_max.max(dialect.protocol()).saturating_add(7),
            Manner::Proper | Manner::Silent => dialect.protocol(),
        };
        let named = dialect == Dialect::Structured;
        let id = self.id(door);
        Welcome {
            protocol,
            capabilities: Vec::new(),
            cluster_id: if named { CLUSTER.to_vec() } else { Vec::new() },
            controller_id: if named { id } else { 0 },
            leader_hint: id,
            heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// Who speaks at a door.
    pub(super) fn id(&self, door: Door) -> u64 {
        match door {
            Door::Seed => self.settings.controller_id,
            Door::Second => self.settings.controller_id + 1,
        }
    }

    fn beat_everywhere(&self) {
        let heartbeat =
            |leader_hint| Kind::Heartbeat(ControllerHeartbeat { digest: None, leader_contact_age_ms: 0, leader_hint });
        for session in self.sessions.values().filter(|session| session.manner == Manner::Proper) {
            if let Some(Line::Session(line)) = &session.line {
                // Whoever reads too slowly misses one, as with any controller.
                let _ = line.try_send(Ok(ControllerMessage { kind: Some(heartbeat(self.id(session.door))) }));
            }
        }
    }
}

fn endpoint_of(settings: &Settings, address: SocketAddr) -> std::io::Result<Endpoint> {
    let text = format!("{}://{address}", settings.security.scheme().as_str());
    text.parse().map_err(std::io::Error::other)
}

/// How a router speaks; nothing when it offers no protocol that there is.
fn dialect(hello: &Hello, line: &Line) -> Option<Dialect> {
    match (line, hello.protocol_min, hello.protocol_max) {
        (Line::Watch(_), _, _) => Some(Dialect::Watch),
        (_, 0, 0) => Some(Dialect::Flat),
        (_, ..=2, 2..) => Some(Dialect::Structured),
        (_, ..=1, 1) => Some(Dialect::Flat),
        _ => None,
    }
}

fn refuse(line: &Line, ours: bool) {
    let Line::Session(line) = line else { return };
    let (reason, message) = if ours {
        ("no_common_protocol", "protocols 1 and 2 are spoken here")
    } else {
        ("not_ready", "this conformance run is about another router")
    };
    let hint = "start `pilothouse conformance router` once for each router".to_owned();
    let refused = Refused {
        reason: reason.to_owned(),
        message: message.to_owned(),
        hint,
        supported_min: 1,
        supported_max: 2,
        retry_after_ms: 1_000,
        ..Refused::default()
    };
    let _ = line.try_send(Ok(ControllerMessage { kind: Some(Kind::Refused(refused)) }));
}

/// The beginning of what a router says, on one line.
pub(super) fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}
