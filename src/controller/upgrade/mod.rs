//! The feature level on a controller: what is seen of the members' builds and states, and what becomes of it.
//!
//! What may be raised is `domain::upgrade`'s to decide; here the members are asked.
//!
//! | module | what it is |
//! |---|---|
//! | `report` | what operators are shown |
//! | `finalizing` | raises the level |
//! | [`watching`] | compares states in the background, and finalizes by itself where that is configured |

mod finalizing;
mod report;
pub mod watching;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

pub(super) use self::finalizing::finalize;
use super::backend::Backend;
use super::relay;
use crate::domain::agreement::{Agreement, Checkpoint, Checkpoints, compare};
use crate::domain::feature::{Announcement, FeatureLevel};
use crate::domain::ids::ControllerId;
use crate::domain::membership::Member;
use crate::domain::state::ClusterState;
use crate::domain::upgrade::Sight;
use crate::proto::relay::TryLevelResponse;

/// Longest wait for one member's hashes.
const HASHES_WITHIN: Duration = Duration::from_secs(2);
/// How often a member is asked again for a hash that it does not have yet.
const HASHES_EVERY: Duration = Duration::from_millis(100);

impl Backend {
    /// What is seen of every member: the build that answers, and whether its state is this controller's, by the newest
    /// hashes that both have.
    pub(super) async fn sights(&self) -> BTreeMap<ControllerId, Sight> {
        let own = self.node().checkpoints().borrow().clone();
        self.look(&own, |id| async move { relay::checkpoints(self.node(), id, HASHES_WITHIN).await.ok() }).await
    }

    /// The same, by the hashes at one place: whoever has none there yet is waited for.
    pub(super) async fn sights_at(&self, own: Checkpoint) -> BTreeMap<ControllerId, Sight> {
        let theirs = |id| async move {
            let asking = async {
                loop {
                    let hashes = relay::checkpoints(self.node(), id, HASHES_WITHIN).await;
                    if let Some(hash) = hashes.ok().and_then(|hashes| hashes.at(own.position).copied()) {
                        return hash;
                    }
                    tokio::time::sleep(HASHES_EVERY).await;
                }
            };
            let hash = tokio::time::timeout(crate::raft::HASHED_WITHIN, asking).await.ok()?;
            Some(Checkpoints::from_iter([hash]))
        };
        self.look(&Checkpoints::from_iter([own]), theirs).await
    }

    async fn look<F>(&self, own: &Checkpoints, hashes: impl Fn(ControllerId) -> F) -> BTreeMap<ControllerId, Sight>
    where
        F: Future<Output = Option<Checkpoints>>,
    {
        let look_at = |member: Member| {
            let hashes = hashes(member.id);
            async move {
                let runs = self.runs(&member).await;
                if self.is_me(&member) {
                    let index = self.node().read(|state| state.applied.map_or(0, |applied| applied.index));
                    return (member.id, Sight { runs, agreement: Agreement::Equal { index } });
                }
                // Whoever does not answer to its name has no hashes either.
                let theirs = if runs.is_some() { hashes.await } else { None };
                let agreement = theirs.map_or(Agreement::Unknown, |theirs| compare(own, &theirs));
                (member.id, Sight { runs, agreement })
            }
        };
        join_all(self.node().read(members).into_iter().map(look_at)).await.into_iter().collect()
    }

    /// What was seen, with the builds that answer at this moment: a member may have gone back to an older one since.
    async fn run_now(&self, seen: BTreeMap<ControllerId, Sight>) -> BTreeMap<ControllerId, Sight> {
        let again = |member: Member| {
            let sight = seen.get(&member.id);
            async move {
                let agreement = sight?.agreement;
                Some((member.id, Sight { runs: self.runs(&member).await, agreement }))
            }
        };
        join_all(self.node().read(members).into_iter().map(again)).await.into_iter().flatten().collect()
    }

    /// The build of a member that answers; `None`: nobody does.
    async fn runs(&self, member: &Member) -> Option<Announcement> {
        if self.is_me(member) { self.node().announcement() } else { self.node().build_of(member).await }
    }

    fn is_me(&self, member: &Member) -> bool {
        self.node().me().id == Some(member.id)
    }

    /// Writes this controller's state at a level, on a copy, and reads it back.
    pub(super) async fn try_level(&self, level: FeatureLevel) -> TryLevelResponse {
        match self.node().try_level(level).await {
            Ok(trial) => TryLevelResponse { bytes: trial.bytes, failure: String::new() },
            Err(error) => TryLevelResponse { bytes: 0, failure: error.to_string() },
        }
    }
}

fn members(state: &ClusterState) -> Vec<Member> {
    state.membership.as_ref().map_or_else(Vec::new, |applied| applied.membership.members().cloned().collect())
}
