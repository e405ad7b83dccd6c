//! The fan-out: which list is published, and who follows it.
//!
//! There is one published list, judged as routers would judge it, in every encoding, as the very bytes that leave. Each
//! session watches it through a latest-wins slot of its own. It does not know where lists come from, nor gRPC.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::metrics::Metrics;
use crate::domain::controller_list::ControllerList;
use crate::domain::ids::RouterId;
use crate::ops::events::{Event, Events, Kind, Subject};
use crate::rpc::control_plane::{Held, NotServing, Published, Seat};
use crate::rpc::list_codec::{Codec, Publication};
use crate::rpc::session::{Farewell, LiveSession};

/// Most watches of one router on one controller: one is enough, and one that reconnects has two for a moment.
pub const WATCHES_PER_ROUTER_MAX: usize = 4;
/// Most sessions and watchers of one controller: below the 20,000 file descriptors of a usual process.
pub const SESSIONS_MAX: usize = 16_000;
/// How much a draining controller spreads its farewells for each session it has.
const FAREWELL_SPREAD_PER_SESSION: Duration = Duration::from_micros(500);
/// Longest spread of farewells: a stop takes 8 s at most.
pub(super) const FAREWELL_SPREAD_MAX: Duration = Duration::from_millis(1_500);

/// The fan-out of one controller.
#[derive(Debug)]
pub struct Hub {
    codec: Codec,
    events: Events,
    metrics: Metrics,
    published: watch::Sender<Option<Arc<Publication>>>,
    closing: watch::Sender<Option<Farewell>>,
    occupied: watch::Sender<usize>,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    sessions: BTreeMap<RouterId, Arc<LiveSession>>,
    /// Superseded sessions that have not left yet count too.
    leaving: usize,
    watchers: usize,
    /// Of these, each router's, where it is known whose they are.
    watches: BTreeMap<RouterId, usize>,
}

impl Seats {
    fn taken(&self) -> usize {
        self.sessions.len() + self.leaving + self.watchers
    }
}

