//! What happened that a person may have to know: written to the log, counted, and kept in a bounded ring.
//!
//! ```text
//! raise(event), resolve(kind, subject) ── ledger ──┬── log line, metrics
//!                                                  └── ring: followers ask for what came after a number
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `kind` | the names of all events, and which of them last until they are over |
//! | `event` | the events: severity, subject, facts |
//! | `words` | what people read of them: the sentence and the hint |
//! | `ledger` | the ring, and what lasts; pure |
//! | `told` | an event as it is passed on: plain, bounded texts |
//! | `reported` | a ring of what others told; pure |
//!
//! Some events are over the moment they happened; others are conditions, which last until somebody says that they are
//! over. It does not know whom events are told.

mod event;
mod kind;
mod ledger;
mod reported;
mod told;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use event::{Event, FACTS_MAX, Subject};
pub use kind::{Kind, Severity};
pub use ledger::{EVENTS_KEPT_MAX, LASTING_MAX, Page, Phase, Recorded};

pub use reported::{REPORTED_KEPT_MAX, REPORTED_OF_ONE_MAX, Reported};
pub use told::{NAME_CHARS_MAX, TEXT_CHARS_MAX, Told};

use ledger::Ledger;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
}

/// Where events go. Clones share one ring.
#[derive(Debug, Clone)]
pub struct Events {
    /// Numbers begin again at each start of a process: whoever follows tells by this that there was one.
    instance: u64,
    ledger: Arc<Mutex<Ledger>>,
    newest: Arc<watch::Sender<u64>>,
    counted: Family<EventLabels, Counter>,
    lasting: Family<EventLabels, Gauge>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            instance: rand::random(),
            ledger: Arc::default(),
            newest: Arc::new(watch::Sender::new(0)),
            counted: Family::default(),
            lasting: Family::default(),
        }
    }
}

impl Events {
    /// A ring whose counts are registered as `pilothouse_events_total{kind}` and `pilothouse_events_lasting{kind}`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let events = Self::default();
        registry.register("pilothouse_events", "Events by kind", events.counted.clone());
        registry.register("pilothouse_events_lasting", "Conditions that last now, by kind", events.lasting.clone());
        events
    }

    /// Writes an event to the log, counts it and keeps it. A condition that lasts already, and of which there is nothing
    /// new to say, is only counted.
    pub fn raise(&self, event: Event) {
        let (kind, severity) = (event.kind(), event.severity());
        self.counted.get_or_create(&EventLabels { kind: kind.as_str() }).inc();
        let number = {
            let mut ledger = self.lock();
            let number = ledger.raise(event.clone(), now());
            self.lasting.get_or_create(&EventLabels { kind: kind.as_str() }).set(ledger.lasting_of(kind));
            number
        };
        let Some(number) = number else { return tracing::debug!(kind = kind.as_str(), "still so: {event}") };
        let (kind, hint) = (kind.as_str(), event.hint());
        match severity {
            Severity::Info => tracing::info!(kind, hint, "{event}"),
            Severity::Warning => tracing::warn!(kind, hint, "{event}"),
            Severity::Error => tracing::error!(kind, hint, "{event}"),
        }
        self.tell(number);
    }

    /// A condition is over: written to the log and kept, once. What did not last cannot be over, and is nothing.
    pub fn resolve(&self, kind: Kind, subject: &Subject) {
        let over = {
            let mut ledger = self.lock();
            let over = ledger.resolve(kind, subject, now());
            self.lasting.get_or_create(&EventLabels { kind: kind.as_str() }).set(ledger.lasting_of(kind));
            over
        };
        if let Some(over) = over {
            tracing::info!(kind = kind.as_str(), "over: {}", over.event);
            self.tell(over.number);
        }
    }

    /// The kept events, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Recorded> {
        self.after(0).events
    }

    /// What came after the event with this number, oldest first, as far as it is kept.
    #[must_use]
    pub fn after(&self, number: u64) -> Page {
        self.lock().after(number)
    }

    /// The conditions that last now, with when each of them began.
    #[must_use]
    pub fn lasting(&self) -> Vec<Recorded> {
        self.lock().lasting()
    }

    /// Which start of the process its numbers belong to.
    #[must_use]
    pub const fn instance(&self) -> u64 {
        self.instance
    }

    /// Follows the number of the newest event; 0 before the first one.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Two threads may come in the other order than their events: numbers only ever rise.
    fn tell(&self, number: u64) {
        self.newest.send_if_modified(|newest| {
            let rises = number > *newest;
            *newest = number.max(*newest);
            rises
        });
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
