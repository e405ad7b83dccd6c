//! A router of protocol 2 that keeps every rule but one: the fault that a test plants.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pilothouse::domain::acceptance::{Held, Offerer, Verdict, decide};
use pilothouse::domain::ids::ControllerId;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::proto::router::{
    Ack, ControllerList, HeldVersion, Hello, ListUpdate, ListVersion, Nack, RouterHeartbeat, RouterMessage, Welcome,
};
use pilothouse::rpc::list_codec;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::support::POLL;

/// How often it sends a heartbeat.
const BEAT: Duration = Duration::from_millis(100);
/// It leaves a controller that is silent for so long: three heartbeats.
const SILENCE_MAX: Duration = Duration::from_millis(1_600);

/// What it says of what it holds, wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    Nothing,
    Refused,
    OtherContent,
    OtherCluster,
}

/// What it does wrong. Updates are counted from 1: the first two are good lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// It refuses whatever comes from this update on.
    RefusesFrom(usize),
    /// It acknowledges this version or digest for its own.
    AcksOther(Lie),
    /// It answers nothing and sends no heartbeats from this update on.
    SilentFrom(usize),
    /// It answers this update by leaving.
    LeavesAt(usize),
    /// The same, and for good.
    GoneAt(usize),
    /// It acknowledges what it adopts from this update on, and keeps its list.
    KeepsFrom(usize),
    /// It acknowledges what it refuses.
    AcksAll,
    /// It does not answer what it refuses.
    AnswersNothing,
    /// Once it refused something, its heartbeats say this.
    HeartbeatSays(Lie),
    /// Once it refused something, or was welcomed badly or in silence, or started again, its hellos say this.
    HelloSays(Lie),
    /// It stays where it was welcomed with a protocol that it did not offer.
    StaysAfterBadWelcome,
    /// It acknowledges one list there before it leaves.
    AcksAfterBadWelcome,
    /// It never comes back from there.
    GoneAfterBadWelcome,
    /// It stays however long nothing comes.
    StaysInSilence,
    /// It never comes back from there.
    GoneAfterSilence,
    /// Once it has two lists, it does not come back to whoever ends its session.
    GoneWhenHungUp,
    /// It never comes back from a restart.
    GoneAfterRestart,
    /// It does not go to the controllers of its list.
    StaysAtItsSeed,
    /// It goes to the controllers of its list only, once it has three.
    LeavesItsSeed,
}

#[derive(Debug)]
struct Mind {
    fault: Fault,
    held: Held,
    open: BTreeSet<u64>,
    updates: usize,
    /// Version of what it refused last.
    refused: Option<ListVersion>,
    /// It lies from now on, if it ever does.
    shaken: bool,
    gone: bool,
    boot: u8,
}

impl Mind {
    fn held_version(&self, lie: Option<Lie>) -> Option<HeldVersion> {
        let mut held: HeldVersion = self.held.list.as_ref()?.held_version().into();
        match lie {
            None => {}
            Some(Lie::Nothing) => return None,
            Some(Lie::Refused) => held.version = Some(self.refused.unwrap_or(ListVersion { epoch: 1, index: 9_999 })),
            Some(Lie::OtherContent) => held.digest = Some(list_codec::digest(b"other").into()),
            Some(Lie::OtherCluster) => held.cluster_id = b"a third cluster!".to_vec(),
        }
        Some(held)
    }

    fn hello(&self) -> Hello {
        let lie = if let Fault::HelloSays(lie) = self.fault { Some(lie) } else { None };
        Hello {
            router_id: "wrong".into(),
            boot_id: vec![self.boot; 16],
            protocol_min: 1,
            protocol_max: 2,
            held: self.held_version(lie.filter(|_| self.shaken)),
            ..Hello::default()
        }
    }

    fn heartbeat(&self) -> RouterHeartbeat {
        let lie = if let Fault::HeartbeatSays(lie) = self.fault { Some(lie) } else { None };
        RouterHeartbeat {
            held: self.held_version(lie.filter(|_| self.refused.is_some())),
            ..RouterHeartbeat::default()
        }
    }

    fn is_mute(&self) -> bool {
        matches!(self.fault, Fault::SilentFrom(first) if self.updates >= first)
    }

    fn leaves_its_seed(&self) -> bool {
        self.fault == Fault::LeavesItsSeed && self.updates >= 3
    }

    /// Whether it stays where it was welcomed so; then who speaks there.
    fn welcomed(&mut self, welcome: &Welcome) -> Result<u64, Over> {
        self.open.insert(welcome.controller_id);
        let badly = welcome.protocol > 2;
        self.shaken |= badly;
        self.gone |= badly && self.fault == Fault::GoneAfterBadWelcome;
        match self.fault {
            Fault::StaysAfterBadWelcome | Fault::AcksAfterBadWelcome => {}
            _ if badly => return Err(Over),
            _ => {}
        }
        Ok(welcome.controller_id)
    }

    /// Whether it stays with somebody who has said nothing for so long.
    fn endures(&mut self, silence: Duration) -> Result<(), Over> {
        if silence < SILENCE_MAX || matches!(self.fault, Fault::StaysInSilence | Fault::StaysAfterBadWelcome) {
            return Ok(());
        }
        self.shaken = true;
        self.gone |= self.fault == Fault::GoneAfterSilence;
        Err(Over)
    }

    /// Whoever it was with ended the session.
    fn hung_up(&mut self) {
        self.gone |= self.fault == Fault::GoneWhenHungUp && self.updates >= 2;
    }

