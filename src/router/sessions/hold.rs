//! An open session, until it ends: offers go to the keeper and its verdicts back, heartbeats go both ways, and a better
//! controller is looked for while this one still serves.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::dial::Live;
use super::moving::Wanted;
use super::registrar::register;
use super::reports::Stated;
use super::timing::HEARTBEATS_MISSED_MAX;
use super::{Context, answers, excerpt, find};
use crate::domain::acceptance::Refusal;
use crate::domain::negotiation::ProtocolVersion;
use crate::domain::retry;
use crate::ops::events::Event;
use crate::proto::router::controller_message::Kind;
use crate::proto::router::router_message::Kind as FromRouter;
use crate::proto::router::{ControllerHeartbeat, Goodbye, ListUpdate, RouterHeartbeat, RouterMessage};
use crate::router::keeper::Answer;
use crate::rpc::list_codec::digest_from_wire;

/// Offers of one session that are being judged at a time; further messages wait in the stream.
const OFFERS_IN_FLIGHT_MAX: usize = 4;
/// So many messages to a controller must be able to wait before events are told: answers come first.
const ROOM_FOR_OTHERS: usize = OFFERS_IN_FLIGHT_MAX + 1;
/// Longest pause between a farewell to everybody and the move, so that a fleet does not move at once.
const DRAIN_SPREAD: Duration = Duration::from_millis(250);

/// How a session ended.
pub(super) enum End {
    /// A better one is open already.
    Moved(Box<Live>),
    /// Another router with this id took it.
    Superseded,
    /// Any other way.
    Over {
        /// How long the controller asks to be left alone.
        retry_after: Duration,
    },
}

impl End {
    const OVER: Self = Self::Over { retry_after: Duration::ZERO };
}

type Verdict = BoxFuture<'static, (u64, Result<Answer, oneshot::error::RecvError>)>;

struct Session {
    context: Arc<Context>,
    live: Live,
    verdicts: FuturesOrdered<Verdict>,
    heartbeat: Interval,
    heard: Instant,
    looking_for: Option<Wanted>,
    /// Resolves to nothing when it gives up.
    better: BoxFuture<'static, Option<Live>>,
    /// How many searches for a better controller went before, in a row.
    searches: u32,
    /// The controller ended a stream that it was about to end: only the search goes on, and only while it makes sense.
    closed: CancellationToken,
    registration: BoxFuture<'static, ()>,
    /// What this controller was told of what lasts here.
    stated: Stated,
    /// Set when the session has to end as soon as all verdicts are out.
    leaving: bool,
}

