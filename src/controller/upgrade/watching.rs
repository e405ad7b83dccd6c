//! What a leader looks at now and then: whether every member has come to the same state, and whether an upgrade can be
//! finalized by itself. Writes go on meanwhile; what it finds is an event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Backend;
use crate::domain::agreement::Agreement;
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;
use crate::domain::retry::{Backoff, delay};
use crate::domain::upgrade::{Blocker, Sight, blockers, newest};
use crate::ops::events::{Event, Kind, Subject};
use crate::raft::settings::CHECKPOINT_EVERY;
use crate::rpc::control_plane::AdminError;

/// How often a leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An upgrade that something is in the way of for this long needs a person: controllers are restarted within minutes.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Between two attempts to finalize by itself.
const RAISE_AGAIN: Backoff = Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(10 * 60) };

/// How often a leader looks, and how patient it is. Tests are less so.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks.
    pub look_every: Duration,
    /// Between two hashes of the state, on all members.
    pub hash_every: Duration,
    /// Until an upgrade counts as blocked.
    pub blocked_patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look_every: LOOK_EVERY, hash_every: CHECKPOINT_EVERY, blocked_patience: BLOCKED_PATIENCE }
    }
}

/// How long a level has been possible without interruption, as this leader saw it. It is kept in memory: a new leader
/// begins anew, which makes it longer and never shorter.
#[derive(Debug)]
pub(in crate::controller) struct Soak {
    needed: Option<Duration>,
    possible: Mutex<Option<(FeatureLevel, Instant)>>,
}

impl Soak {
    /// Until a level is raised by itself; `None`: never.
    pub(in crate::controller) fn new(needed: Option<Duration>) -> Self {
        Self { needed, possible: Mutex::default() }
    }

    /// How long it has to be, in milliseconds.
    pub(super) fn needed_ms(&self) -> Option<u64> {
        self.needed.map(millis)
    }

    /// How long it has been, in milliseconds; `None`: something is in the way, or nobody looked.
    pub(super) fn so_far_ms(&self, level: FeatureLevel) -> Option<u64> {
        self.lock().filter(|(soaking, _)| *soaking == level).map(|(_, since)| millis(since.elapsed()))
    }

    /// Nothing is in the way of this level. Whether that has been so for long enough.
    fn goes_on(&self, level: FeatureLevel, now: Instant) -> bool {
        let mut possible = self.lock();
        let since = match *possible {
            Some((soaking, since)) if soaking == level => since,
            _ => possible.insert((level, now)).1,
        };
        self.needed.is_some_and(|needed| now.saturating_duration_since(since) >= needed)
    }

