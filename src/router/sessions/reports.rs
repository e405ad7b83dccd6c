//! What the cluster was told of this router's events: each is kept in the ring until a controller took it, and what lasts
//! is told to every controller with which there is a session.
//!
//! One report is under way at a time, over whichever session; its answer may get lost with the session, so that after a
//! while the next one may try. It does not know how a report travels.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ops::events::Events;
use crate::proto::router::{Conditions, EventReport};
use crate::rpc::convert::events::{conditions, report};

/// A report that was not answered for so long is told again: several heartbeats.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Which conditions one session was told of, by the numbers of their latest words; `None`: of nothing yet.
pub(super) type Stated = Option<Vec<u64>>;

/// What was told.
#[derive(Debug)]
pub struct Reports {
    events: Events,
    source: String,
    told: Mutex<Unanswered>,
}

/// How far the cluster has taken the events, and what it was sent. Time is an argument.
#[derive(Debug, Default)]
struct Unanswered {
    taken: u64,
    sent: Option<(u64, Instant)>,
}

impl Unanswered {
    /// After which number to tell; `None` while an answer is awaited.
    fn after(&self, now: Instant) -> Option<u64> {
        let waits = self.sent.is_some_and(|(_, at)| now.duration_since(at) < ANSWERED_WITHIN);
        (!waits).then_some(self.taken)
    }

    /// An answer. Only what was sent can be taken: a controller that says more is not believed.
    fn taken(&mut self, number: u64) -> bool {
        let Some((last, _)) = self.sent.filter(|(last, _)| number <= *last && number >= self.taken) else {
            return false;
        };
        self.taken = number;
        self.sent = None;
        number == last
    }
}

impl Reports {
    /// Of a router that has told nothing yet.
    #[must_use]
    pub fn new(events: Events, source: String) -> Self {
        Self { events, source, told: Mutex::default() }
    }

    /// The events.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// The next report, if there is something to tell and none is under way. `sent` says whether it went out.
    pub fn next(&self, send: impl FnOnce(EventReport) -> bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(after) = told.after(now) else { return };
        let page = self.events.after(after);
        let Some(report) = report(&page, self.events.instance(), &self.source) else { return };
        let last = report.events.last().map_or(after + page.dropped, |last| last.number);
        if send(report) {
            told.sent = Some((last, now));
        }
    }

    /// All that lasts now, when a session was told something else, or nothing yet.
    pub(super) fn conditions(&self, stated: &mut Stated) -> Option<Conditions> {
        let lasting = self.events.lasting();
        let now = Some(lasting.iter().map(|recorded| recorded.number).collect());
        if *stated == now {
            return None;
        }
        *stated = now;
        Some(conditions(&lasting, self.events.instance(), &self.source))
    }

    /// A controller took events up to this one. Whether there may be more to tell.
    pub fn taken(&self, instance: u64, number: u64) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        instance == self.events.instance() && told.taken(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::events::{EVENTS_KEPT_MAX, Event, Kind, Subject};
    use crate::rpc::convert::events::EVENTS_PER_REPORT_MAX;

    fn router(events: usize) -> Reports {
        let reports = Reports::new(Events::default(), "router edge-1".into());
        for number in 0..events {
            reports.events.raise(Event::SessionSuperseded { router: format!("edge-{number}") });
        }
        reports
    }

    fn told(reports: &Reports) -> Option<EventReport> {
        let mut told = None;
        reports.next(|report| {
            told = Some(report);
            true
        });
        told
    }

    #[test]
    fn each_event_is_told_until_it_was_taken_and_one_report_at_a_time() {
        let reports = router(EVENTS_PER_REPORT_MAX + 1);
        let instance = reports.events.instance();
        reports.next(|_| false);
        let first = told(&reports).expect("one that did not go out is not under way");
        assert_eq!(first.events.len(), EVENTS_PER_REPORT_MAX);
        assert_eq!(told(&reports), None, "its answer is awaited");
        assert!(!reports.taken(instance + 1, 16), "of another start of the process");
        assert!(!reports.taken(instance, 17), "more than was sent");
        assert!(reports.taken(instance, 16));
        let second = told(&reports).unwrap();
        assert_eq!(second.events.iter().map(|event| event.number).collect::<Vec<_>>(), [17]);
        assert!(reports.taken(instance, 17));
        assert_eq!(told(&reports), None, "everything was taken");
    }

    #[test]
    fn what_lasts_is_told_to_each_session_at_first_and_after_each_change() {
        let reports = router(1);
        let (mut one, mut other) = (None, None);
        let codes = |stated: &mut Stated| {
            let told = reports.conditions(stated)?;
            assert_eq!(told.instance, reports.events.instance());
            Some(told.events.iter().map(|event| format!("{} {}", event.phase, event.message)).collect::<Vec<_>>())
        };
        assert_eq!(codes(&mut one), Some(vec![]), "that nothing lasts is news to a new session");
        assert_eq!(codes(&mut one), None);
        let full = |message: &str| Event::NotSaved { message: message.to_owned() };
        reports.events.raise(full("full"));
        let began = Some(vec!["began adopted a list in memory only: full".to_owned()]);
        assert_eq!((codes(&mut one), codes(&mut one), codes(&mut other)), (began.clone(), None, began));
        reports.events.raise(full("read only"));
        assert!(codes(&mut one).is_some(), "other words");
        reports.events.resolve(Kind::NotSaved, &Subject::Itself);
        assert_eq!((codes(&mut one), codes(&mut other)), (Some(vec![]), Some(vec![])));
    }

    #[test]
    fn an_answer_that_does_not_come_is_awaited_for_so_long() {
        let (now, mut told) = (Instant::now(), Unanswered::default());
        told.sent = Some((5, now));
        assert_eq!(told.after(now + ANSWERED_WITHIN - Duration::from_millis(1)), None);
        assert_eq!(told.after(now + ANSWERED_WITHIN), Some(0));
        // Part of it was taken: the rest is told again.
        assert!(!told.taken(3));
        assert_eq!(told.after(now), Some(3));
    }

    #[test]
    fn what_is_not_kept_any_more_is_told_as_a_number() {
        let reports = router(EVENTS_KEPT_MAX + 5);
        let first = told(&reports).unwrap();
        assert_eq!((first.dropped, first.events[0].number), (5, 6));
        assert!(reports.taken(reports.events.instance(), first.events.last().unwrap().number));
        assert_eq!(told(&reports).unwrap().dropped, 0, "it is told once");
    }
}