impl Hub {
    /// A hub that has published nothing. The codec is given, so that a test can plant a faulty one.
    #[must_use]
    pub fn new(codec: Codec, events: Events, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            codec,
            events,
            metrics,
            published: watch::Sender::new(None),
            closing: watch::Sender::new(None),
            occupied: watch::Sender::new(0),
            seats: Mutex::default(),
        })
    }

    /// Publishes a list to every session, unless a router would refuse it: then nothing leaves, and the last good list
    /// stays. Whether the list is published now.
    pub fn publish(&self, list: &ControllerList) -> bool {
        let last = self.published.borrow().clone();
        let held = last.as_deref().map(Publication::held);
        if held.is_some_and(|held| *held.list == *list) {
            self.events.resolve(Kind::PublicationWithheld, &Subject::Itself);
            return true;
        }
        match self.codec.prepare(list, held) {
            Ok(publication) => {
                tracing::info!(version = %list.version(), controllers = list.controllers().len(), "publish list");
                self.metrics.published(list.version());
                self.published.send_replace(Some(Arc::new(publication)));
                self.events.resolve(Kind::PublicationWithheld, &Subject::Itself);
                true
            }
            Err(refusal) => {
                self.metrics.withheld(refusal.code());
                let message = format!("version {}: {refusal}", list.version());
                self.events.raise(Event::PublicationWithheld { reason: refusal.code(), message });
                false
            }
        }
    }

    /// The published list and every later one.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.subscribe()
    }

    /// The published list.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<Publication>> {
        self.published.borrow().clone()
    }

    /// Ends every session, and admits no new one.
    pub fn close(&self, farewell: Farewell) {
        // A removed controller that is then stopped has said what matters already.
        self.closing.send_if_modified(|closing| closing.is_none() && closing.replace(farewell).is_none());
    }

    /// Ends every session one by one, and admits no new one. Over how long they are spread.
    pub fn drain(&self) -> Duration {
        let sessions = u32::try_from(self.lock().taken()).unwrap_or(u32::MAX);
        let spread = FAREWELL_SPREAD_PER_SESSION.saturating_mul(sessions).min(FAREWELL_SPREAD_MAX);
        self.close(Farewell::Draining { spread });
        spread
    }

    /// Why all sessions end, once they do.
    #[must_use]
    pub fn closing(&self) -> Option<Farewell> {
        *self.closing.borrow()
    }

    /// Returns when the last session has left.
    pub async fn emptied(&self) {
        let mut occupied = self.occupied.subscribe();
        // The sender lives as long as this hub.
        let _ = occupied.wait_for(|occupied| *occupied == 0).await;
    }

    /// Seats a session. An older one of the same router ends; if it is of another start of the router's process, two
    /// routers may use one id, and that is an event.
    ///
    /// # Errors
    /// [`NotServing`] when the hub is closing or full.
    pub fn seat(self: &Arc<Self>, session: Arc<LiveSession>) -> Result<Seat, NotServing> {
        let router = session.router.clone();
        let older = {
            let mut seats = self.lock();
            self.check_room(&seats)?;
            let older = seats.sessions.insert(router.clone(), session.clone());
            seats.leaving += usize::from(older.is_some());
            self.count(&seats);
            older
        };
        if let Some(older) = older {
            let rival = older.boot != session.boot || session.boot.is_none();
            if older.end(Farewell::Superseded) && rival {
                self.events.raise(Event::SessionSuperseded { router: router.to_string() });
            }
        }
        Ok(self.seat_with(Whose::Session(session)))
    }

    /// Ends a session whose router has registered from a later start of its process, on whichever controller.
    pub fn outdated(&self, session: &LiveSession) {
        if session.end(Farewell::Superseded) {
            self.events.raise(Event::SessionSuperseded { router: session.router.to_string() });
        }
    }

    /// Seats a session that comes from such an earlier start, just to tell it so: a later one keeps its seat.
    ///
    /// # Errors
    /// [`NotServing`] when the hub is closing or full.
    pub fn seat_outdated(self: &Arc<Self>, session: Arc<LiveSession>) -> Result<Seat, NotServing> {
        {
            let mut seats = self.lock();
            self.check_room(&seats)?;
            seats.leaving += 1;
            self.count(&seats);
        }
        self.outdated(&session);
        Ok(self.seat_with(Whose::Session(session)))
    }

    /// Seats a watcher. One router takes few seats: with all that its connections allow, it would take everybody's.
    ///
    /// # Errors
    /// [`NotServing`] when the hub is closing or full, or this router watches often enough.
    pub fn seat_watcher(self: &Arc<Self>, router: Option<&RouterId>) -> Result<Seat, NotServing> {
        let mut seats = self.lock();
        self.check_room(&seats)?;
        if let Some(router) = router {
            let watches = seats.watches.entry(router.clone()).or_default();
            if *watches >= WATCHES_PER_ROUTER_MAX {
                return Err(NotServing::WatchesEnough { limit: WATCHES_PER_ROUTER_MAX });
            }
            *watches += 1;
        }
        seats.watchers += 1;
        self.count(&seats);
        drop(seats);
        Ok(self.seat_with(Whose::Watcher(router.cloned())))
    }

    /// The live sessions, ordered by router.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<LiveSession>> {
        self.lock().sessions.values().cloned().collect()
    }

    /// How many routers have a session here.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Whether a router has a session here.
    #[must_use]
    pub fn has_session(&self, router: &RouterId) -> bool {
        self.lock().sessions.contains_key(router)
    }

    /// A router refused a list.
    pub fn refused_by_router(&self, router: &RouterId, reason: &str, message: &str, late: bool) {
        self.metrics.refused_by_router(reason);
        self.events.raise(Event::RouterRefused {
            router: router.to_string(),
            reason: reason.to_owned(),
            message: format!("{reason}: {message}"),
            late,
        });
    }

    fn check_room(&self, seats: &Seats) -> Result<(), NotServing> {
        match *self.closing.borrow() {
            Some(Farewell::NotMember) => return Err(NotServing::NotMember),
            Some(_) => return Err(NotServing::Draining),
            None => {}
        }
        if seats.taken() >= SESSIONS_MAX { Err(NotServing::Full { limit: SESSIONS_MAX }) } else { Ok(()) }
    }

    fn seat_with(self: &Arc<Self>, whose: Whose) -> Seat {
        let guard = Box::new(Taken { hub: self.clone(), whose });
        Seat { lists: self.published.subscribe(), closing: self.closing.subscribe(), guard }
    }

    fn count(&self, seats: &Seats) {
        self.metrics.seats(seats.sessions.len(), seats.watchers);
        self.occupied.send_replace(seats.taken());
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat that is taken. Dropping it frees the seat, and nothing else: a newer session of the same router stays.
#[derive(Debug)]
struct Taken {
    hub: Arc<Hub>,
    whose: Whose,
}

#[derive(Debug)]
enum Whose {
    Session(Arc<LiveSession>),
    /// Of this router, where that is known.
    Watcher(Option<RouterId>),
}

impl Held for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = self.hub.lock();
        match &self.whose {
            Whose::Watcher(router) => {
                seats.watchers -= 1;
                if let Some(Entry::Occupied(mut watches)) = router.clone().map(|router| seats.watches.entry(router)) {
                    *watches.get_mut() -= 1;
                    if *watches.get() == 0 {
                        watches.remove();
                    }
                }
            }
            Whose::Session(session) => {
                let current = seats.sessions.get(&session.router).is_some_and(|seated| Arc::ptr_eq(seated, session));
                if current {
                    seats.sessions.remove(&session.router);
                } else {
                    seats.leaving -= 1;
                }
            }
        }
        self.hub.count(&seats);
    }
}

#[cfg(test)]
mod tests;