    fn ends(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(FeatureLevel, Instant)>> {
        self.possible.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a leader remembers from look to look.
#[derive(Debug, Default)]
struct Seen {
    /// Members whose state differs, and where it was found.
    differing: BTreeMap<ControllerId, u64>,
    blocked_since: Option<Instant>,
    raising: Raising,
}

/// Whose state differs now: also a member's about which nothing is known at this moment, since one that is started again has
/// lost its hashes and not its fault.
fn differing(
    before: &BTreeMap<ControllerId, u64>,
    sights: &BTreeMap<ControllerId, Sight>,
) -> BTreeMap<ControllerId, u64> {
    let differs = |(id, sight): (&ControllerId, &Sight)| match sight.agreement {
        Agreement::Differs { index } => Some((*id, index)),
        Agreement::Unknown => before.get(id).map(|index| (*id, *index)),
        Agreement::Equal { .. } => None,
    };
    sights.iter().filter_map(differs).collect()
}

/// Attempts of a leader to raise the level by itself that failed. Each costs a log entry and a hash on every member.
#[derive(Debug, Default)]
struct Raising {
    failed: u32,
    again_at: Option<Instant>,
    /// What was in the way of the last one.
    left: Vec<Blocker>,
}

impl Raising {
    fn is_due(&self, now: Instant) -> bool {
        self.again_at.is_none_or(|at| now >= at)
    }

    fn failed(&mut self, left: Vec<Blocker>, now: Instant, random: u32) {
        self.again_at = Some(now + delay(RAISE_AGAIN, self.failed, random));
        self.failed = self.failed.saturating_add(1);
        self.left = left;
    }
}

/// Looks for as long as this controller runs; only a leader sees anything.
pub(in crate::controller) async fn follow(backend: Arc<Backend>, pace: Pace) {
    let mut seen = Seen::default();
    loop {
        tokio::time::sleep(pace.look_every).await;
        backend.metrics.feature_level(backend.node().read(|state| state.level));
        if backend.node().status().borrow().leads() {
            backend.look_after_upgrade(&mut seen, pace).await;
        } else {
            backend.soak.ends();
            backend.leads_no_more(&mut seen);
        }
    }
}

impl Backend {
    async fn look_after_upgrade(&self, seen: &mut Seen, pace: Pace) {
        let sights = self.sights().await;
        let (current, level, left) = self.node().read(|state| {
            let level = newest(state, &sights);
            (state.level, level, blockers(state, level, &sights))
        });
        self.tell_differing(seen, differing(&seen.differing, &sights));
        self.metrics.newest_level(level);
        if current >= Some(level) {
            self.soak.ends();
            return self.tell_unblocked(seen);
        }
        // What was not compared yet is compared when the level is raised.
        let left: Vec<_> = left.into_iter().filter(|found| !matches!(found, Blocker::NotCompared { .. })).collect();
        let left = if left.is_empty() {
            self.soaking(level, seen).await
        } else {
            self.soak.ends();
            left
        };
        if left.is_empty() {
            return self.tell_unblocked(seen);
        }
        let since = *seen.blocked_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= pace.blocked_patience {
            self.tell_blocked(level, &left);
        }
    }

    /// Nothing is in the way as far as can be seen without comparing states: raises the level when it is time. What was in
    /// the way of that.
    async fn soaking(&self, level: FeatureLevel, seen: &mut Seen) -> Vec<Blocker> {
        if !self.soak.goes_on(level, Instant::now()) {
            return Vec::new();
        }
        if !seen.raising.is_due(Instant::now()) {
            return seen.raising.left.clone();
        }
        tracing::info!(level = level.get(), "the upgrade has soaked for as long as configured: finalizing it");
        let Err(error) = self.raise_level(level).await else {
            seen.raising = Raising::default();
            return Vec::new();
        };
        tracing::warn!(%error, "the upgrade could not be finalized by itself yet; it is tried again");
        let left = if let AdminError::UpgradeBlocked { blockers, .. } = error { blockers } else { Vec::new() };
        seen.raising.failed(left, Instant::now(), self.node().random());
        seen.raising.left.clone()
    }

    fn tell_differing(&self, seen: &mut Seen, differing: BTreeMap<ControllerId, u64>) {
        self.metrics.states_differ(differing.len());
        for (controller, index) in &differing {
            if !seen.differing.contains_key(controller) {
                self.events.raise(Event::StateDiffers { controller: *controller, index: *index });
            }
        }
        for controller in seen.differing.keys().filter(|was| !differing.contains_key(was)) {
            self.events.resolve(Kind::StateDiffers, &Subject::Controller(controller.to_string()));
        }
        seen.differing = differing;
    }

    /// Who leads now sees for itself what is in the way.
    fn leads_no_more(&self, seen: &mut Seen) {
        self.metrics.leads_no_upgrade();
        self.tell_unblocked(seen);
        self.tell_differing(seen, BTreeMap::new());
        seen.raising = Raising::default();
    }

    fn tell_unblocked(&self, seen: &mut Seen) {
        seen.blocked_since = None;
        self.events.resolve(Kind::UpgradeBlocked, &Subject::Itself);
    }

    fn tell_blocked(&self, level: FeatureLevel, left: &[Blocker]) {
        let message = left.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let hint = left.first().map_or("", Blocker::hint);
        self.events.raise(Event::UpgradeBlocked { level, message, hint });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_level_soaks_for_as_long_as_it_is_possible_without_interruption() {
        let (soak, began) = (Soak::new(Some(HOUR)), Instant::now());
        assert!(!soak.goes_on(FeatureLevel::THREE, began));
        assert!(!soak.goes_on(FeatureLevel::THREE, began + HOUR / 2));
        assert!(soak.so_far_ms(FeatureLevel::THREE).is_some());
        assert!(soak.goes_on(FeatureLevel::THREE, began + HOUR));

        soak.ends();
        assert_eq!(soak.so_far_ms(FeatureLevel::THREE), None);
        assert!(!soak.goes_on(FeatureLevel::THREE, began + HOUR * 2), "interrupted: it begins anew");
        let four = FeatureLevel::new(4).unwrap();
        assert!(!soak.goes_on(four, began + HOUR * 4), "another level begins anew");
        assert_eq!(soak.so_far_ms(FeatureLevel::THREE), None);
    }

    #[test]
    fn a_state_that_differed_differs_until_it_is_seen_to_be_equal_or_its_owner_is_gone() {
        let ids = [2, 3, 4].map(|id| ControllerId::new(id).unwrap());
        let seen = |agreements: [Agreement; 3]| -> BTreeMap<_, _> {
            ids.into_iter().zip(agreements.map(|agreement| Sight { runs: None, agreement })).collect()
        };
        let differs = |index| Agreement::Differs { index };
        let equal = || Agreement::Equal { index: 9 };
        let first = differing(&BTreeMap::new(), &seen([differs(7), Agreement::Unknown, equal()]));
        assert_eq!(first, BTreeMap::from([(ids[0], 7)]), "what is not known yet differs from nothing");
        let away = differing(&first, &seen([Agreement::Unknown, Agreement::Unknown, differs(8)]));
        assert_eq!(away, BTreeMap::from([(ids[0], 7), (ids[2], 8)]), "it was started again, no more");
        assert_eq!(differing(&away, &seen([equal(), equal(), Agreement::Unknown])), BTreeMap::from([(ids[2], 8)]));
        assert_eq!(differing(&away, &BTreeMap::new()), BTreeMap::new(), "it was removed");
    }

    #[test]
    fn an_attempt_that_failed_is_repeated_later_and_what_was_in_the_way_is_kept_until_then() {
        let (mut raising, began) = (Raising::default(), Instant::now());
        assert!(raising.is_due(began));
        let left = vec![Blocker::NotCompared { controller: ControllerId::new(2).unwrap() }];
        raising.failed(left.clone(), began, u32::MAX);
        assert_eq!(raising.left, left);
        assert!(!raising.is_due(began + Duration::from_secs(29)) && raising.is_due(began + Duration::from_secs(30)));
        for _ in 0..20 {
            raising.failed(left.clone(), began, u32::MAX);
        }
        assert!(!raising.is_due(began + Duration::from_secs(599)) && raising.is_due(began + Duration::from_secs(600)));
    }

    #[test]
    fn without_a_soak_time_nothing_is_raised_by_itself() {
        let (soak, began) = (Soak::new(None), Instant::now());
        assert!(!soak.goes_on(FeatureLevel::THREE, began));
        assert!(!soak.goes_on(FeatureLevel::THREE, began + HOUR * 24 * 365));
    }
}
