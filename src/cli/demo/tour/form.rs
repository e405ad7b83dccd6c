//! The first steps: a cluster forms, and routers register with it.

use std::time::Duration;

use super::{Tour, checks};
use crate::cli::demo::wait::until;

/// From the first process to a committed list.
const FORM_DEADLINE: Duration = Duration::from_secs(20);
/// From a committed list to its acknowledgement by all routers.
const REGISTER_DEADLINE: Duration = Duration::from_secs(15);

/// All founders are voters, and one of them leads.
pub(super) async fn form(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let controllers = tour.members.len();
    until(FORM_DEADLINE, async || checks::formed(&tour.cluster().await?, controllers)).await
}

/// Every router is registered, listed, and acknowledged the list.
pub(super) async fn register(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    until(REGISTER_DEADLINE, async || checks::agreed(&tour.cluster().await?, &tour.selves().await?)).await
}
