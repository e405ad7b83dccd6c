//! `pilothouse demo --scenario`: stories with an end, each played unattended and judged by what was seen.

mod incident;

use clap::ValueEnum;

use super::layout::RouterChoice;
use super::stage::Stage;

/// Controllers that join during a scenario.
pub(crate) const EXTRA_CONTROLLERS: u16 = 1;
/// As many controllers as every scenario is about: one may be away, and each router has a session with all of them.
pub(crate) const CONTROLLERS: u16 = 3;

/// Which story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The incident that this project answers, with a router that lacks its guards beside ours
    Incident,
}

impl Scenario {
    /// How its routers are configured.
    pub(crate) fn choice(self) -> RouterChoice {
        match self {
            Self::Incident => incident::choice(),
        }
    }

    /// Plays it on a stage that was just opened.
    ///
    /// # Errors
    /// What did not happen as it should have, and what was seen instead.
    pub(crate) async fn run(self, stage: &mut Stage) -> anyhow::Result<()> {
        let played = match self {
            Self::Incident => incident::play(stage).await,
        };
        // A child that ended by itself is often why something did not happen.
        for (_, sentence) in stage.obituaries().await {
            stage.say(&sentence)?;
        }
        played
    }
}
