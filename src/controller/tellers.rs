//! Routers in whose name this controller alarms of what lasts: where they are now. One that has a session elsewhere is left
//! to whoever has it, so that two controllers do not say different things of it for long; one that has none is spoken for,
//! for a while.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::MissedTickBehavior;

use super::backend::Backend;
use super::happenings::router_of;
use crate::domain::ids::RouterId;
use crate::ops::alerts::Whereabouts;

/// How often they are looked for: several times before an alarm is posted again.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Most routers that other members are asked about in one look; it goes on with the others in the next one.
const ASKED_MAX: usize = 16;

/// Looks for them, for ever.
pub(super) async fn follow(backend: Arc<Backend>) {
    let mut again = tokio::time::interval(LOOK_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    loop {
        again.tick().await;
        backend.look_for_tellers(looks).await;
        looks += 1;
    }
}

impl Backend {
    /// One look. Nobody is asked about routers that have a session here, and nobody waits for it.
    async fn look_for_tellers(&self, looks: usize) {
        let Some(teller) = self.happenings.teller() else { return };
        let mut missing = Vec::new();
        for source in teller.sources() {
            match router_of(&source) {
                Some(router) if self.hub().has_session(&router) => teller.is_seen(&source, Whereabouts::Here),
                Some(router) if self.is_ours(&router) => missing.push((source, router)),
                _ => teller.is_seen(&source, Whereabouts::Forgotten),
            }
        }
        let asked = turn(&missing, looks).map(|(source, router)| async move {
            let answers = self.ask_members(false, router.as_str()).await;
            let elsewhere = answers.into_iter().any(|(_, answer)| answer.is_some_and(|told| !told.sessions.is_empty()));
            (source, if elsewhere { Whereabouts::Elsewhere } else { Whereabouts::Away })
        });
        for (source, at) in join_all(asked).await {
            teller.is_seen(source, at);
        }
    }

    /// Registered, and not banned.
    fn is_ours(&self, router: &RouterId) -> bool {
        self.node().read(|state| state.routers.contains_key(router) && !state.banned.contains(router))
    }
}

/// Those who are asked about in this look.
fn turn<T>(missing: &[T], looks: usize) -> impl Iterator<Item = &T> {
    let chunks = missing.len().div_ceil(ASKED_MAX).max(1);
    missing.chunks(ASKED_MAX).nth(looks % chunks).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_and_only_so_many_at_a_time() {
        let missing: Vec<_> = (0..2 * ASKED_MAX + 1).collect();
        let turns: Vec<Vec<_>> = (0..6).map(|look| turn(&missing, look).copied().collect()).collect();
        assert!(turns.iter().all(|turn| turn.len() <= ASKED_MAX));
        assert_eq!((turns[..3].concat(), turns[3..].concat()), (missing.clone(), missing));
        assert_eq!(turn::<u8>(&[], 7).count(), 0);
    }
}
