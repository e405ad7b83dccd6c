//! The keeper: the one owner of the held list. Offers come in through a bounded queue and are judged one at a time, so
//! compare and store cannot interleave between two controllers.
//!
//! ```text
//! offer -> decide -> save -> publish -> answer (Ack or Nack)
//! ```
//!
//! `holdings` is the pure half: what is held and how it changes. This shell owns the disk and the channels. It does
//! not know sockets.

mod holdings;
mod saving;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use holdings::Holdings;
use saving::{SAVE_MAX, Saving, Unsaved};

use super::candidates::Known;
use super::generations::{Disk, Generation, Generations, Loaded, Registered, SetAside};
use super::instruments::{Instruments, chain};
use super::sessions::Board;
use super::status::{HeldStatus, Source};
use crate::domain::acceptance::{self, Content, HeldList, Offer, Offerer, Refusal, Verdict};
use crate::domain::controller_list::{Digest, ListVersion};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::negotiation::ProtocolVersion;
use crate::ops::events::{Event, Kind, Subject};
use crate::proto::router::ListUpdate;
use crate::rpc::list_codec;

/// Most offers and notices that wait for the keeper; a session that finds the queue full waits.
pub const QUEUE_MAX: usize = 64;
/// Longest wait for a place in that queue: beyond it the keeper is stuck, and the session starts over.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Who speaks, and how it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// Who it says it is; `None` in protocol 1.
    pub id: Option<ControllerId>,
    /// The cluster that it says it is of; `None` in protocol 1.
    pub cluster: Option<ClusterId>,
    /// Where it answered.
    pub endpoint: Endpoint,
    /// The protocol of the session.
    pub protocol: ProtocolVersion,
}

/// What the keeper answers to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The offer is held, or says nothing new.
    Ack {
        /// What is held now; `None` in protocol 1.
        version: Option<ListVersion>,
        /// Digest of it; in protocol 1 of what was offered.
        digest: Digest,
    },
    /// The held list stays.
    Nack {
        /// Why.
        refusal: Refusal,
        /// Whether the offer was only overtaken by a newer one.
        late: bool,
    },
}

enum Request {
    Offer { update: ListUpdate, from: Speaker, reply: oneshot::Sender<Answer> },
    Heard(Speaker),
    Unreadable { from: Speaker, detail: String },
    Registered(Registered),
    Answer(oneshot::Sender<()>),
}

/// The way to the keeper. Clones share its queue.
#[derive(Clone)]
pub struct KeeperHandle {
    requests: mpsc::Sender<Request>,
}

impl KeeperHandle {
    /// Puts an offer before the keeper. The receiver fails only when the keeper is gone or stuck.
    pub async fn offer(&self, update: ListUpdate, from: Speaker) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        // When the queue is closed or stays full the reply is dropped, which the receiver notices.
        self.send(Request::Offer { update, from, reply }).await;
        answer
    }

    async fn send(&self, request: Request) {
        let _ = self.requests.send_timeout(request, QUEUE_WAIT_MAX).await;
    }

    /// Says that a controller was heard. Lossy: the next heartbeat says it again.
    pub fn heard(&self, from: Speaker) {
        let _ = self.requests.try_send(Request::Heard(from));
    }

    /// Remembers boot and sequence of the registration.
    pub async fn registered(&self, registered: Registered) {
        self.send(Request::Registered(registered)).await;
    }

    /// Says that an offer could not even be read as a message.
    pub async fn unreadable(&self, from: Speaker, detail: String) {
        self.send(Request::Unreadable { from, detail }).await;
    }

    /// By which it can be asked whether it answers.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.requests.downgrade())
    }
}

/// A way to the keeper that keeps nothing alive.
#[derive(Debug, Clone)]
pub struct Pulse(mpsc::WeakSender<Request>);

impl Pulse {
    /// Whether the keeper comes to answer; one that is gone never does.
    pub async fn beats(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        // The handle is given back before the answer is awaited: the keeper ends with the last one.
        let asked = match self.0.upgrade() {
            Some(requests) => requests.send_timeout(Request::Answer(reply), QUEUE_WAIT_MAX).await.is_ok(),
            None => false,
        };
        asked && answer.await.is_ok()
    }
}

