//! Hashes of the applied state, taken where the log tells every controller to: at announcements.
//!
//! An announcement is an entry that every build reads, so that hashes are of the same places while versions are mixed,
//! and none is needed that would wait for a level. Hashing goes on beside applying, on a copy that shares its records.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::codec::SnapshotEncoder;
use crate::domain::agreement::{Checkpoint, Checkpoints, StateHash};
use crate::domain::state::ClusterState;
use crate::storage::Work;

/// How a state becomes the bytes that are hashed: the records of its snapshot. To be raised together with any change of
/// these bytes, since builds that write others are not to be compared.
pub const STATE_HASH_SCHEME: u32 = 1;
/// Most states that are hashed at the same time. Of more announcements in a moment some get no hash: another one follows.
const HASHING_MAX: usize = 2;

/// The hash of a state.
#[must_use]
pub fn hash(state: &ClusterState) -> StateHash {
    let mut hash = Sha256::new();
    SnapshotEncoder::new(state).for_each(|record| hash.update(record));
    StateHash { scheme: STATE_HASH_SCHEME, sha256: hash.finalize().into() }
}

/// Takes checkpoints, and keeps the newest. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Hashing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: watch::Sender<Checkpoints>,
    running: AtomicUsize,
}

impl Hashing {
    /// The newest checkpoints.
    pub(super) fn kept(&self) -> watch::Receiver<Checkpoints> {
        self.0.kept.subscribe()
    }

    /// Hashes what `state` gives, unless enough of that goes on already.
    pub(super) fn take(&self, work: Work, state: impl FnOnce() -> ClusterState) {
        let Some(turn) = self.turn() else { return };
        let state = state();
        let Some(position) = state.applied else { return };
        let shared = self.0.clone();
        let job = move || {
            let checkpoint = Checkpoint { position, hash: hash(&state) };
            shared.kept.send_modify(|kept| kept.keep(checkpoint));
            drop(turn);
        };
        match work {
            Work::Inline => job(),
            // Nobody waits for it. Should it fail, this controller has no hash there, which shows.
            Work::Threads => drop(tokio::task::spawn_blocking(job)),
        }
    }

    fn turn(&self) -> Option<Turn> {
        let running = self.0.running.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(self.0.clone());
        (running < HASHING_MAX).then_some(turn)
    }
}

struct Turn(Arc<Shared>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state::LogPosition;

    fn state(index: u64) -> ClusterState {
        ClusterState { applied: Some(LogPosition { term: 1, index }), ..ClusterState::default() }
    }

    #[test]
    fn a_hash_is_kept_with_its_place() {
        let hashing = Hashing::default();
        hashing.take(Work::Inline, || state(7));
        hashing.take(Work::Inline, || state(9));
        let kept: Vec<_> = hashing.kept().borrow().since(None).copied().collect();
        assert_eq!(kept.iter().map(|kept| kept.position.index).collect::<Vec<_>>(), [7, 9]);
        assert_eq!(kept[0].hash, hash(&state(7)));
        assert_ne!(kept[0].hash, kept[1].hash, "the place is part of the state");
    }

    #[test]
    fn at_most_two_states_are_hashed_at_a_time() {
        let hashing = Hashing::default();
        let turns: Vec<_> = (0..HASHING_MAX).map(|_| hashing.turn().unwrap()).collect();
        hashing.take(Work::Inline, || unreachable!("not even copied"));
        assert_eq!(hashing.kept().borrow().since(None).count(), 0);
        drop(turns);
        hashing.take(Work::Inline, || state(7));
        assert_eq!(hashing.kept().borrow().since(None).count(), 1);
    }
}
