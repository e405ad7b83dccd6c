//! What others tell a process that posts alarms, as routers tell controllers: from whoever hears it, who never waits, to
//! the task that posts.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::conditions::{Conditions, Whereabouts};
use super::elapsed_ms;
use super::metrics::AlertMetrics;
use super::outbox::ALERTS_WAITING_MAX;
use crate::ops::events::{Phase, Severity, Told};

/// Milliseconds that do not go back.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

struct Standing {
    conditions: Mutex<Conditions>,
    changed: Notify,
    clock: Clock,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("conditions", &self.conditions).finish_non_exhaustive()
    }
}

impl Standing {
    fn lock(&self) -> (MutexGuard<'_, Conditions>, u64) {
        (self.conditions.lock().unwrap_or_else(PoisonError::into_inner), (self.clock)())
    }
}

/// Whoever hears what others tell.
#[derive(Debug)]
pub struct Teller {
    happened: mpsc::Sender<Told>,
    standing: Arc<Standing>,
    metrics: AlertMetrics,
    least: Severity,
}

/// What others told, for a [`super::Sink`].
#[derive(Debug)]
pub struct Others {
    happened: mpsc::Receiver<Told>,
    standing: Arc<Standing>,
}

/// The two ends. What matters less than `least` is passed over, so that it takes nobody's place.
#[must_use]
pub fn others(metrics: AlertMetrics, least: Severity) -> (Teller, Others) {
    let began = Instant::now();
    others_by(metrics, least, Box::new(move || elapsed_ms(began)))
}

/// The same by any clock.
pub(super) fn others_by(metrics: AlertMetrics, least: Severity, clock: Clock) -> (Teller, Others) {
    let (to, happened) = mpsc::channel(ALERTS_WAITING_MAX);
    let standing = Standing { conditions: Mutex::default(), changed: Notify::new(), clock };
    let standing = Arc::new(standing);
    (Teller { happened: to, standing: standing.clone(), metrics, least }, Others { happened, standing })
}

impl Teller {
    /// An event of somebody else, which is told once.
    pub fn tell(&self, told: Told) {
        if told.severity < self.least {
            return;
        }
        let dropped = match told.phase {
            Phase::Once => u64::from(self.happened.try_send(told).is_err()),
            Phase::Began => self.change(|conditions, now_ms| conditions.begins(told, now_ms)),
            Phase::Over => self.change(|conditions, _| {
                conditions.ends(&told);
                0
            }),
        };
        self.metrics.dropped(dropped);
    }

    /// All that lasts at `source` now.
    pub fn stands(&self, source: &str, mut told: Vec<Told>) {
        told.retain(|told| told.severity >= self.least);
        let dropped = self.change(|conditions, now_ms| conditions.stand(source, told, now_ms));
        self.metrics.dropped(dropped);
    }

    /// In whose names conditions are alarmed.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        self.standing.lock().0.sources()
    }

    /// Where one of them is.
    pub fn is_seen(&self, source: &str, at: Whereabouts) {
        self.change(|conditions, now_ms| conditions.is_seen(source, at, now_ms));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Conditions, u64) -> T) -> T {
        let (mut conditions, now_ms) = self.standing.lock();
        let changed = change(&mut conditions, now_ms);
        drop(conditions);
        self.standing.changed.notify_one();
        changed
    }
}

impl Others {
    /// What lasts now, and of what this process is silent from now on.
    pub(super) fn take(&self) -> (Vec<Told>, Vec<Told>) {
        let (mut conditions, now_ms) = self.standing.lock();
        conditions.take(now_ms)
    }

    /// What happened next; nothing when what lasts has changed.
    pub(super) async fn heard(&mut self) -> Option<Told> {
        tokio::select! {
            Some(told) = self.happened.recv() => Some(told),
            () = self.standing.changed.notified() => None,
            // Nobody tells anything any more.
            else => std::future::pending().await,
        }
    }
}