/// Where what the keeper holds can be followed. The senders outlive a keeper that fails.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The list in use.
    pub lists: watch::Sender<Option<HeldList>>,
    /// Everything that is known about where controllers are.
    pub known: watch::Sender<Arc<Known>>,
    /// Everything that is held, for the next keeper: the disk may lag behind.
    last: watch::Sender<Option<Arc<Holdings>>>,
}

/// The owner of the held list.
pub struct Keeper {
    holdings: Holdings,
    saving: Saving,
    /// `SAVE_MAX`, except in tests.
    save_max: Duration,
    disk: Arc<dyn Disk>,
    published: Published,
    instruments: Instruments,
    board: Arc<Board>,
    random: Arc<dyn Fn() -> u32 + Send + Sync>,
    requests: mpsc::Receiver<Request>,
    unsaved: Option<Unsaved>,
    /// What was adopted last in this process, and when.
    adopted: Option<(ListVersion, Instant)>,
}

impl Keeper {
    /// Takes over what a data directory held, says what could not be used, and publishes the rest.
    pub fn new(
        (generations, loaded): (Generations, Loaded),
        seeds: Vec<Endpoint>,
        disk: Arc<dyn Disk>,
        published: Published,
        instruments: Instruments,
        board: Arc<Board>,
        random: Arc<dyn Fn() -> u32 + Send + Sync>,
    ) -> (Self, KeeperHandle) {
        let (sender, requests) = mpsc::channel(QUEUE_MAX);
        loaded.set_aside.iter().for_each(|file| report_set_aside(&instruments, file));
        let lost = loaded.trust.floor.is_some() || !loaded.set_aside.is_empty();
        let holdings = Holdings::from_loaded(loaded, seeds);
        // A keeper before this one, in this process, may have adopted what it could not save.
        let last = published.last.borrow().clone();
        let (holdings, lags) = holdings.resumed(last.as_deref());
        report_start(&instruments, &holdings, lost);
        let (saving, unsaved) = (Saving::Idle(generations), lags.then(|| Unsaved::new(random())));
        instruments.saved(!lags);
        let keeper = Self {
            holdings,
            saving,
            save_max: SAVE_MAX,
            disk,
            published,
            instruments,
            board,
            random,
            requests,
            unsaved,
            adopted: None,
        };
        keeper.publish();
        (keeper, KeeperHandle { requests: sender })
    }

