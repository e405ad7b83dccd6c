//! Who is on which controller: what keeps two sessions of one router off the same controller. It does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId};
use crate::router::candidates::{Candidate, Circumstances, Tier};
use crate::router::instruments::Instruments;
use crate::router::status::{SessionState, SessionStatus};

/// Who answered at a seed is believed for this long: then the seed may be tried again, since names move.
const ALIAS_VALID: Duration = Duration::from_secs(600);
/// Most endpoints whose failures and owners are remembered; beyond it they are forgotten, which only costs a dial.
const REMEMBERED_MAX: usize = 512;

/// All sessions of a router.
#[derive(Debug)]
pub struct Board {
    instruments: Instruments,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seats: BTreeMap<u64, Seat>,
    next: u64,
    aliases: BTreeMap<Endpoint, (ControllerId, Instant)>,
    failures: BTreeMap<Endpoint, u32>,
    /// Where the last dial failed.
    unreached: BTreeSet<Endpoint>,
}

#[derive(Debug)]
struct Seat {
    candidate: Candidate,
    answered: Option<Answered>,
    displaced: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Answered {
    by: Identity,
    order: u64,
}

/// Who answered, as it says itself. Ids are small numbers that every cluster uses: without the cluster they name nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `None` in protocol 1.
    pub id: Option<ControllerId>,
    /// The cluster that it says it is of.
    pub cluster: Option<ClusterId>,
    /// Whether that is another cluster than the router's.
    pub foreign: bool,
}

impl Seat {
    fn controller(&self) -> Option<ControllerId> {
        self.answered.map_or(self.candidate.controller, |answered| answered.by.id)
    }

    /// The controller of our cluster that this session keeps busy.
    fn occupies(&self) -> Option<ControllerId> {
        self.controller().filter(|_| !self.answered.is_some_and(|answered| answered.by.foreign))
    }

    /// On its way to a member of the held list whose last dial did not fail.
    fn may_reach_a_member(&self, unreached: &BTreeSet<Endpoint>) -> bool {
        self.answered.is_none() && self.candidate.tier == Tier::Held && !unreached.contains(&self.candidate.endpoint)
    }
}

impl Board {
    /// Without any session.
    #[must_use]
    pub fn new(instruments: Instruments) -> Arc<Self> {
        Arc::new(Self { instruments, inner: Mutex::default() })
    }

    /// The controllers with which there is a session.
    pub fn reached(&self) -> impl Iterator<Item = ControllerId> + use<> {
        let inner = self.lock();
        let reached: BTreeSet<_> =
            inner.seats.values().filter(|seat| seat.answered.is_some()).filter_map(Seat::occupies).collect();
        reached.into_iter()
    }

    /// Whether a member of the held list answers, or may be about to: one that is being dialed counts until that dial
    /// has failed, and from then on not before it answers again.
    pub fn member_answers(&self, is_member: impl Fn(Option<ClusterId>, ControllerId) -> bool) -> bool {
        let inner = self.lock();
        inner.seats.values().any(|seat| match seat.answered {
            Some(Answered { by: Identity { id: Some(id), cluster, .. }, .. }) => is_member(cluster, id),
            Some(_) => false,
            None => seat.may_reach_a_member(&inner.unreached),
        })
    }

    /// What the next choice has to respect.
    #[must_use]
    pub fn circumstances(&self) -> Circumstances {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.aliases.retain(|_, (_, until)| *until > now);
        Circumstances {
            busy: inner.seats.values().filter_map(Seat::occupies).collect(),
            busy_endpoints: inner.seats.values().map(|seat| seat.candidate.endpoint.clone()).collect(),
            aliases: inner.aliases.iter().map(|(endpoint, (id, _))| (endpoint.clone(), *id)).collect(),
            failures: inner.failures.clone(),
        }
    }