    /// The answer to an update; `None`: none.
    fn judge(&mut self, from: u64, update: ListUpdate) -> Option<FromRouter> {
        let (nonce, fault) = (update.nonce, self.fault);
        let nack = |reason: &str| Some(FromRouter::Nack(Nack { nonce, reason: reason.into(), ..Nack::default() }));
        if let Fault::RefusesFrom(first) = fault
            && self.updates >= first
        {
            return nack("bad_mood");
        }
        let from = ControllerId::new(from).map_or(Offerer::Unidentified, Offerer::Controller);
        let members = self.held.list.iter().flat_map(|held| held.list.controllers());
        self.held.member_answers = members.map(|member| member.id.get()).any(|id| self.open.contains(&id));
        let (version, digest) = match decide(&self.held, &list_codec::offer(&update, from)) {
            Verdict::Refuse(refusal) => {
                let decoded = ControllerList::decode(update.list).ok().and_then(|list| list.version);
                (self.refused, self.shaken) = (Some(decoded.unwrap_or(ListVersion { epoch: 1, index: 9_999 })), true);
                match fault {
                    Fault::AnswersNothing => return None,
                    Fault::AcksAll => (decoded, update.digest),
                    _ => return nack(refusal.code()),
                }
            }
            Verdict::Adopt(list) => {
                let said: HeldVersion = list.held_version().into();
                if !matches!(fault, Fault::KeepsFrom(first) if self.updates >= first) {
                    self.held = Held { member_answers: self.held.member_answers, ..Held::of(list) };
                }
                let said = if let Fault::AcksOther(lie) = fault { self.held_version(Some(lie)) } else { Some(said) };
                said.map_or((None, None), |said| (said.version, said.digest))
            }
            _ => (self.held_version(None).and_then(|held| held.version), update.digest),
        };
        Some(FromRouter::Ack(Ack { nonce, version, digest }))
    }
}

/// The router. It starts again when there is a file of this name.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    mind: Arc<Mutex<Mind>>,
    restart: PathBuf,
}

/// The session is over.
struct Over;

impl Wrong {
    pub(super) fn with(fault: Fault, restart: PathBuf) -> Self {
        let mind = Mind {
            fault,
            held: Held::default(),
            open: BTreeSet::new(),
            updates: 0,
            refused: None,
            shaken: false,
            gone: false,
            boot: 1,
        };
        Self { mind: Arc::new(Mutex::new(mind)), restart }
    }

    fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap()
    }

    /// On its seed, and on whichever other controller its list names.
    pub(super) async fn run(self, seed: String) {
        let listed = async {
            let mut again = interval(POLL);
            loop {
                again.tick().await;
                let held = self.mind().held.list.clone();
                let endpoints = held.iter().flat_map(|held| held.list.controllers()).flat_map(|one| &one.endpoints);
                let others: Vec<_> = endpoints.map(ToString::to_string).filter(|endpoint| *endpoint != seed).collect();
                let stays = self.mind().fault == Fault::StaysAtItsSeed;
                for endpoint in others.iter().filter(|_| !stays) {
                    self.visit(endpoint).await;
                }
            }
        };
        let seeded = async {
            let mut again = interval(POLL);
            loop {
                again.tick().await;
                if !self.mind().leaves_its_seed() {
                    self.visit(&seed).await;
                }
            }
        };
        tokio::join!(listed, seeded);
    }

    async fn visit(&self, endpoint: &str) {
        if self.mind().gone {
            return;
        }
        if let Ok(client) = RouterControlClient::connect(endpoint.to_owned()).await {
            let mut speaker = 0;
            let _ = self.session(client, &mut speaker).await;
            self.mind().open.remove(&speaker);
        }
    }

    async fn session(&self, mut client: RouterControlClient<Channel>, speaker: &mut u64) -> Result<(), Over> {
        let (outgoing, messages) = mpsc::channel(512);
        let say = |kind| outgoing.try_send(RouterMessage { kind: Some(kind) }).map_err(|_| Over);
        let boot = self.mind().boot;
        let hello = self.mind().hello();
        say(FromRouter::Hello(hello))?;
        let mut incoming = client.session(ReceiverStream::new(messages)).await.map_err(|_| Over)?.into_inner();
        let (mut beat, mut heard) = (interval(BEAT), Instant::now());
        loop {
            tokio::select! {
                message = incoming.message() => {
                    heard = Instant::now();
                    match message.ok().flatten().and_then(|message| message.kind) {
                        Some(Kind::Welcome(welcome)) => *speaker = self.mind().welcomed(&welcome)?,
                        Some(Kind::Update(update)) => {
                            let answer = self.update(*speaker, update)?;
                            answer.map_or(Ok(()), say)?;
                        }
                        Some(_) => {}
                        None => {
                            self.mind().hung_up();
                            return Err(Over);
                        }
                    }
                }
                _ = beat.tick(), if *speaker > 0 => {
                    self.restarted();
                    let mut mind = self.mind();
                    if mind.boot != boot || mind.gone {
                        return Err(Over);
                    }
                    mind.endures(heard.elapsed())?;
                    if !mind.is_mute() {
                        say(FromRouter::Heartbeat(mind.heartbeat()))?;
                    }
                }
            }
        }
    }

    fn update(&self, from: u64, update: ListUpdate) -> Result<Option<FromRouter>, Over> {
        let mut mind = self.mind();
        mind.updates += 1;
        match mind.fault {
            Fault::GoneAt(at) if mind.updates >= at => mind.gone = true,
            Fault::LeavesAt(at) if mind.updates == at => {}
            _ => {
                let answer = mind.judge(from, update);
                return Ok(answer.filter(|_| !mind.is_mute()));
            }
        }
        Err(Over)
    }

    fn restarted(&self) {
        if std::fs::remove_file(&self.restart).is_ok() {
            let mut mind = self.mind();
            mind.boot += 1;
            mind.shaken = true;
            mind.gone |= mind.fault == Fault::GoneAfterRestart;
        }
    }
}