    /// Until every handle is gone.
    pub async fn run(mut self) {
        loop {
            let save_again = self.unsaved.as_ref().map(|unsaved| unsaved.next);
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.handle(request).await,
                    None => return,
                },
                () = until(save_again) => self.save().await,
            }
        }
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Offer { update, from, reply } => {
                let answer = self.judge(update, from).await;
                // The session may have ended meanwhile; what was adopted stays adopted.
                let _ = reply.send(answer);
            }
            Request::Heard(from) => {
                if self.holdings.is_confirmed_by(&from) {
                    self.confirmed();
                }
                if self.holdings.contact(&from) {
                    tracing::info!(endpoint = %from.endpoint, "a member of the newest list answers: the reserve is cleared");
                    self.save_reserve().await;
                    self.publish();
                }
            }
            Request::Registered(registered) => self.save_registration(registered).await,
            // Whoever asked may have given up.
            Request::Answer(reply) => _ = reply.send(()),
            Request::Unreadable { from, detail } => _ = self.refuse(&from, &Refusal::Undecodable { detail }),
        }
    }

    async fn judge(&mut self, update: ListUpdate, from: Speaker) -> Answer {
        let offer = read(&update, &from, self.holdings.held.cluster);
        self.holdings.held.member_answers =
            self.board.member_answers(|cluster, id| self.holdings.is_member(cluster, id));
        match acceptance::decide(&self.holdings.held, &offer) {
            Verdict::Adopt(held) => {
                self.adopt(Generation {
                    held,
                    protocol: from.protocol,
                    bytes: update.list,
                    adopted_ms: self.disk.now_ms(),
                })
                .await;
                tracing::info!(from = %from.endpoint, version = %self.holdings.version_text(), "adopted a controller list");
                self.confirmed();
                self.holdings.acknowledged()
            }
            Verdict::Merge(hints) => {
                tracing::info!(from = %from.endpoint, hints = hints.len(), "kept the addresses of a protocol 1 offer as hints");
                self.holdings.held.hints = hints;
                self.instruments.merged();
                self.publish();
                Answer::Ack { version: None, digest: list_codec::digest(&update.list) }
            }
            Verdict::Unchanged => {
                self.instruments.unchanged();
                match offer.content {
                    Content::Structured { .. } => {
                        if from.id.is_some_and(|id| self.holdings.is_member(from.cluster, id)) {
                            self.confirmed();
                        }
                        self.holdings.acknowledged()
                    }
                    _ => Answer::Ack { version: None, digest: list_codec::digest(&update.list) },
                }
            }
            Verdict::Refuse(refusal) => {
                let late = self.refuse(&from, &refusal);
                Answer::Nack { refusal, late }
            }
        }
    }

    async fn adopt(&mut self, generation: Generation) {
        self.adopted = Some((generation.held.list.version(), Instant::now()));
        self.holdings.adopt(generation);
        self.instruments.adopted();
        self.unsaved = None;
        self.save().await;
        self.publish();
    }

    /// What is held is the newest list again, and known to be: nothing older is in use any more.
    fn confirmed(&self) {
        for kind in [Kind::FellBack, Kind::RunningOnSeeds] {
            self.instruments.events.resolve(kind, &Subject::Itself);
        }
    }

    /// Says that an offer is refused, and whether it was only late.
    fn refuse(&self, from: &Speaker, refusal: &Refusal) -> bool {
        let late = self.adopted.is_some_and(|(version, at)| refusal.is_late(version, at.elapsed()));
        let at = from.endpoint.to_string();
        let from = from.id.map_or_else(|| Subject::Address(at.clone()), |id| Subject::Controller(id.to_string()));
        self.instruments.refused(refusal.code());
        self.instruments.events.raise(Event::OfferRefused {
            from,
            at,
            late,
            reason: refusal.code(),
            message: refusal.to_string(),
            hint: refusal.hint(),
        });
        late
    }

    fn publish(&self) {
        let holdings = &self.holdings;
        // First, so that whatever a follower has seen the next keeper knows too.
        self.published.last.send_replace(Some(Arc::new(holdings.clone())));
        self.published.known.send_replace(Arc::new(holdings.known()));
        self.published.lists.send_if_modified(|published| {
            let changed = *published != holdings.held.list;
            published.clone_from(&holdings.held.list);
            changed
        });
        self.instruments.update(|status| {
            status.source = holdings.source;
            status.held = holdings.held.list.as_ref().map(HeldStatus::of);
            status.cluster = holdings.trust.cluster;
            status.floor = holdings.trust.floor.map(|floor| floor.version);
            status.reserve.clone_from(&holdings.reserve);
            status.hints = holdings.held.hints.len();
        });
    }
}

/// An update as `decide` takes it. A session's encoding is agreed in its hello: another one is not read, so that nobody
/// gets a structured list past the rules for protocol 1 or the other way round.
fn read(update: &ListUpdate, from: &Speaker, ours: Option<ClusterId>) -> Offer {
    // Another cluster's ids name nobody here.
    let id = from.id.filter(|_| ours.is_none() || from.cluster == ours);
    let offerer = id.map_or(Offerer::Unidentified, Offerer::Controller);
    if update.protocol == from.protocol.get() {
        return list_codec::offer(update, offerer);
    }
    let detail = format!("its encoding is {}, this session speaks protocol {}", update.protocol, from.protocol);
    Offer { from: offerer, encoded_bytes: update.list.len(), content: Content::Undecodable { detail } }
}

fn report_set_aside(instruments: &Instruments, file: &SetAside) {
    instruments.metrics.file_rejected(&file.path.file_name().unwrap_or_default().to_string_lossy());
    instruments.events.raise(Event::FileSetAside {
        path: file.path.display().to_string(),
        kept_as: file
            .kept_as
            .as_ref()
            .map_or_else(|| "nothing: it could not be renamed".into(), |path| path.display().to_string()),
        message: chain(&file.why),
    });
}

fn report_start(instruments: &Instruments, holdings: &Holdings, lost: bool) {
    let version = holdings.version_text();
    match holdings.source {
        Source::Newest => tracing::info!(%version, "starting from the newest saved list"),
        Source::Previous => instruments.events.raise(Event::FellBack {
            to: "previous",
            message: format!("the newest saved list cannot be used; using version {version}"),
        }),
        Source::Seeds => instruments.events.raise(Event::RunningOnSeeds {
            first: !lost,
            message: if lost {
                "no saved list can be used; using the controllers of the configuration".into()
            } else {
                "no list was saved yet; using the controllers of the configuration".into()
            },
        }),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
