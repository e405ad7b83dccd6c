//! The last step: whatever happened before, every router holds the committed list.

use std::time::Duration;

use super::{Tour, checks};
use crate::cli::demo::wait::until;

/// From the last disturbance to agreement.
const AGREE_DEADLINE: Duration = Duration::from_secs(15);

/// Every router holds what is committed; what they were offered is counted.
pub(super) async fn agree(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    let saw = until(AGREE_DEADLINE, async || checks::agreed(&tour.cluster().await?, &tour.selves().await?)).await?;
    for number in tour.routers() {
        tour.count_offers(number).await?;
    }
    Ok(saw)
}
