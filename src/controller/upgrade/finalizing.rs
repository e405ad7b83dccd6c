//! Raises the feature level, on the leader: until nothing is in the way, then every state is compared at one place of
//! the log, then the level becomes a log entry, which is judged once more where it is applied.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Backend;
use crate::controller::admin::unproposed;
use crate::domain::command::{Change, Outcome};
use crate::domain::feature::FeatureLevel;
use crate::domain::upgrade::{Blocker, blockers, newest};
use crate::proto::admin;
use crate::rpc::control_plane::AdminError;

/// Longest wait until nothing is in the way, where the operator asked to wait.
const FINALIZE_WAIT_MAX: Duration = Duration::from_secs(600);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the operator hears that the wait goes on.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Between two comparisons of every state, where the operator asked to wait: each is a log entry and a hash on every member.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// Whom the progress is told. An operator who went away ends the wait: a level cannot be lowered again, and nobody would
/// expect it to rise long after. What was begun after the wait goes on.
type Report = mpsc::Sender<Result<admin::UpgradeProgress, AdminError>>;

/// Raises the level as an operator asked for it.
pub(in crate::controller) async fn finalize(
    backend: Arc<Backend>,
    request: admin::FinalizeUpgradeRequest,
    report: Report,
) {
    let end = match finalizing(&backend, request, &report).await {
        Ok(level) => Ok(admin::UpgradeProgress { done: true, feature_level: level.get(), message: "done".into() }),
        Err(error) => {
            tracing::warn!(%error, "the feature level is not raised");
            Err(error)
        }
    };
    let _ = report.send(end).await;
}

async fn finalizing(
    backend: &Backend,
    request: admin::FinalizeUpgradeRequest,
    report: &Report,
) -> Result<FeatureLevel, AdminError> {
    backend.barrier().await?;
    let deadline = Instant::now() + FINALIZE_WAIT_MAX;
    loop {
        let level = await_possible(backend, request, deadline, report).await?;
        say(report, format!("comparing the state of every controller, then raising the feature level to {level}"))
            .await;
        match backend.raise_level(level).await {
            Err(error) if request.wait && passes(&error) && Instant::now() < deadline => {
                say(report, format!("waiting: {error}")).await;
                pause(report, COMPARE_EVERY).await?;
            }
            raised => return raised,
        }
    }
}

/// Whether it is worth another attempt: a follower that was too slow to be compared, or somebody else who was quicker.
fn passes(error: &AdminError) -> bool {
    match error {
        AdminError::ChangeInProgress => true,
        AdminError::UpgradeBlocked { blockers, .. } => blockers.iter().all(|blocker| !differs(blocker)),
        _ => false,
    }
}

fn differs(blocker: &Blocker) -> bool {
    matches!(blocker, Blocker::StateDiffers { .. })
}

/// Some time, unless whoever asked goes away meanwhile.
async fn pause(report: &Report, time: Duration) -> Result<(), AdminError> {
    match tokio::time::timeout(time, report.closed()).await {
        Err(_) => Ok(()),
        Ok(()) => Err(AdminError::StepFailed {
            step: "waiting until nothing is in the way".into(),
            reason: "whoever asked for it went away; nothing was changed".into(),
        }),
    }
}

/// Until nothing is in the way of the level, when that was asked for. States are compared later, at one place.
async fn await_possible(
    backend: &Backend,
    request: admin::FinalizeUpgradeRequest,
    deadline: Instant,
    report: &Report,
) -> Result<FeatureLevel, AdminError> {
    let mut said: Option<(Vec<Blocker>, Instant)> = None;
    loop {
        let seen = backend.sights().await;
        let (level, mut left) = backend.node().read(|state| {
            let level = FeatureLevel::new(request.level).unwrap_or_else(|| newest(state, &seen));
            let done = state.level >= Some(level);
            (level, if done { Vec::new() } else { blockers(state, level, &seen) })
        });
        left.retain(|blocker| !matches!(blocker, Blocker::NotCompared { .. }));
        let passes = request.wait && !left.iter().any(differs);
        if left.is_empty() {
            return Ok(level);
        }
        if !passes || Instant::now() >= deadline {
            return Err(AdminError::UpgradeBlocked { level, blockers: left });
        }
        if said.as_ref().is_none_or(|(blockers, at)| *blockers != left || at.elapsed() >= SAY_EVERY) {
            let words = left.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            say(report, format!("waiting: {words}")).await;
            said = Some((left, Instant::now()));
        }
        if !backend.node().status().borrow().leads() {
            return Err(AdminError::NoLeader);
        }
        pause(report, LOOK_EVERY).await?;
    }
}

async fn say(report: &Report, message: String) {
    tracing::info!("upgrade: {message}");
    let _ = report.send(Ok(admin::UpgradeProgress { message, ..Default::default() })).await;
}

impl Backend {
    /// Compares every member's state at one place of the log, and raises the level if all are the same. No member is added
    /// or removed between the last look and the raise; the comparison, which a slow member makes long, holds up nobody.
    /// Doing it again is safe.
    pub(super) async fn raise_level(&self, level: FeatureLevel) -> Result<FeatureLevel, AdminError> {
        if let Some(current) = self.node().read(|state| state.level).filter(|current| *current >= level) {
            return Ok(current);
        }
        let position = self.node().take_checkpoint().await.map_err(unproposed)?;
        let unhashed = || AdminError::StepFailed {
            step: "the comparison of states".into(),
            reason: "this controller could not hash its own in time".into(),
        };
        let own = self.node().checkpoint_at(position).await.ok_or_else(unhashed)?;
        let compared = self.sights_at(own).await;
        let _turn = self.changing.try_lock().map_err(|_| AdminError::ChangeInProgress)?;
        let seen = self.run_now(compared).await;
        let left = self.node().read(|state| blockers(state, level, &seen));
        if !left.is_empty() {
            return Err(AdminError::UpgradeBlocked { level, blockers: left });
        }
        match self.node().propose(Change::Raise(level)).await.map_err(unproposed)? {
            (position, Outcome::Raised(level)) => {
                tracing::info!(level = level.get(), index = position.index, "the feature level is raised");
                Ok(level)
            }
            (_, Outcome::Refused(refusal)) => Err(refusal.into()),
            (_, outcome) => {
                Err(AdminError::StepFailed { step: "raising the level".into(), reason: outcome.to_string() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ControllerId;

    #[test]
    fn a_slow_follower_and_a_change_pass_and_another_state_does_not() {
        let controller = ControllerId::new(2).unwrap();
        let blocked = |blockers| AdminError::UpgradeBlocked { level: FeatureLevel::THREE, blockers };
        assert!(passes(&AdminError::ChangeInProgress));
        assert!(passes(&blocked(vec![Blocker::NotCompared { controller }, Blocker::Down { controller }])));
        assert!(!passes(&blocked(vec![
            Blocker::NotCompared { controller },
            Blocker::StateDiffers { controller, index: 7 }
        ])));
        assert!(!passes(&AdminError::NoLeader));
    }
}
