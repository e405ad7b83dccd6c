//! What waits to be posted: grouped, rate limited, the latest of each alert. Pure: both clocks are arguments, one that does
//! not go back (milliseconds) and one that people read (since 1970).
//!
//! An alert is named by its labels, here as there. One that happened waits until it is taken, and is forgotten; one that
//! lasts is posted again and again, each time with an end a few minutes ahead, so that it expires when this process is
//! gone; one that is over is posted once more with its end, though not before it could be seen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::alert::Alert;
use crate::domain::pace::{Bucket, Buckets, Rate};

/// Most alerts that wait or last; one more pushes out what happened first.
pub const ALERTS_WAITING_MAX: usize = 256;
/// Most alerts in one request: some 100 KiB, far below what an Alertmanager takes.
pub const ALERTS_PER_POST_MAX: usize = 64;
/// How often an alert that lasts is posted again.
pub const RESEND_EVERY: Duration = Duration::from_secs(60);
/// One that lasts expires this long after it was posted last: three lost posts are not its end.
const EXPIRES_AFTER: Duration = Duration::from_secs(4 * 60);
/// What happened once fires for so long: as long as an Alertmanager usually waits before it groups and tells.
pub(super) const ONCE_FIRES: Duration = Duration::from_secs(5 * 60);
/// The end of what was told is told no sooner than this after its beginning: an Alertmanager usually waits for 30 s before it
/// tells of a new group, and what is over by then it tells nobody. Shorter than `EXPIRES_AFTER`, so that it fires
/// meanwhile.
pub const SEEN_FOR: Duration = Duration::from_secs(60);
/// How often one alert is posted: its beginning, changes and end at once, and then as often as a person can follow.
const EACH: Rate = Rate { burst: 4, every_ms: 30_000 };
/// How often alerts are posted together.
const ALL: Rate = Rate { burst: 128, every_ms: 500 };

/// The name of an alert.
pub(super) type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It happened.
    Once,
    /// It is so.
    Lasts,
    /// It was so until then.
    Over(Duration),
}

#[derive(Debug)]
struct Entry {
    alert: Alert,
    state: State,
    due_ms: u64,
    /// In which order it came.
    order: u64,
    /// When it was posted first.
    posted_ms: Option<u64>,
}

/// An alert as an Alertmanager takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Posting {
    pub(super) labels: Labels,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    pub(super) ends_at: String,
}

/// What waits to be posted.
#[derive(Debug)]
pub(super) struct Outbox {
    entries: BTreeMap<Labels, Entry>,
    each: Buckets<Labels>,
    all: Bucket,
    not_before_ms: u64,
    order: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        let each = Buckets::new(EACH, 2 * ALERTS_WAITING_MAX);
        Self { entries: BTreeMap::new(), each, all: Bucket::default(), not_before_ms: 0, order: 0 }
    }
}

impl Outbox {
    /// Something happened. Returns how many alerts had to make room.
    pub(super) fn once(&mut self, alert: Alert, now_ms: u64) -> u64 {
        let known = self.entries.contains_key(&alert.labels);
        let mut dropped = 0;
        if !known && self.entries.len() >= ALERTS_WAITING_MAX {
            dropped = 1;
            if !self.drop_oldest() {
                return dropped;
            }
        }
        self.put(alert, State::Once, now_ms);
        dropped
    }

    /// What lasts is somebody else's to post from now on: no end is told, which others would have to contradict.
    pub(super) fn leave(&mut self, labels: &Labels) {
        if self.entries.get(labels).is_some_and(|entry| entry.state == State::Lasts) {
            self.entries.remove(labels);
        }
    }

    /// What lasts now: what is new begins, what is missing is over.
    pub(super) fn lasting(&mut self, alerts: Vec<Alert>, now_ms: u64, wall: Duration) {
        for entry in self.entries.values_mut().filter(|entry| entry.state == State::Lasts) {
            if !alerts.iter().any(|alert| alert.labels == entry.alert.labels) {
                let seen_ms = entry.posted_ms.map_or(now_ms, |posted_ms| posted_ms + SEEN_FOR.as_millis() as u64);
                (entry.state, entry.due_ms) = (State::Over(wall), seen_ms.max(now_ms));
            }
        }
        // Nobody was told that it began: nobody needs to know that it is over.
        self.entries.retain(|_, entry| entry.posted_ms.is_some() || !matches!(entry.state, State::Over(_)));
        for alert in alerts {
            let known = self.entries.get(&alert.labels);
            if known.is_some_and(|entry| entry.state == State::Lasts && entry.alert == alert) {
                continue;
            }
            // Full of what lasts: this one comes in as soon as another is over.
            if known.is_some() || self.entries.len() < ALERTS_WAITING_MAX || self.drop_oldest() {
                self.put(alert, State::Lasts, now_ms);
            }
        }
    }

