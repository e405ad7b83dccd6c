//! One router's session, from hello to goodbye.
//!
//! Each session is a task of its own with one latest-wins slot: a router that does not read delays nobody else, and
//! when it reads again it gets the newest list, not a queue of old ones.

mod offers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tonic::{Code, Status, Streaming};

use self::offers::{Answered, Offers};
use super::control_plane::{ControlPlane, Seat, Standing};
use super::convert::session::{self as convert, Opening};
use super::guard::not_his;
use super::list_codec::{Encoded, Publication, digest_from_wire, list_version_from_wire};
use super::router_service::Pace;
use super::session::{Farewell, LiveSession, MISSED_HEARTBEATS_MAX, STAYS_AFTER_GOODBYE, excerpt};
use super::status::refusal;
use crate::domain::access::Caller;
use crate::domain::controller_list::{Digest, HeldVersion};
use crate::domain::ids::ClusterId;
use crate::domain::negotiation::{ProtocolVersion, negotiate};
use crate::proto::router::controller_message::Kind;
use crate::proto::router::router_message::Kind as FromRouter;
use crate::proto::router::{Ack, ControllerMessage, EventReport, EventsTaken, Nack, RouterMessage};

type ToRouter = mpsc::Sender<Result<ControllerMessage, Status>>;

/// The session is over; nothing more can or need be said.
struct Over;

pub(super) async fn run<P: ControlPlane>(
    plane: Arc<P>,
    pace: Pace,
    (caller, mut incoming): (Caller, Streaming<RouterMessage>),
    to_router: ToRouter,
) {
    let voice = Voice { to_router, pace };
    let opened = match open(&*plane, pace, &caller, &mut incoming).await {
        Ok(opened) => opened,
        Err(refused) => return voice.last(refused).await,
    };
    let (standing, live, seat, welcome) = opened;
    if voice.say(welcome).await.is_err() {
        return;
    }
    let ending = live.ending();
    let mut session =
        Session { plane, pace, cluster: standing.cluster, live, voice, pushed: None, offers: Offers::default() };
    // Either way the seat is given back here.
    let _ = session.serve(incoming, seat, ending).await;
}

/// Hello, negotiation, seat. What is wrong is said in the protocol's own words.
async fn open<P: ControlPlane>(
    plane: &P,
    pace: Pace,
    caller: &Caller,
    incoming: &mut Streaming<RouterMessage>,
) -> Result<(Standing, Arc<LiveSession>, Seat, Kind), Result<Kind, Status>> {
    let hello = match tokio::time::timeout(pace.hello, incoming.message()).await {
        Err(_) => return Err(Ok(convert::hello_missing(pace.hello))),
        Ok(Err(status)) => return Err(Err(unreadable(&status))),
        Ok(Ok(None)) => return Err(Ok(convert::invalid("the stream ended before a hello", "send Hello first"))),
        Ok(Ok(Some(RouterMessage { kind: Some(FromRouter::Hello(hello)) }))) => hello,
        Ok(Ok(Some(_))) => {
            return Err(Ok(convert::invalid("the first message is not a hello", "send Hello first")));
        }
    };
    let opening: Opening =
        convert::opening(hello).map_err(|why| Ok(convert::invalid(&why.to_string(), "correct the hello")))?;
    if !caller.may_speak_for_router(&opening.router) {
        return Err(Err(not_his(caller, &format!("router {}", opening.router))));
    }
    let standing = plane.standing().map_err(|why| Ok(convert::not_serving(why)))?;
    let agreed = negotiate(&standing.dialect, &opening.dialect)
        .map_err(|why| Ok(convert::incompatible(&why, standing.dialect.protocols)))?;
    let Opening { router, boot, software_version, held, .. } = opening;
    let live = Arc::new(LiveSession::new(router, boot, &software_version, agreed.protocol, held));
    let seat = plane.seat(live.clone()).map_err(|why| Ok(convert::not_serving(why)))?;
    let welcome = convert::welcome(&standing, &agreed, plane.leader(), pace.heartbeat);
    Ok((standing, live, seat, welcome))
}

/// Until this session, or all of this controller, have to end. One whose hub is gone is draining too.
pub(super) async fn closing(closing: &mut watch::Receiver<Option<Farewell>>) -> Farewell {
    let farewell = closing.wait_for(Option::is_some).await.ok().and_then(|farewell| *farewell);
    farewell.unwrap_or(Farewell::Draining { spread: Duration::ZERO })
}

fn unreadable(status: &Status) -> Status {
    let hint = "send messages of pilothouse.router.v1 within 256 KiB";
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            refusal(Code::ResourceExhausted, "oversized", excerpt(status.message()), hint)
        }
        _ => refusal(Code::InvalidArgument, "invalid", excerpt(status.message()), hint),
    }
}

