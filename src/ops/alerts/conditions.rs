//! What others said began there and is not over: for how long it is alarmed in their name. Pure: time is an argument,
//! milliseconds of a clock that does not go back.
//!
//! There are two ways to hear of it, and only one is certain. An *event* that something began comes to one controller, and
//! the event of its end may come to another one: by itself it is alarmed for as long as what happened once. What *stands*
//! is told by whoever has a session here, all of it, again after each change: that lasts until it is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outbox::{ALERTS_WAITING_MAX, ONCE_FIRES, SEEN_FOR};
use crate::ops::events::Told;

/// Most conditions of others that are alarmed at a time: the other half is for what happens, and for this process' own.
pub(super) const CONDITIONS_MAX: usize = 128;
const _: () = assert!(2 * CONDITIONS_MAX <= ALERTS_WAITING_MAX);
/// Most of them of one teller: more than a router has things that can be wrong.
pub(super) const CONDITIONS_OF_ONE_MAX: usize = 16;
/// A teller without a session anywhere is spoken for this long, longer than it takes to restart or to upgrade one. What is
/// away for longer is missed by other means, and whether its conditions last nobody knows.
pub const AWAY_MAX: Duration = Duration::from_secs(15 * 60);

/// Where somebody who told of conditions is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// It has a session here, and says what lasts.
    Here,
    /// It has none here, and one with somebody else, who is told the same and alarms in its name.
    Elsewhere,
    /// It has none, as far as is known.
    Away,
    /// It is not one of ours any more.
    Forgotten,
}

/// Who told of it, what it is, and whom it is about.
type Name = (String, String, String);

#[derive(Debug)]
struct Condition {
    told: Told,
    /// When it was heard of first.
    since_ms: u64,
    /// It is alarmed until then; `None`: until it is told to be over.
    until_ms: Option<u64>,
    /// In which order it came.
    order: u64,
}

/// What lasts elsewhere.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    kept: BTreeMap<Name, Condition>,
    /// Who has no session anywhere, and since when.
    away: BTreeMap<String, u64>,
    /// Whom or what this process does not speak for any more.
    left: Vec<Told>,
    order: u64,
}

impl Conditions {
    /// An event: this began. Returns how many conditions had to make room.
    pub(super) fn begins(&mut self, told: Told, now_ms: u64) -> u64 {
        let lasts = self.kept.get(&name(&told)).is_some_and(|known| known.until_ms.is_none());
        let until_ms = if lasts { None } else { Some(now_ms + ms(ONCE_FIRES)) };
        self.keep(told, until_ms, now_ms)
    }

    /// An event: this is over. It is alarmed for long enough to be seen, even when it was over at once.
    pub(super) fn ends(&mut self, told: &Told) {
        if let Some(known) = self.kept.get_mut(&name(told)) {
            known.end();
        }
    }

    /// This lasts there now, and nothing else. Returns how many conditions had to make room.
    pub(super) fn stand(&mut self, source: &str, told: Vec<Told>, now_ms: u64) -> u64 {
        let stands: Vec<_> = told.iter().map(name).collect();
        for (_, known) in self.kept.iter_mut().filter(|(name, _)| name.0 == source && !stands.contains(name)) {
            known.end();
        }
        self.away.remove(source);
        told.into_iter().map(|told| self.keep(told, None, now_ms)).sum()
    }

    /// Where somebody is who told of conditions.
    pub(super) fn is_seen(&mut self, source: &str, at: Whereabouts, now_ms: u64) {
        let since_ms = match at {
            Whereabouts::Away => *self.away.entry(source.to_owned()).or_insert(now_ms),
            Whereabouts::Here | Whereabouts::Elsewhere | Whereabouts::Forgotten => {
                self.away.remove(source);
                now_ms
            }
        };
        let too_long = now_ms.saturating_sub(since_ms) >= ms(AWAY_MAX);
        if too_long || matches!(at, Whereabouts::Elsewhere | Whereabouts::Forgotten) {
            self.leave(|name, _| name.0 == source);
        }
    }

    /// Who told of what is alarmed now.
    pub(super) fn sources(&self) -> Vec<String> {
        let mut sources: Vec<_> = self.kept.keys().map(|(source, ..)| source.clone()).collect();
        sources.dedup();
        sources
    }

    /// What is to be alarmed now, and of what this process is silent from now on.
    pub(super) fn take(&mut self, now_ms: u64) -> (Vec<Told>, Vec<Told>) {
        self.kept.retain(|_, known| known.until_ms.is_none_or(|until_ms| until_ms > now_ms));
        self.away.retain(|source, _| self.kept.keys().any(|name| name.0 == *source));
        (self.kept.values().map(|known| known.told.clone()).collect(), std::mem::take(&mut self.left))
    }