    /// What is to be posted now; empty when nothing is.
    pub(super) fn batch(&mut self, now_ms: u64, wall: Duration) -> Vec<Posting> {
        let mut due: Vec<_> =
            self.entries.values_mut().filter(|entry| entry.due_ms <= now_ms && self.not_before_ms <= now_ms).collect();
        due.sort_by_key(|entry| entry.order);
        let mut batch = Vec::new();
        for entry in due {
            if batch.len() == ALERTS_PER_POST_MAX {
                break;
            }
            if let Err(wait) = self.each.take(&entry.alert.labels, now_ms) {
                entry.due_ms = now_ms + wait.retry_after_ms;
                continue;
            }
            if let Err(wait) = self.all.take(ALL, now_ms) {
                self.each.give_back(&entry.alert.labels);
                self.not_before_ms = now_ms + wait.retry_after_ms;
                break;
            }
            batch.push(entry.posting(wall));
        }
        batch
    }

    /// A batch was taken.
    pub(super) fn taken(&mut self, batch: &[Posting], now_ms: u64) {
        for posting in batch {
            match self.entries.get_mut(&posting.labels) {
                Some(entry) if entry.state == State::Lasts => {
                    entry.posted_ms.get_or_insert(now_ms);
                    entry.due_ms = now_ms + RESEND_EVERY.as_millis() as u64;
                }
                _ => _ = self.entries.remove(&posting.labels),
            }
        }
    }

    /// A batch was not taken: it stays, and costs nothing. One that was `rejected` would be so again, and is given up.
    pub(super) fn not_taken(&mut self, batch: &[Posting], now_ms: u64, rejected: bool) {
        if rejected {
            return self.taken(batch, now_ms);
        }
        for posting in batch {
            self.each.give_back(&posting.labels);
            self.all.give_back(ALL);
        }
    }

    /// When there is something to post, as far as is known now.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let due = self.entries.values().map(|entry| entry.due_ms).min()?;
        Some(due.max(self.not_before_ms))
    }

    /// How many alerts wait or last.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len()
    }

    fn put(&mut self, alert: Alert, state: State, due_ms: u64) {
        self.order += 1;
        let (order, labels) = (self.order, alert.labels.clone());
        match self.entries.get_mut(&labels) {
            // Whatever waits already keeps its place, and its time when it has to wait.
            Some(entry) => {
                let due_ms = if entry.state == State::Once { entry.due_ms } else { due_ms };
                (entry.alert, entry.state, entry.due_ms) = (alert, state, due_ms);
            }
            None => _ = self.entries.insert(labels, Entry { alert, state, due_ms, order, posted_ms: None }),
        }
    }

    /// Makes room: what happened first goes. What lasts stays, and so does what is over, or it would last for ever there.
    fn drop_oldest(&mut self) -> bool {
        let once = self.entries.values().filter(|entry| entry.state == State::Once);
        let oldest = once.min_by_key(|entry| entry.order).map(|entry| entry.alert.labels.clone());
        oldest.is_some_and(|labels| self.entries.remove(&labels).is_some())
    }
}

impl Entry {
    fn posting(&self, wall: Duration) -> Posting {
        let ends_at = match self.state {
            State::Once => wall + ONCE_FIRES,
            State::Lasts => wall + EXPIRES_AFTER,
            State::Over(at) => at,
        };
        Posting {
            labels: self.alert.labels.clone(),
            annotations: self.alert.annotations.clone(),
            starts_at: rfc3339(self.alert.starts_at),
            // Never before it began, whatever somebody did to the clock.
            ends_at: rfc3339(ends_at.max(self.alert.starts_at + Duration::from_millis(1))),
        }
    }
}