fn mute() -> Status {
    let message = format!("nothing was heard for {MISSED_HEARTBEATS_MAX} heartbeats");
    refusal(Code::DeadlineExceeded, "mute", message, "send a heartbeat as often as Welcome says")
}

/// The way out to the router.
struct Voice {
    to_router: ToRouter,
    pace: Pace,
}

impl Voice {
    async fn say(&self, kind: Kind) -> Result<(), Over> {
        let message = ControllerMessage { kind: Some(kind) };
        self.to_router.send_timeout(Ok(message), self.pace.send).await.map_err(|_| Over)
    }

    async fn last(&self, last: Result<Kind, Status>) {
        let last = last.map(|kind| ControllerMessage { kind: Some(kind) });
        // Whoever does not read it sees the stream end all the same.
        let _ = self.to_router.send_timeout(last, self.pace.send).await;
    }
}

/// The newest list that was sent.
struct Pushed {
    nonce: u64,
    digest: Digest,
    at: Instant,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Ack,
    Nack,
}

struct Session<P> {
    plane: Arc<P>,
    pace: Pace,
    cluster: ClusterId,
    live: Arc<LiveSession>,
    voice: Voice,
    pushed: Option<Pushed>,
    offers: Offers,
}

impl<P: ControlPlane> Session<P> {
    async fn serve(
        &mut self,
        mut incoming: Streaming<RouterMessage>,
        mut seat: Seat,
        mut ending: watch::Receiver<Option<Farewell>>,
    ) -> Result<(), Over> {
        let mut heartbeat = tokio::time::interval(self.pace.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.offer(&mut seat).await?;
        loop {
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.hear(message, &mut seat).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        self.voice.last(Err(unreadable(&status))).await;
                        return Err(Over);
                    }
                },
                changed = seat.lists.changed() => {
                    changed.map_err(|_| Over)?;
                    self.offer(&mut seat).await?;
                }
                _ = heartbeat.tick() => {
                    if self.live.silence() > self.pace.heartbeat * MISSED_HEARTBEATS_MAX {
                        self.voice.last(Err(mute())).await;
                        return Err(Over);
                    }
                    self.beat(&seat).await?;
                }
                // Its sender lives in the session itself.
                farewell = closing(&mut ending) => {
                    self.leave(farewell, &mut incoming).await;
                    return Ok(());
                }
                farewell = closing(&mut seat.closing) => {
                    self.leave(farewell, &mut incoming).await;
                    return Ok(());
                }
                () = self.voice.to_router.closed() => return Ok(()),
            }
        }
    }

    /// Offers the newest list, unless the router holds a newer one than this controller knows.
    async fn offer(&mut self, seat: &mut Seat) -> Result<(), Over> {
        let newest = seat.lists.borrow_and_update().clone();
        let Some(newest) = newest else { return Ok(()) };
        if self.holds_newer(&newest) {
            return Ok(());
        }
        let encoded = newest.encoding(self.live.protocol);
        let (nonce, digest) = (self.offers.make(newest.held().list.version()), encoded.digest);
        self.voice.say(Kind::Update(encoded.update(nonce))).await?;
        self.pushed = Some(Pushed { nonce, digest, at: Instant::now(), answer: Answer::None });
        Ok(())
    }

    fn holds_newer(&self, newest: &Publication) -> bool {
        let list = &newest.held().list;
        let held = self.live.facts().held.filter(|held| held.cluster == list.identity().cluster);
        held.is_some_and(|held| held.version > list.version())
    }

    async fn beat(&self, seat: &Seat) -> Result<(), Over> {
        let digest = seat.lists.borrow().as_ref().map(|newest| newest.encoding(self.live.protocol).digest);
        self.voice.say(convert::heartbeat(digest, self.plane.leader())).await
    }

    async fn hear(&mut self, message: RouterMessage, seat: &mut Seat) -> Result<(), Over> {
        match message.kind {
            Some(FromRouter::Ack(ack)) => self.acknowledged(&ack),
            Some(FromRouter::Nack(nack)) => self.refused(&nack).await?,
            Some(FromRouter::Heartbeat(mut heartbeat)) => {
                if let Some(conditions) = heartbeat.conditions.take() {
                    self.plane.lasts_on_router(&self.live.router, conditions);
                }
                convert::hear_heartbeat(&self.live, heartbeat);
                let newest = seat.lists.borrow().clone();
                if newest.is_some_and(|newest| self.missed(&newest)) {
                    self.offer(seat).await?;
                }
            }
            Some(FromRouter::Events(report)) => self.told(report).await?,
            Some(FromRouter::Hello(_)) => {
                let why = convert::invalid("a second hello came in one session", "open a new session instead");
                self.voice.last(Ok(why)).await;
                return Err(Over);
            }
            // A newer router's message: this build does not know it, and need not.
            None => self.live.hear(|_| {}),
        }
        Ok(())
    }

    fn acknowledged(&mut self, ack: &Ack) {
        let cluster = self.cluster;
        let digest = ack.digest.as_ref().and_then(|digest| digest_from_wire(digest).ok().flatten());
        let said = ack.version.as_ref().and_then(list_version_from_wire);
        // A router of protocol 1 knows no versions: it holds what it acknowledges.
        let unversioned = self.live.protocol < ProtocolVersion::STRUCTURED;
        let version = match self.offers.answer(ack.nonce) {
            Answered::Offer(offered) if unversioned => said.or(Some(offered)),
            _ => said,
        };
        self.live.hear(|facts| {
            if let Some(version) = version {
                facts.held = Some(HeldVersion { cluster, version, digest });
            }
            facts.last_refusal.clear();
        });
        self.answered(ack.nonce, Answer::Ack);
    }

    /// Each refusal is an event, so one offer has one.
    async fn refused(&mut self, nack: &Nack) -> Result<(), Over> {
        match self.offers.answer(nack.nonce) {
            Answered::Offer(_) => {}
            Answered::Late => {
                self.live.hear(|_| {});
                return Ok(());
            }
            Answered::Nothing => {
                let message = "a refusal came of an offer that does not wait for one";
                let hint = "answer each offer once, with its nonce";
                self.voice.last(Err(refusal(Code::InvalidArgument, "invalid", message, hint))).await;
                return Err(Over);
            }
        }
        let (reason, message) = (excerpt(&nack.reason), excerpt(&nack.message));
        self.live.hear(|facts| facts.last_refusal.clone_from(&reason));
        // What else a router calls late is not believed: it has only one way to be so.
        let late = nack.late && reason == "stale";
        self.plane.refused_by_router(&self.live.router, &reason, &message, late);
        self.answered(nack.nonce, Answer::Nack);
        Ok(())
    }

    /// Events are of the router whose session this is. What is not taken it tells again.
    async fn told(&mut self, report: EventReport) -> Result<(), Over> {
        self.live.hear(|_| {});
        let instance = report.instance;
        match self.plane.told_by_router(&self.live.router, report) {
            Some(number) => self.voice.say(Kind::EventsTaken(EventsTaken { instance, number })).await,
            None => Ok(()),
        }
    }

    fn answered(&mut self, nonce: u64, answer: Answer) {
        if let Some(pushed) = self.pushed.as_mut().filter(|pushed| pushed.nonce == nonce) {
            pushed.answer = answer;
        }
    }

    /// Whether the router's heartbeat shows that it missed the newest list.
    fn missed(&self, newest: &Publication) -> bool {
        let Some(pushed) = &self.pushed else { return true };
        let encoded: &Encoded = newest.encoding(self.live.protocol);
        let patience = if pushed.answer == Answer::Nack { self.pace.offer_again } else { self.pace.heartbeat / 2 };
        if pushed.at.elapsed() < patience {
            return false;
        }
        if encoded.protocol < ProtocolVersion::STRUCTURED {
            // What such a router holds cannot be compared with what was sent: only its answer counts.
            return pushed.answer != Answer::Ack || pushed.digest != encoded.digest;
        }
        let list = &newest.held().list;
        self.live.facts().held.is_none_or(|held| {
            let same = held.digest.and_then(|digest| digest.same_content(&encoded.digest));
            held.version != list.version() || same == Some(false)
        })
    }

    async fn leave(&self, farewell: Farewell, incoming: &mut Streaming<RouterMessage>) {
        let draining = matches!(farewell, Farewell::Draining { .. });
        if let Farewell::Draining { spread } = farewell {
            let share = f64::from(self.plane.random()) / f64::from(u32::MAX);
            tokio::time::sleep(spread.mul_f64(share)).await;
        }
        self.voice.last(Ok(convert::goodbye(farewell))).await;
        tracing::debug!(router = %self.live.router, "the session says goodbye");
        if draining {
            // Make before break: it is for the router to close, once it has another session.
            let closed = async { while let Ok(Some(_)) = incoming.message().await {} };
            tokio::select! {
                () = closed => {}
                () = self.voice.to_router.closed() => {}
                () = tokio::time::sleep(STAYS_AFTER_GOODBYE) => {}
            }
        }
    }
}
