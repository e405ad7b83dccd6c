//! The ring of what happened, and the conditions that last. Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{Event, Subject};
use super::kind::Kind;

/// Most events that a process keeps; of the kind of which most are kept the oldest makes room.
pub const EVENTS_KEPT_MAX: usize = 256;
/// Most conditions of one process that may last at once: far more than it has things that can be wrong. One more is kept
/// as an event, and never said to be over.
pub const LASTING_MAX: usize = 128;

/// What an event says about its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It happened, and that was it.
    Once,
    /// It is so from now on.
    Began,
    /// It is not so any more.
    Over,
}

impl Phase {
    /// Stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Began => "began",
            Self::Over => "over",
        }
    }

    /// By its stable name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Once, Self::Began, Self::Over].into_iter().find(|phase| phase.as_str() == name)
    }
}

/// An event, its number, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// From 1, rising by 1 within one start of a process.
    pub number: u64,
    /// Since 1970.
    pub at: Duration,
    /// Whether it happened, began or is over.
    pub phase: Phase,
    /// What happened.
    pub event: Event,
}

/// What came after a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The kept ones, oldest first.
    pub events: Vec<Recorded>,
    /// How many came after that number and are not kept any more.
    pub dropped: u64,
}

/// What happened, and what lasts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    kept: VecDeque<Recorded>,
    lasting: BTreeMap<(Kind, Subject), Recorded>,
    newest: u64,
}

impl Ledger {
    /// Keeps an event. Returns its number; `None` when it is a condition that lasts already, in the same words.
    pub(super) fn raise(&mut self, event: Event, at: Duration) -> Option<u64> {
        if !event.kind().lasts() {
            return Some(self.keep(Phase::Once, event, at).number);
        }
        let name = (event.kind(), event.subject());
        let before = self.lasting.get(&name);
        if before.is_some_and(|before| before.event == event) {
            return None;
        }
        // In other words than before it still began when it began.
        let began = before.map_or(at, |before| before.at);
        let room = before.is_some() || self.lasting.len() < LASTING_MAX;
        let kept = self.keep(Phase::Began, event, at);
        let number = kept.number;
        if room {
            let lasting = Recorded { at: began, ..kept.clone() };
            self.lasting.insert(name, lasting);
        }
        Some(number)
    }

    /// Keeps that a condition is over; nothing when it did not last.
    pub(super) fn resolve(&mut self, kind: Kind, subject: &Subject, at: Duration) -> Option<Recorded> {
        let lasted = self.lasting.remove(&(kind, subject.clone()))?;
        Some(self.keep(Phase::Over, lasted.event, at).clone())
    }

    pub(super) fn after(&self, number: u64) -> Page {
        let after = |kept: &&Recorded| kept.number > number;
        let events: Vec<_> = self.kept.iter().filter(after).cloned().collect();
        let came = self.newest.saturating_sub(number);
        Page { dropped: came.saturating_sub(events.len() as u64), events }
    }

    pub(super) fn lasting(&self) -> Vec<Recorded> {
        self.lasting.values().cloned().collect()
    }

    /// How many conditions of this kind last.
    pub(super) fn lasting_of(&self, kind: Kind) -> i64 {
        let count = self.lasting.keys().filter(|(lasts, _)| *lasts == kind).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn keep(&mut self, phase: Phase, event: Event, at: Duration) -> &Recorded {
        if self.kept.len() == EVENTS_KEPT_MAX {
            self.make_room();
        }
        self.newest += 1;
        self.kept.push_back(Recorded { number: self.newest, at, phase, event });
        self.kept.back().expect("one was just put there")
    }

    /// The oldest of the kind of which most are kept goes: what a stranger can bring about as often as he likes, such as a
    /// token that is worth nothing, pushes out nothing but itself.
    fn make_room(&mut self) {
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        for kept in &self.kept {
            *counts.entry(kept.event.kind()).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let oldest = self.kept.iter().position(|kept| counts.get(&kept.event.kind()).copied() == most);
        if let Some(oldest) = oldest {
            self.kept.remove(oldest);
        }
    }
}
