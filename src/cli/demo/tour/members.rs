//! The cluster grows and shrinks under its routers.

use std::time::Duration;

use anyhow::Context as _;

use super::{Tour, checks};
use crate::cli::demo::layout::Unit;
use crate::cli::demo::view::ClusterView;
use crate::cli::demo::wait::until;

/// From a committed change to its acknowledgement by all routers.
const SEEN_DEADLINE: Duration = Duration::from_secs(10);

/// A blank controller is added: it learns, and serves routers, without a vote.
pub(super) async fn join(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let number = tour.stage.layout.controllers + 1;
    let id = tour.add(number).await?;
    seen(tour, |view| checks::member(view, id, false)).await
}

/// The learner gets its vote.
pub(super) async fn promote(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let number = tour.stage.layout.controllers + 1;
    let id = *tour.members.get(&number).context("nobody joined")?;
    tour.give_vote(id).await?;
    seen(tour, |view| checks::member(view, id, true)).await
}

/// A founder that does not lead is removed.
pub(super) async fn remove(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let leader = tour.cluster().await?.leader;
    let founders = tour.stage.layout.controllers;
    let leaving = tour.members.iter().find(|(number, id)| **number <= founders && Some(**id) != leader);
    let leaving = *leaving.context("every founder leads")?.0;
    let (name, id) = (Unit::Controller(leaving).to_string(), tour.take_out(leaving).await?);
    let voters = tour.members.len();
    seen(tour, |view| checks::removed(view, &name, id, voters)).await
}

/// The change is there, and every router acknowledged the list that it made.
async fn seen(tour: &mut Tour<'_>, check: impl Fn(&ClusterView) -> anyhow::Result<String>) -> anyhow::Result<String> {
    until(SEEN_DEADLINE, async || {
        let view = tour.cluster().await?;
        let changed = check(&view)?;
        Ok(format!("{changed}; {}", checks::agreed(&view, &tour.selves().await?)?))
    })
    .await
}
