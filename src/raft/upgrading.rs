//! What a change of the feature level asks of a node: comparable hashes of its state, and a trial of the level.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::errors::ProposeError;
use super::network::ask;
use super::node::Node;
use super::snapshot::{self, Trial};
use crate::domain::agreement::{Checkpoint, Checkpoints};
use crate::domain::command::Change;
use crate::domain::feature::{Announcement, FeatureLevel};
use crate::domain::membership::Member;
use crate::domain::state::{ClusterState, LogPosition};

/// Longest wait for the hash of a state that was just announced: a million routers take about a second.
pub const HASHED_WITHIN: Duration = Duration::from_secs(10);

impl Node {
    /// The newest hashes of what was applied here.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Checkpoints> {
        self.life().applied.checkpoints()
    }

    /// What this controller announces of its own build; `None` while it has no id.
    #[must_use]
    pub fn announcement(&self) -> Option<Announcement> {
        self.me().id.map(|me| self.record().announcement(me))
    }

    /// What a member's process answers that it can do; `None` when nobody answers, or somebody else.
    pub async fn build_of(&self, member: &Member) -> Option<Announcement> {
        let record = ask::identify_any(self.dialer(), member.id, &member.peer).await.ok()?;
        let same = record.incarnation == member.incarnation && record.id == Some(member.id);
        same.then(|| record.announcement(member.id))
    }

    /// As leader: has every controller hash its state at one place, by announcing this controller's build once more.
    /// Where that is.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn take_checkpoint(&self) -> Result<LogPosition, ProposeError> {
        let own = self.announcement().ok_or(ProposeError::NotRunning { reason: super::life::NOT_YET })?;
        Ok(self.propose(Change::Announce(own)).await?.0)
    }

    /// This controller's hash at a place, once it is taken. `None`: not in time.
    pub async fn checkpoint_at(&self, position: LogPosition) -> Option<Checkpoint> {
        let mut kept = self.checkpoints();
        let taken = kept.wait_for(|kept| kept.at(position).is_some());
        let taken = tokio::time::timeout(HASHED_WITHIN, taken).await.ok()?.ok()?;
        taken.at(position).copied()
    }

    /// Writes the applied state as it will be written at a level, on a copy, and reads it back.
    ///
    /// # Errors
    /// [`snapshot::Error`]: then this controller could not go on at that level, or could not find out now: there is no
    /// room for the copy, or another trial goes on.
    pub async fn try_level(&self, level: FeatureLevel) -> Result<Trial, snapshot::Error> {
        let files = self.life().directory.snapshots();
        let state = || self.read(ClusterState::clone);
        in_turn(&self.life().trials, state, move |state| snapshot::try_level(&files, &state, level)).await
    }
}

/// Tries something with a copy of the state, unless as many trials go on as may.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    state: impl FnOnce() -> ClusterState,
    trial: impl FnOnce(ClusterState) -> Result<T, snapshot::Error> + Send + 'static,
) -> Result<T, snapshot::Error> {
    let turn = Arc::clone(turns).try_acquire_owned().map_err(|_| snapshot::Error::Busy)?;
    let state = state();
    let trial = tokio::task::spawn_blocking(move || {
        // Held by the work and not by whoever waits for it: that may give up before the work has ended.
        let _turn = turn;
        trial(state)
    });
    trial.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::raft::life::TRIALS_MAX;

    #[tokio::test]
    async fn a_trial_keeps_its_turn_until_it_has_ended_even_when_nobody_waits_for_it() {
        let turns = Arc::new(Semaphore::new(TRIALS_MAX));
        let ((begin, begins), (end, ends)) = (sync_channel::<()>(0), sync_channel::<()>(0));
        let trial = move |_| Ok(begin.send(()).is_ok() && ends.recv().is_ok());
        let waiting = in_turn(&turns, ClusterState::default, trial);
        {
            let mut waiting = std::pin::pin!(waiting);
            assert!(futures::poll!(&mut waiting).is_pending());
        }
        begins.recv().unwrap();
        let busy = in_turn(&turns, || unreachable!("not even copied"), |_| Ok(())).await.unwrap_err();
        assert!(matches!(busy, snapshot::Error::Busy), "{busy}");
        end.send(()).unwrap();
        let free = tokio::time::timeout(HASHED_WITHIN, turns.acquire()).await.unwrap().unwrap();
        drop(free);
        in_turn(&turns, ClusterState::default, |_| Ok(())).await.unwrap();
    }
}