pub(super) fn rfc3339(since_1970: Duration) -> String {
    let nanos = i128::try_from(since_1970.as_nanos()).unwrap_or(i128::MAX);
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_secs(1_000_000);
    const MINUTE_MS: u64 = 60_000;

    fn alert(name: &str) -> Alert {
        let labels = [("alertname".to_owned(), name.to_owned())].into();
        Alert { labels, annotations: BTreeMap::new(), starts_at: WALL }
    }

    fn worded(name: &str, words: &str) -> Alert {
        Alert { annotations: [("summary".to_owned(), words.to_owned())].into(), ..alert(name) }
    }

    fn names(batch: &[Posting]) -> Vec<&str> {
        batch.iter().map(|posting| posting.labels["alertname"].as_str()).collect()
    }

    /// Everything that is due, and taken.
    fn posted(outbox: &mut Outbox, now_ms: u64) -> Vec<Posting> {
        let batch = outbox.batch(now_ms, WALL + Duration::from_millis(now_ms));
        outbox.taken(&batch, now_ms);
        batch
    }

    #[test]
    fn what_happened_is_posted_together_once_and_the_latest_words_of_each() {
        let mut outbox = Outbox::default();
        outbox.once(worded("a", "first"), 0);
        outbox.once(alert("b"), 0);
        outbox.once(worded("a", "second"), 0);
        let batch = posted(&mut outbox, 0);
        assert_eq!(names(&batch), ["a", "b"]);
        assert_eq!(batch[0].annotations["summary"], "second");
        assert_eq!(batch[0].ends_at, rfc3339(WALL + ONCE_FIRES));
        assert_eq!((posted(&mut outbox, 10 * MINUTE_MS), outbox.waiting(), outbox.next_ms()), (vec![], 0, None));
    }

    #[test]
    fn what_lasts_is_posted_again_and_what_is_over_once_more_with_its_end() {
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a")], 0, WALL);
        assert_eq!(posted(&mut outbox, 0)[0].ends_at, rfc3339(WALL + EXPIRES_AFTER));
        outbox.lasting(vec![alert("a")], 1, WALL);
        assert_eq!((posted(&mut outbox, MINUTE_MS - 1), outbox.next_ms()), (vec![], Some(MINUTE_MS)));
        assert_eq!(names(&posted(&mut outbox, MINUTE_MS)), ["a"]);
        // New words are news.
        outbox.lasting(vec![worded("a", "worse")], MINUTE_MS + 1, WALL);
        assert_eq!(posted(&mut outbox, MINUTE_MS + 1)[0].annotations["summary"], "worse");
        let over = WALL + Duration::from_secs(90);
        // Long after it could be seen: at once.
        outbox.lasting(vec![], MINUTE_MS + 2, over);
        assert_eq!(posted(&mut outbox, MINUTE_MS + 2)[0].ends_at, rfc3339(over));
        assert_eq!((posted(&mut outbox, 9 * MINUTE_MS), outbox.waiting()), (vec![], 0));
    }

    #[test]
    fn the_end_is_told_no_sooner_than_the_beginning_could_be_seen() {
        assert!(SEEN_FOR < EXPIRES_AFTER && RESEND_EVERY < EXPIRES_AFTER);
        let seen_ms = SEEN_FOR.as_millis() as u64;
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a")], 0, WALL);
        posted(&mut outbox, 5);
        let over = WALL + Duration::from_millis(6);
        outbox.lasting(vec![], 6, over);
        outbox.lasting(vec![], 7, WALL + Duration::from_millis(7));
        assert_eq!((posted(&mut outbox, 4 + seen_ms), outbox.next_ms()), (vec![], Some(5 + seen_ms)));
        assert_eq!(posted(&mut outbox, 5 + seen_ms)[0].ends_at, rfc3339(over), "and as it was");
        assert_eq!((posted(&mut outbox, 9 * MINUTE_MS), outbox.waiting()), (vec![], 0));
    }

    #[test]
    fn what_begins_again_before_its_end_was_told_has_not_ended() {
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a")], 0, WALL);
        posted(&mut outbox, 0);
        outbox.lasting(vec![], 1, WALL);
        outbox.lasting(vec![alert("a")], 2, WALL);
        posted(&mut outbox, 2);
        // Its beginning was seen long ago: it ends at once.
        outbox.lasting(vec![], 3 * MINUTE_MS, WALL + Duration::from_secs(180));
        assert_eq!(posted(&mut outbox, 3 * MINUTE_MS)[0].ends_at, rfc3339(WALL + Duration::from_secs(180)));
    }

    #[test]
    fn what_is_left_to_somebody_else_has_no_end_here() {
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a"), alert("b")], 0, WALL);
        outbox.once(alert("c"), 0);
        assert_eq!(posted(&mut outbox, 0).len(), 3);
        outbox.once(alert("c"), 1);
        for name in ["a", "c", "unknown"] {
            outbox.leave(&alert(name).labels);
        }
        outbox.lasting(vec![alert("b")], 1, WALL);
        assert_eq!(names(&posted(&mut outbox, MINUTE_MS)), ["b", "c"], "what happened is posted all the same");
    }

    #[test]
    fn what_was_over_before_anybody_was_told_is_nothing_and_what_begins_again_lasts_again() {
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a")], 0, WALL);
        outbox.lasting(vec![], 1, WALL);
        assert_eq!((posted(&mut outbox, 1), outbox.waiting()), (vec![], 0));
        outbox.lasting(vec![alert("a")], 2, WALL);
        posted(&mut outbox, 2);
        outbox.lasting(vec![], 3, WALL);
        outbox.lasting(vec![alert("a")], 4, WALL);
        assert_eq!(posted(&mut outbox, 4)[0].ends_at, rfc3339(WALL + Duration::from_millis(4) + EXPIRES_AFTER));
    }

    #[test]
    fn one_alert_is_posted_so_often_and_then_waits_for_its_turn() {
        let mut outbox = Outbox::default();
        for _ in 0..EACH.burst {
            outbox.once(alert("a"), 0);
            assert_eq!(posted(&mut outbox, 0).len(), 1);
        }
        outbox.once(alert("a"), 0);
        outbox.once(alert("b"), 0);
        assert_eq!(names(&posted(&mut outbox, 0)), ["b"], "another one is not held up");
        assert_eq!(outbox.next_ms(), Some(EACH.every_ms));
        outbox.once(worded("a", "latest"), 1);
        assert_eq!(posted(&mut outbox, EACH.every_ms - 1), []);
        assert_eq!(posted(&mut outbox, EACH.every_ms)[0].annotations["summary"], "latest");
    }

    #[test]
    fn a_request_and_all_of_them_together_are_bounded() {
        let mut outbox = Outbox::default();
        for number in 0..ALERTS_WAITING_MAX {
            assert_eq!(outbox.once(alert(&format!("{number:03}")), 0), 0);
        }
        assert_eq!(posted(&mut outbox, 0).len(), ALERTS_PER_POST_MAX);
        assert_eq!(posted(&mut outbox, 0).len(), ALERTS_PER_POST_MAX);
        assert_eq!((posted(&mut outbox, 0), outbox.next_ms()), (vec![], Some(ALL.every_ms)));
        assert_eq!(names(&posted(&mut outbox, ALL.every_ms)), ["128"], "in the order in which they came");
        assert_eq!(outbox.waiting(), ALERTS_WAITING_MAX - 129);
    }

    #[test]
    fn when_it_is_full_what_happened_first_makes_room_and_what_lasts_never_does() {
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("lasts")], 0, WALL);
        for number in 0..ALERTS_WAITING_MAX - 1 {
            outbox.once(alert(&format!("{number:03}")), 0);
        }
        assert_eq!(outbox.once(alert("new"), 0), 1);
        assert_eq!(outbox.waiting(), ALERTS_WAITING_MAX);
        assert_eq!(names(&outbox.batch(0, WALL))[..2], ["lasts", "001"]);
        let many: Vec<_> = (0..2 * ALERTS_WAITING_MAX).map(|number| alert(&format!("lasts-{number}"))).collect();
        outbox.lasting(many, 1, WALL);
        assert_eq!(outbox.waiting(), ALERTS_WAITING_MAX);
        assert_eq!(outbox.once(alert("newer"), 0), 1);
        assert_eq!(outbox.waiting(), ALERTS_WAITING_MAX);
    }

    #[test]
    fn what_was_not_taken_stays_and_costs_nothing_unless_it_was_rejected() {
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a")], 0, WALL);
        outbox.once(alert("b"), 0);
        for _ in 0..10 * EACH.burst {
            let batch = outbox.batch(0, WALL);
            assert_eq!(names(&batch), ["a", "b"]);
            outbox.not_taken(&batch, 0, false);
        }
        let batch = outbox.batch(0, WALL);
        outbox.not_taken(&batch, 0, true);
        assert_eq!((outbox.batch(1, WALL), outbox.waiting()), (vec![], 1), "what lasts is tried again later");
        assert_eq!(outbox.next_ms(), Some(MINUTE_MS));
    }

    #[test]
    fn times_are_as_an_alertmanager_reads_them() {
        assert_eq!(rfc3339(Duration::from_millis(1_700_000_000_250)), "2023-11-14T22:13:20.25Z");
        let mut outbox = Outbox::default();
        outbox.lasting(vec![alert("a")], 0, WALL);
        posted(&mut outbox, 0);
        outbox.lasting(vec![], MINUTE_MS, Duration::ZERO);
        assert_eq!(posted(&mut outbox, MINUTE_MS)[0].ends_at, rfc3339(WALL + Duration::from_millis(1)));
    }
}