/// Holds a session until it ends.
/// `searches` counts the moves that went before, and is set back when this controller turns out to be a good one.
pub(super) async fn hold(context: &Arc<Context>, live: Live, searches: &mut u32) -> End {
    let mut heartbeat = tokio::time::interval(live.heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = Session {
        context: context.clone(),
        verdicts: FuturesOrdered::new(),
        heartbeat,
        heard: Instant::now(),
        looking_for: None,
        better: Box::pin(std::future::pending()),
        searches: *searches,
        closed: CancellationToken::new(),
        registration: Box::pin(std::future::pending()),
        stated: None,
        leaving: false,
        live,
    };
    if !session.is_foreign() {
        session.registration = Box::pin(register(context.clone(), session.live.client.clone()));
    }
    let end = session.run().await;
    *searches = session.searches;
    let Session { live, .. } = session;
    live.close(context.timing.close).await;
    end
}

impl Session {
    async fn run(&mut self) -> End {
        let mut known = self.context.known.clone();
        let mut happened = self.context.reports.events().newest();
        self.reconsider();
        while !(self.leaving && self.verdicts.is_empty()) {
            let open = !self.closed.is_cancelled();
            let has_room = self.verdicts.len() < OFFERS_IN_FLIGHT_MAX && !self.leaving && open;
            let silent = self.heard + self.live.heartbeat * HEARTBEATS_MISSED_MAX;
            let end = tokio::select! {
                message = self.live.incoming.message(), if has_room => match message {
                    Ok(Some(message)) => self.hear(message.kind).await,
                    Ok(None) => self.lost("the controller ended the stream"),
                    Err(status) => self.unreadable(&status).await,
                },
                Some((nonce, answer)) = self.verdicts.next() => self.answer(nonce, answer).await,
                _ = self.heartbeat.tick(), if open => self.beat().await,
                () = tokio::time::sleep_until(silent), if has_room => self.lost("it is silent"),
                () = self.live.claim.displaced() => Some(End::OVER),
                better = &mut self.better => Some(better.map_or(End::OVER, |better| End::Moved(Box::new(better)))),
                () = &mut self.registration => {
                    self.registration = Box::pin(std::future::pending());
                    None
                }
                Ok(()) = known.changed() => {
                    self.reconsider();
                    None
                }
                Ok(()) = happened.changed(), if self.live.takes_events && open => {
                    self.report();
                    None
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
        End::OVER
    }

    /// The list may have changed: is this controller still one to be on?
    fn reconsider(&mut self) {
        let known = self.context.known.borrow().clone();
        let Some(id) = self.live.speaker.id else { return };
        if known.retired.contains(&id) {
            tracing::info!(controller = %id, "leaving a controller that was removed from the cluster");
            self.leaving = true;
        } else if known.list.is_some() && !known.is_member(self.live.speaker.cluster, id) {
            self.look_for(Wanted::Member { led: self.live.sees_leader });
        } else if self.looking_for.is_some_and(Wanted::is_member) {
            self.stop_looking();
        }
    }

    async fn hear(&mut self, message: Option<Kind>) -> Option<End> {
        self.heard = Instant::now();
        match message {
            Some(Kind::Update(update)) => {
                self.offered(update).await;
                None
            }
            Some(Kind::Heartbeat(heartbeat)) => self.hear_heartbeat(&heartbeat).await,
            Some(Kind::Goodbye(goodbye)) => self.farewell(&goodbye),
            Some(Kind::EventsTaken(taken)) => {
                if self.context.reports.taken(taken.instance, taken.number) {
                    self.report();
                }
                None
            }
            Some(Kind::Welcome(_) | Kind::Refused(_)) => self.lost("it answered the hello twice"),
            // A newer controller's message: this build does not know it, and need not.
            None => None,
        }
    }

    async fn offered(&mut self, update: ListUpdate) {
        let nonce = update.nonce;
        let verdict = self.context.keeper.offer(update, self.live.speaker.clone()).await;
        self.verdicts.push_back(Box::pin(async move { (nonce, verdict.await) }));
    }

    async fn answer(&mut self, nonce: u64, answer: Result<Answer, oneshot::error::RecvError>) -> Option<End> {
        // The keeper is gone only when the whole agent starts over.
        let Ok(answer) = answer else { return Some(End::OVER) };
        // Nothing of a foreign controller is of use, and it occupies a session.
        self.leaving |= matches!(answer, Answer::Nack { refusal: Refusal::ForeignCluster { .. }, .. });
        if self.leaving {
            self.context.board.failed(self.live.claim.endpoint());
        }
        self.say(answers::message(nonce, &answer)).await
    }

    async fn hear_heartbeat(&mut self, heartbeat: &ControllerHeartbeat) -> Option<End> {
        self.context.keeper.heard(self.live.speaker.clone());
        let age = Duration::from_millis(heartbeat.leader_contact_age_ms);
        self.live.sees_leader = age <= self.context.timing.leader_contact_age_max;
        if !self.live.sees_leader {
            self.look_for(Wanted::Leader);
        } else if self.looking_for == Some(Wanted::Leader) {
            self.stop_looking();
            self.reconsider();
        } else if self.looking_for.is_none() {
            self.searches = 0;
        }
        // A push was lost: our own heartbeat tells the controller what is held, and it sends again.
        if self.misses_what(heartbeat) && self.verdicts.is_empty() { self.beat().await } else { None }
    }

    fn misses_what(&self, heartbeat: &ControllerHeartbeat) -> bool {
        let theirs = heartbeat.digest.as_ref().and_then(|digest| digest_from_wire(digest).ok().flatten());
        let ours = self.context.lists.borrow().as_ref().map(|held| held.digest);
        let structured = self.live.speaker.protocol >= ProtocolVersion::STRUCTURED;
        structured && theirs.is_some_and(|theirs| ours.is_none_or(|ours| ours.same_content(&theirs) == Some(false)))
    }

    fn farewell(&mut self, goodbye: &Goodbye) -> Option<End> {
        let retry_after = Duration::from_millis(goodbye.retry_after_ms.into()).min(self.context.timing.retry_after_max);
        let endpoint = self.live.claim.endpoint().clone();
        let (reason, hint) = (goodbye.reason.as_str(), excerpt(&goodbye.hint));
        tracing::info!(%endpoint, reason = excerpt(reason), hint, "the controller ends the session");
        self.context.board.failed(&endpoint);
        match reason {
            "superseded" if self.live.claim.is_displaced() => Some(End::OVER),
            "superseded" => {
                let router = self.context.router.to_string();
                self.context.instruments.events.raise(Event::SessionSuperseded { router });
                Some(End::Superseded)
            }
            "draining" => {
                self.look_for(Wanted::Any);
                None
            }
            "no_leader" => {
                self.look_for(Wanted::Leader);
                None
            }
            // Not a member any more, and whatever a newer controller may say.
            _ => Some(End::Over { retry_after }),
        }
    }

    /// Looks for a better session while this one goes on: make before break.
    fn look_for(&mut self, wanted: Wanted) {
        if self.looking_for.is_some_and(|already| already == wanted || already == Wanted::Any) {
            return;
        }
        self.looking_for = Some(wanted);
        self.better = Box::pin(search(self.context.clone(), wanted, self.searches, self.closed.clone()));
    }

    fn stop_looking(&mut self) {
        self.looking_for = None;
        self.better = Box::pin(std::future::pending());
    }

    async fn beat(&mut self) -> Option<End> {
        self.report();
        let (held, source) = {
            let lists = self.context.lists.borrow();
            let source = self.context.instruments.status().borrow().source.as_str();
            (lists.as_ref().map(|held| held.held_version().into()), source.to_owned())
        };
        let reached_controllers = self.context.board.reached().map(|id| id.get()).collect();
        let takes_events = self.live.takes_events;
        let conditions = if takes_events { self.context.reports.conditions(&mut self.stated) } else { None };
        self.say(FromRouter::Heartbeat(RouterHeartbeat { held, reached_controllers, source, conditions })).await
    }

    /// Tells what happened, when there is room for it: answers and heartbeats are not held up, and the next heartbeat
    /// tries again.
    fn report(&self) {
        if !self.live.takes_events || self.live.outgoing.capacity() < ROOM_FOR_OTHERS {
            return;
        }
        self.context.reports.next(|report| {
            self.live.outgoing.try_send(RouterMessage { kind: Some(FromRouter::Events(report)) }).is_ok()
        });
    }

    async fn say(&mut self, kind: FromRouter) -> Option<End> {
        let message = RouterMessage { kind: Some(kind) };
        let sent = self.live.outgoing.send_timeout(message, self.context.timing.send).await;
        sent.err().and_then(|_| self.lost("it takes no messages"))
    }

    /// The stream is of no use any more. One whose end was announced is only left when the next session stands, or when
    /// nobody else is to be had.
    fn lost(&mut self, reason: &'static str) -> Option<End> {
        let endpoint = self.live.claim.endpoint();
        tracing::info!(%endpoint, reason, "lost a session");
        self.context.board.failed(endpoint);
        if self.looking_for == Some(Wanted::Any) {
            self.closed.cancel();
            return None;
        }
        Some(End::OVER)
    }

    /// The stream broke. When that is because of what came over it, the operator hears of it.
    async fn unreadable(&mut self, status: &Status) -> Option<End> {
        if matches!(status.code(), Code::OutOfRange | Code::Internal | Code::DataLoss) && is_decoding(status) {
            let detail = status.message().to_owned();
            self.context.keeper.unreadable(self.live.speaker.clone(), detail).await;
        }
        tracing::debug!(code = ?status.code(), error = status.message(), "the stream broke");
        self.lost("the stream broke")
    }

    /// Of another cluster than ours: it may say so, but this router does not register there.
    fn is_foreign(&self) -> bool {
        let ours = self.context.known.borrow().cluster;
        ours.is_some_and(|ours| self.live.speaker.cluster != Some(ours))
    }
}

/// Looks for a better session, with growing pauses and for ever; when the present one is `closed` for one round only.
async fn search(context: Arc<Context>, wanted: Wanted, before: u32, closed: CancellationToken) -> Option<Live> {
    if wanted == Wanted::Any {
        tokio::time::sleep(DRAIN_SPREAD.mul_f64(f64::from((context.random)()) / f64::from(u32::MAX))).await;
        if let Ok(live) = find(&context, wanted).await {
            return Some(live);
        }
    }
    for attempt in before.. {
        tokio::select! {
            () = closed.cancelled() => return None,
            // Also before the first round: a controller that is no better must not make every slot hop.
            () = tokio::time::sleep(retry::delay(context.timing.improve, attempt, (context.random)())) => {}
        }
        if let Ok(live) = find(&context, wanted).await {
            return Some(live);
        }
    }
    None
}

/// Whether a status was made here, about bytes that came, and not by the network.
fn is_decoding(status: &Status) -> bool {
    status.message().contains("decod") || status.message().contains("compress")
}

impl Live {
    /// Ends the session: what is under way may still arrive.
    pub(super) async fn close(self, grace: Duration) {
        let Self { outgoing, mut incoming, .. } = self;
        drop(outgoing);
        let drained = async { while let Ok(Some(_)) = incoming.message().await {} };
        // Whether the controller ends its side in time is its own affair.
        let _ = tokio::time::timeout(grace, drained).await;
    }
}
