//! Alarms: events that a person has to know, posted to an Alertmanager (or whatever speaks its API).
//!
//! ```text
//! events ── alert: which, in which words ── outbox: when, how often, how many at once ── post: over HTTP
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `alert` | what is alarmed, and how it looks there; pure |
//! | `conditions` | what lasts elsewhere, and for how long it is alarmed in others' names; pure |
//! | `others` | what others tell, from whoever hears it to whoever posts |
//! | `outbox` | what waits, what lasts, what is over: grouping and rates; pure |
//! | `config` | the `[alerts]` table of both daemons |
//! | `post` | one HTTP request |
//! | `metrics` | what is counted |
//!
//! This shell follows the events from a task of its own: whatever the webhook does, nobody else waits for it. It does not
//! know how bytes travel there, nor whose events they are.

mod alert;
mod conditions;
mod config;
mod metrics;
mod others;
mod outbox;
mod post;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use alert::{Alert, Who};
pub use conditions::{AWAY_MAX, Whereabouts};
pub use config::{AlertsConfig, AlertsFile, LABELS_MAX};
pub use metrics::AlertMetrics;
pub use others::{Others, Teller, others};
pub use outbox::{ALERTS_PER_POST_MAX, ALERTS_WAITING_MAX, RESEND_EVERY, SEEN_FOR};
pub use post::{ANSWER_BYTES_MAX, Dial, POST_MAX};

use alert::alert;
use outbox::Outbox;
use post::{Failure, Post};

use super::Seldom;
use super::events::{Events, Phase, Recorded, Told};
use crate::domain::retry::{self, Backoff};

/// Between two attempts while the webhook does not take what it is given: it may be down for hours.
const AGAIN: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Whoever posts alarms.
pub struct Sink {
    /// What to post, and where.
    pub config: AlertsConfig,
    /// Whose events they are.
    pub who: Who,
    /// The events.
    pub events: Events,
    /// What others told this process, as routers tell controllers; `None`: nobody does.
    pub others: Option<Others>,
    /// Makes connections to the webhook.
    pub dial: Dial,
    /// What is counted.
    pub metrics: AlertMetrics,
    /// Draws numbers, uniformly over all of `u32`.
    pub random: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// How long a post may take: [`POST_MAX`], except in tests.
    pub within: Duration,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("config", &self.config).field("who", &self.who).finish_non_exhaustive()
    }
}

impl Sink {
    /// For ever: whoever wants it to end drops it. A condition that lasts then expires at the webhook by itself.
    pub async fn run(mut self) {
        let began = Instant::now();
        let post = Post::new(&self.config, self.dial.clone(), self.within);
        let (mut outbox, mut newest) = (Outbox::default(), self.events.newest());
        let (mut seen, mut attempt, mut not_before) = (0, 0_u32, began);
        let said = Seldom::new();
        loop {
            let now_ms = elapsed_ms(began);
            newest.mark_unchanged();
            self.take_in(&mut outbox, &mut seen, now_ms);
            self.metrics.waiting(outbox.waiting());
            if Instant::now() >= not_before {
                let batch = outbox.batch(now_ms, now());
                if !batch.is_empty() {
                    match post.send(&batch).await {
                        Ok(()) => {
                            attempt = 0;
                            self.metrics.posted(batch.len());
                            outbox.taken(&batch, elapsed_ms(began));
                        }
                        Err(failure) => {
                            self.failed(&failure, &said);
                            outbox.not_taken(&batch, elapsed_ms(began), matches!(failure, Failure::Rejected { .. }));
                            not_before = Instant::now() + retry::delay(AGAIN, attempt, (self.random)());
                            attempt = attempt.saturating_add(1);
                        }
                    }
                    continue;
                }
            }
            let next = outbox.next_ms().map(|ms| (began + Duration::from_millis(ms)).max(not_before));
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                heard = heard(&mut self.others) => if let Some(alert) = heard.and_then(|told| self.alert(&told)) {
                    self.metrics.dropped(outbox.once(alert, elapsed_ms(began)));
                },
                () = until(next) => {}
            }
        }
    }

    /// What happened since the last look, and how things stand. Conditions are taken as they stand and not as they came:
    /// what began and was over between two looks alarms nobody, and none is lost when more happened than is kept.
    fn take_in(&self, outbox: &mut Outbox, seen: &mut u64, now_ms: u64) {
        let page = self.events.after(*seen);
        self.metrics.dropped(page.dropped);
        let own = |recorded: &Recorded| self.alert(&Told::of(recorded, self.events.instance(), &self.who.instance));
        let once = page.events.iter().filter(|recorded| recorded.phase == Phase::Once);
        for alert in once.filter_map(own) {
            self.metrics.dropped(outbox.once(alert, now_ms));
        }
        *seen = page.events.last().map_or(*seen + page.dropped, |last| last.number);
        let (theirs, left) = self.others.as_ref().map(Others::take).unwrap_or_default();
        for alert in left.iter().filter_map(|told| self.alert(told)) {
            outbox.leave(&alert.labels);
        }
        // This process' own come first: those of others take nobody's place.
        let lasting = self.events.lasting();
        let lasting = lasting.iter().filter_map(own).chain(theirs.iter().filter_map(|told| self.alert(told)));
        outbox.lasting(lasting.collect(), now_ms, now());
    }

    fn alert(&self, told: &Told) -> Option<Alert> {
        alert(told, &self.who, &self.config)
    }

    fn failed(&self, failure: &Failure, said: &Seldom) {
        self.metrics.failed(failure.code());
        if said.now() {
            tracing::warn!(url = %self.config.url(), reason = failure.code(), "could not post alarms: {failure}; nothing else waits for it");
        }
    }
}

/// What others tell next; never, where nobody tells anything.
async fn heard(others: &mut Option<Others>) -> Option<Told> {
    match others {
        Some(others) => others.heard().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
