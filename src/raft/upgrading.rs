//! What a change of the feature level asks of a node: comparable hashes of its state, and a trial of the level.

use std::time::Duration;

use tokio::sync::watch;

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
    /// [`snapshot::Error`]: then this controller could not go on at that level.
    pub async fn try_level(&self, level: FeatureLevel) -> Result<Trial, snapshot::Error> {
        let (state, files) = (self.read(ClusterState::clone), self.life().directory.snapshots());
        let trial = tokio::task::spawn_blocking(move || snapshot::try_level(&files, &state, level));
        trial.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}