    fn keep(&mut self, told: Told, until_ms: Option<u64>, now_ms: u64) -> u64 {
        let name = name(&told);
        if let Some(known) = self.kept.get_mut(&name) {
            (known.told, known.until_ms) = (told, until_ms);
            return 0;
        }
        let of_one = self.kept.keys().filter(|(source, ..)| *source == name.0).count();
        let fullness = self.kept.len();
        if of_one >= CONDITIONS_OF_ONE_MAX {
            self.leave_oldest(Some(&name.0));
        } else if fullness >= CONDITIONS_MAX {
            self.leave_oldest(None);
        }
        let dropped = fullness - self.kept.len();
        self.order += 1;
        self.kept.insert(name, Condition { told, since_ms: now_ms, until_ms, order: self.order });
        dropped as u64
    }

    fn leave_oldest(&mut self, source: Option<&str>) {
        let of = self.kept.iter().filter(|(name, _)| source.is_none_or(|source| name.0 == source));
        if let Some(oldest) = of.map(|(_, known)| known.order).min() {
            self.leave(|_, known| known.order == oldest);
        }
    }

    /// Without a word: its end is not known here, and others may go on to alarm of it. It expires by itself.
    fn leave(&mut self, mut is: impl FnMut(&Name, &Condition) -> bool) {
        self.left.extend(self.kept.extract_if(.., |name, known| is(name, known)).map(|(_, known)| known.told));
        // Nobody takes them while a post hangs: the first of them then end here instead.
        self.left.drain(..self.left.len().saturating_sub(CONDITIONS_MAX));
    }
}

impl Condition {
    fn end(&mut self) {
        let seen_ms = self.since_ms + ms(SEEN_FOR);
        self.until_ms = Some(self.until_ms.map_or(seen_ms, |until_ms| until_ms.min(seen_ms)));
    }
}

fn name(told: &Told) -> Name {
    (told.source.clone(), told.code.clone(), told.subject.clone())
}

const fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::events::{Event, Phase, Recorded};

    const SEEN_MS: u64 = ms(SEEN_FOR);
    const ONCE_MS: u64 = ms(ONCE_FIRES);
    const AWAY_MS: u64 = ms(AWAY_MAX);

    fn told(source: &str, words: &str) -> Told {
        let event = Event::NotSaved { message: words.to_owned() };
        Told::of(&Recorded { number: 1, at: Duration::from_secs(1), phase: Phase::Began, event }, 7, source)
    }

    fn of(source: &str, subject: usize) -> Told {
        Told { subject: subject.to_string(), ..told(source, "full") }
    }

    fn alarmed(conditions: &mut Conditions, now_ms: u64) -> Vec<String> {
        conditions.take(now_ms).0.into_iter().map(|told| told.source).collect()
    }

    #[test]
    fn what_stands_lasts_until_it_is_missing_however_long_that_takes() {
        let mut conditions = Conditions::default();
        conditions.begins(told("a", "full"), 0);
        conditions.stand("a", vec![told("a", "full")], 1);
        conditions.stand("b", vec![], 2);
        assert_eq!(alarmed(&mut conditions, 100 * AWAY_MS), ["a"]);
        // The event of its beginning comes late, in other words.
        conditions.begins(told("a", "read only"), 100 * AWAY_MS);
        let (lasts, left) = conditions.take(200 * AWAY_MS);
        assert_eq!((lasts.len(), left), (1, vec![]));
        assert!(lasts[0].message.contains("read only"));
        conditions.stand("a", vec![], 200 * AWAY_MS);
        assert_eq!(conditions.take(200 * AWAY_MS), (vec![], vec![]), "it is over, and not left to others");
    }

    #[test]
    fn what_began_by_an_event_alone_is_alarmed_as_long_as_what_happened_once() {
        let mut conditions = Conditions::default();
        conditions.begins(told("a", "full"), 5);
        assert_eq!(alarmed(&mut conditions, 4 + ONCE_MS), ["a"]);
        assert_eq!(conditions.take(5 + ONCE_MS), (vec![], vec![]));
    }

    #[test]
    fn what_began_and_was_over_at_once_is_alarmed_for_long_enough_to_be_seen() {
        let mut conditions = Conditions::default();
        conditions.begins(told("a", "full"), 5);
        conditions.ends(&told("a", "full"));
        // A session that says that nothing lasts says nothing new.
        conditions.stand("a", vec![], 6);
        assert_eq!(alarmed(&mut conditions, 4 + SEEN_MS), ["a"]);
        assert_eq!(alarmed(&mut conditions, 5 + SEEN_MS), [""; 0]);
        // The event of its end is enough.
        conditions.stand("a", vec![told("a", "full")], 500_000);
        conditions.ends(&told("a", "full"));
        assert_eq!(alarmed(&mut conditions, 499_999 + SEEN_MS), ["a"]);
        assert_eq!(alarmed(&mut conditions, 500_000 + SEEN_MS), [""; 0]);
        // The same of what stood for a moment; and it may come again.
        conditions.stand("a", vec![told("a", "full")], 1_000_000);
        conditions.stand("a", vec![], 1_000_001);
        assert_eq!(alarmed(&mut conditions, 999_999 + SEEN_MS), ["a"]);
        conditions.stand("a", vec![told("a", "full")], 1_000_002);
        assert_eq!(alarmed(&mut conditions, 9_000_000), ["a"]);
    }

    #[test]
    fn who_is_seen_elsewhere_or_is_forgotten_is_left_to_others_without_a_word_and_who_is_away_after_long() {
        for at in [Whereabouts::Elsewhere, Whereabouts::Forgotten] {
            let mut conditions = Conditions::default();
            conditions.stand("a", vec![told("a", "full")], 0);
            conditions.stand("b", vec![told("b", "full")], 0);
            conditions.is_seen("a", at, 1);
            let (lasts, left) = conditions.take(1);
            assert_eq!((lasts, left), (vec![told("b", "full")], vec![told("a", "full")]), "{at:?}");
        }
        let mut conditions = Conditions::default();
        conditions.stand("a", vec![told("a", "full")], 0);
        conditions.is_seen("a", Whereabouts::Away, 10);
        conditions.is_seen("a", Whereabouts::Away, 9 + AWAY_MS);
        assert_eq!(alarmed(&mut conditions, 9 + AWAY_MS), ["a"]);
        // It was here meanwhile, or was heard: it is away anew.
        conditions.stand("a", vec![told("a", "full")], 9 + AWAY_MS);
        conditions.is_seen("a", Whereabouts::Away, 9 + AWAY_MS);
        conditions.is_seen("a", Whereabouts::Away, 10 + AWAY_MS);
        assert_eq!(alarmed(&mut conditions, 10 + AWAY_MS), ["a"]);
        conditions.is_seen("a", Whereabouts::Here, 11 + AWAY_MS);
        conditions.is_seen("a", Whereabouts::Away, 20 + AWAY_MS);
        assert_eq!(alarmed(&mut conditions, 20 + AWAY_MS), ["a"]);
        conditions.is_seen("a", Whereabouts::Away, 19 + 2 * AWAY_MS);
        assert_eq!(alarmed(&mut conditions, 19 + 2 * AWAY_MS), ["a"]);
        conditions.is_seen("a", Whereabouts::Away, 20 + 2 * AWAY_MS);
        assert_eq!(conditions.take(20 + 2 * AWAY_MS), (vec![], vec![told("a", "full")]));
        assert!(conditions.sources().is_empty() && conditions.away.is_empty());
    }

    #[test]
    fn only_so_many_are_alarmed_and_the_oldest_make_room_first_of_the_one_that_has_most() {
        let mut conditions = Conditions::default();
        assert_eq!(conditions.begins(told("quiet", "full"), 0), 0);
        let many = 3 * CONDITIONS_OF_ONE_MAX;
        let dropped: u64 = (0..many).map(|number| conditions.begins(of("loud", number), 0)).sum();
        assert_eq!(dropped, (many - CONDITIONS_OF_ONE_MAX) as u64);
        let (lasts, left) = conditions.take(1);
        assert_eq!((lasts.len(), left.len()), (CONDITIONS_OF_ONE_MAX + 1, many - CONDITIONS_OF_ONE_MAX));
        assert_eq!(left[0].subject, "0", "the oldest first");
        assert_eq!(conditions.sources(), ["loud", "quiet"]);
        let dropped: u64 = (0..CONDITIONS_MAX)
            .map(|router| conditions.stand(&format!("{router}"), vec![told(&format!("{router}"), "full")], 2))
            .sum();
        let (lasts, left) = conditions.take(3);
        assert_eq!((lasts.len(), left.len(), dropped), (CONDITIONS_MAX, CONDITIONS_OF_ONE_MAX + 1, left.len() as u64));
        assert_eq!(left[0].source, "quiet");
        // Nobody takes what is left while a post hangs.
        for router in 0..5 * CONDITIONS_MAX {
            conditions.stand(&format!("later-{router}"), vec![told(&format!("later-{router}"), "full")], 3);
        }
        assert_eq!(conditions.left.len(), CONDITIONS_MAX);
        let away: Vec<_> = (0..10 * CONDITIONS_MAX).map(|number| number.to_string()).collect();
        away.iter().for_each(|source| conditions.is_seen(source, Whereabouts::Away, 4));
        conditions.take(5);
        assert_eq!(conditions.away.len(), 0, "none of them told of anything that is kept");
    }
}
