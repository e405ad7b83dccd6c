//! A listed controller goes bad and offers a router an empty list, newer than any other. The router refuses it.

use std::time::Duration;

use anyhow::Context as _;

use super::checks::Refused;
use super::{Tour, checks};
use crate::cli::demo::credentials;
use crate::cli::demo::imposter::{Claim, Imposter};
use crate::cli::demo::layout::{Entry, Unit};
use crate::cli::demo::wait::until;

/// From the appearance of the imposter to the router's answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// From the end of the imposter to a whole cluster.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(15);
/// The router to which it happens.
const VICTIM: u16 = 1;
/// More sessions than there are controllers: the router speaks to all of them, the imposter included.
const SESSIONS: usize = 4;

/// Kills a follower, puts an imposter on its port, and waits for the router's answer.
pub(super) async fn empty_list(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    tour.stop_router(VICTIM).await?;
    let choice = tour.choice_of_members(SESSIONS);
    tour.stage.start_router(VICTIM, &choice)?;
    let before = until(ANSWER_DEADLINE, async || {
        checks::agreed(&tour.cluster().await?, &tour.selves().await?)?;
        tour.router(VICTIM).await
    });
    let before = before.await.context("the router was restarted with more sessions")?;
    let (number, claim) = bad_one(tour).await?;
    let unit = Unit::Controller(number);
    tour.stage.asked.remove(&number);
    tour.stage.reconnect();
    tour.stage.children.kill(unit).await?;
    // It has the bad one's own certificate: whether routers see through it is up to them alone.
    let security = credentials::as_controller(&tour.stage.layout, number)?;
    let mut imposter = Imposter::start(tour.stage.layout.ports(number).router, claim, security).await?;
    let answer = tokio::time::timeout(ANSWER_DEADLINE, imposter.answers.recv()).await;
    let nack = answer.context("no router answered the empty list")?.context("the imposter ended")?;
    let after = tour.router(VICTIM).await?;
    drop(imposter);
    let saw = checks::refused_empty(&Refused { before, after, nack })?;
    let entry = if number <= tour.stage.layout.controllers { Entry::Founds } else { Entry::Joins };
    tour.stage.start_controller(number, entry)?;
    tour.stage.asked.insert(number);
    let controllers = tour.members.len();
    let whole = until(RECOVERY_DEADLINE, async || checks::formed(&tour.cluster().await?, controllers)).await;
    whole.context("after the imposter was gone")?;
    Ok(saw)
}

/// A follower, and what somebody who knows the cluster would claim in its place.
async fn bad_one(tour: &mut Tour<'_>) -> anyhow::Result<(u16, Claim)> {
    let status = tour.stage.admin().await?.status().await?;
    let follower = tour.members.iter().find(|(_, id)| **id != status.leader);
    let (number, id) = follower.context("there is no follower")?;
    Ok((*number, Claim { controller_id: *id, cluster_id: status.cluster_id, epoch: status.epoch }))
}
