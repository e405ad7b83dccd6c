//! What a leader looks at now and then: whether every member has come to the same state, and whether an upgrade can be
//! finalized by itself. Writes go on meanwhile; what it finds is an event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Backend;
use crate::domain::agreement::Agreement;
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;
use crate::domain::upgrade::{Blocker, blockers, newest};
use crate::ops::events::{Event, Kind, Subject};
use crate::raft::settings::CHECKPOINT_EVERY;

/// How often a leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An upgrade that something is in the way of for this long needs a person: controllers are restarted within minutes.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(30 * 60);

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
    differing: BTreeSet<ControllerId>,
    blocked_since: Option<Instant>,
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
        let differing = sights.iter().filter_map(|(id, sight)| match sight.agreement {
            Agreement::Differs { index } => Some((*id, index)),
            Agreement::Equal { .. } | Agreement::Unknown => None,
        });
        self.tell_differing(seen, &differing.collect::<Vec<_>>());
        self.metrics.newest_level(level);
        if current >= Some(level) {
            self.soak.ends();
            return self.tell_unblocked(seen);
        }
        // What was not compared yet is compared when the level is raised.
        let left: Vec<_> = left.into_iter().filter(|found| !matches!(found, Blocker::NotCompared { .. })).collect();
        if !left.is_empty() {
            self.soak.ends();
            let since = *seen.blocked_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= pace.blocked_patience {
                self.tell_blocked(level, &left);
            }
            return;
        }
        self.tell_unblocked(seen);
        if self.soak.goes_on(level, Instant::now()) {
            tracing::info!(level = level.get(), "the upgrade has soaked for as long as configured: finalizing it");
            if let Err(error) = self.raise_level(level).await {
                tracing::warn!(%error, "the upgrade could not be finalized by itself yet; it is tried again");
            }
        }
    }

    fn tell_differing(&self, seen: &mut Seen, differing: &[(ControllerId, u64)]) {
        self.metrics.states_differ(differing.len());
        for (controller, index) in differing {
            if !seen.differing.contains(controller) {
                self.events.raise(Event::StateDiffers { controller: *controller, index: *index });
            }
        }
        for controller in seen.differing.iter().filter(|was| !differing.iter().any(|(is, _)| is == *was)) {
            self.events.resolve(Kind::StateDiffers, &Subject::Controller(controller.to_string()));
        }
        seen.differing = differing.iter().map(|(controller, _)| *controller).collect();
    }

    /// Who leads now sees for itself what is in the way.
    fn leads_no_more(&self, seen: &mut Seen) {
        self.tell_unblocked(seen);
        self.tell_differing(seen, &[]);
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
    fn without_a_soak_time_nothing_is_raised_by_itself() {
        let (soak, began) = (Soak::new(None), Instant::now());
        assert!(!soak.goes_on(FeatureLevel::THREE, began));
        assert!(!soak.goes_on(FeatureLevel::THREE, began + HOUR * 24 * 365));
    }
}
