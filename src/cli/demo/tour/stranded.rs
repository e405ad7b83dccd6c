//! While a router is away, the whole cluster is replaced: nobody that it knew is left. One live seed is enough.

use std::time::Duration;

use anyhow::Context as _;

use super::{REPLACEMENTS, Tour, checks};
use crate::cli::demo::layout::RouterChoice;
use crate::cli::demo::wait::until;

/// From the start of the router to its agreement with the new cluster.
const RESCUE_DEADLINE: Duration = Duration::from_secs(15);

/// Stops a router, replaces every controller, and starts the router with one live seed.
pub(super) async fn replaced(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let away = tour.stage.layout.routers;
    let knew = tour.router(away).await?.held.context("it holds no list")?.controllers;
    tour.stop_router(away).await?;
    let old: Vec<u16> = tour.members.keys().copied().collect();
    let first = tour.stage.layout.controllers + 2;
    for number in first..first + REPLACEMENTS {
        let id = tour.add(number).await?;
        tour.give_vote(id).await?;
    }
    for number in old {
        tour.take_out(number).await?;
    }
    tour.stage.start_router(away, &RouterChoice { seeds: vec![first], sessions: 2 })?;
    until(RESCUE_DEADLINE, async || {
        let view = tour.cluster().await?;
        checks::formed(&view, usize::from(REPLACEMENTS))?;
        let rescued = checks::rescued(&knew, &view, &tour.router(away).await?)?;
        checks::agreed(&view, &tour.selves().await?)?;
        Ok(rescued)
    })
    .await
}