    /// Takes a candidate, unless somebody else took its controller or endpoint meanwhile.
    #[must_use]
    pub fn claim(self: &Arc<Self>, candidate: &Candidate) -> Option<Claim> {
        let mut inner = self.lock();
        let taken = |seat: &Seat| {
            seat.candidate.endpoint == candidate.endpoint
                || candidate.controller.is_some_and(|controller| seat.occupies() == Some(controller))
        };
        if inner.seats.values().any(taken) {
            return None;
        }
        let number = inner.next;
        inner.next += 1;
        let displaced = CancellationToken::new();
        let seat = Seat { candidate: candidate.clone(), answered: None, displaced: displaced.clone() };
        inner.seats.insert(number, seat);
        drop(inner);
        self.show();
        Some(Claim { board: self.clone(), number, candidate: candidate.clone(), displaced })
    }

    /// Remembers that nobody useful answered.
    pub fn failed(&self, endpoint: &Endpoint) {
        let mut inner = self.lock();
        if inner.failures.len() >= REMEMBERED_MAX && !inner.failures.contains_key(endpoint) {
            inner.failures.clear();
        }
        let failures = inner.failures.entry(endpoint.clone()).or_default();
        *failures = failures.saturating_add(1);
    }

    /// Remembers that a dial failed, which says more: nobody is there at all.
    pub fn unreached(&self, endpoint: &Endpoint) {
        self.failed(endpoint);
        let mut inner = self.lock();
        if inner.unreached.len() >= REMEMBERED_MAX {
            inner.unreached.clear();
        }
        inner.unreached.insert(endpoint.clone());
    }

    fn answered(&self, number: u64, by: Identity) {
        let id = by.id.filter(|_| !by.foreign);
        let mut inner = self.lock();
        let order = inner.next;
        inner.next += 1;
        // The controller ends the older of two sessions of one router; so do we, and do not take it for another router.
        for (other, seat) in &inner.seats {
            if id.is_some() && *other != number && seat.occupies() == id {
                seat.displaced.cancel();
            }
        }
        let Some(seat) = inner.seats.get_mut(&number) else { return };
        seat.answered = Some(Answered { by, order });
        let candidate = seat.candidate.clone();
        inner.failures.remove(&candidate.endpoint);
        inner.unreached.remove(&candidate.endpoint);
        if let Some(id) = id.filter(|id| candidate.controller != Some(*id)) {
            if inner.aliases.len() >= REMEMBERED_MAX {
                inner.aliases.clear();
            }
            inner.aliases.insert(candidate.endpoint, (id, Instant::now() + ALIAS_VALID));
        }
        drop(inner);
        self.show();
    }

    fn release(&self, number: u64) {
        self.lock().seats.remove(&number);
        self.show();
    }

    /// Brings the status up to date: the oldest open session is the active one.
    fn show(&self) {
        let inner = self.lock();
        let mut seats: Vec<_> = inner.seats.values().collect();
        seats.sort_by_key(|seat| seat.answered.map_or(u64::MAX, |answered| answered.order));
        let sessions = seats.iter().enumerate().map(|(place, seat)| SessionStatus {
            endpoint: seat.candidate.endpoint.clone(),
            controller: seat.controller(),
            foreign: seat.answered.is_some_and(|answered| answered.by.foreign),
            known_from: seat.candidate.tier,
            state: match seat.answered {
                None => SessionState::Connecting,
                Some(_) if place == 0 => SessionState::Active,
                Some(_) => SessionState::Warm,
            },
        });
        let sessions = sessions.collect();
        self.instruments.update(|status| status.sessions = sessions);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A candidate that one session has to itself, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    board: Arc<Board>,
    number: u64,
    candidate: Candidate,
    displaced: CancellationToken,
}

impl Claim {
    /// Where.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.candidate.endpoint
    }

    /// Where it is known from.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.candidate.tier
    }

    /// Somebody answered and said who it is. An older session of ours with the same controller ends.
    pub fn answered(&self, by: Identity) {
        self.board.answered(self.number, by);
    }

    /// Returns when another session of ours turned out to be on the same controller.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Whether another session of ours turned out to be on the same controller.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.displaced.is_cancelled()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.board.release(self.number);
    }
}
