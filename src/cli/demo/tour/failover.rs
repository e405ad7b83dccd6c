//! The leader is killed in the middle of writes: another one takes over, and how long that took is measured.

use std::time::Duration;

use anyhow::Context as _;

use super::{Tour, checks};
use crate::cli::demo::layout::{Entry, Unit};
use crate::cli::demo::prober::Prober;
use crate::cli::demo::wait::until;

/// From SIGKILL to the next leader, and from a restart to a controller that has caught up.
const ELECTION_DEADLINE: Duration = Duration::from_secs(15);
/// Writes that must be acknowledged before the leader is killed, and after the next one leads.
const ACKS_AROUND: usize = 20;

/// Kills the leader under load, waits for the next one, and brings the killed one back.
pub(super) async fn fail_over(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let killed = tour.cluster().await?.leader.context("nobody leads")?;
    let number = tour.number_of(killed)?;
    let prober = Prober::of(&tour.stage.layout, tour.members.keys().copied())?;
    until(ELECTION_DEADLINE, async || more_than(prober.count(), ACKS_AROUND)).await?;
    tour.stage.asked.remove(&number);
    tour.stage.reconnect();
    tour.stage.children.kill(Unit::Controller(number)).await?;
    let before = prober.count();
    let next = until(ELECTION_DEADLINE, async || {
        let view = tour.cluster().await?;
        anyhow::ensure!(view.leader.is_some_and(|leader| leader != killed), "no other controller leads yet");
        more_than(prober.count(), before + ACKS_AROUND)?;
        Ok(view)
    });
    let view = next.await.context("after the leader was killed")?;
    let (acks_ms, ended_ms) = prober.stop();
    let saw = checks::failed_over(killed, &view, &acks_ms, ended_ms)?;
    tour.stage.start_controller(number, Entry::Founds)?;
    let controllers = tour.members.len();
    let again = until(ELECTION_DEADLINE, async || checks::formed(&tour.cluster().await?, controllers)).await;
    again.context("after the killed controller was started again")?;
    forget_probes(tour, controllers).await?;
    Ok(saw)
}

async fn forget_probes(tour: &mut Tour<'_>, count: usize) -> anyhow::Result<()> {
    let admin = tour.stage.admin().await?;
    for probe in (1..=count).flat_map(Prober::ids) {
        admin.forget(&probe.parse()?).await?;
    }
    Ok(())
}

fn more_than(count: usize, expected: usize) -> anyhow::Result<()> {
    anyhow::ensure!(count > expected, "{count} registrations were acknowledged, more than {expected} are expected");
    Ok(())
}
