//! `pilothouse demo --scenario`: stories with an end, each played unattended and judged by what was seen.

mod incident;
mod rolling_upgrade;

use std::path::Path;

use clap::ValueEnum;

use super::layout::RouterChoice;
use super::stage::Stage;
use crate::cli::failure::Failure;
use rolling_upgrade::Binaries;

/// Controllers that join during a scenario.
pub(crate) const EXTRA_CONTROLLERS: u16 = 1;
/// As many controllers as every scenario is about: one may be away, and each router has a session with all of them.
pub(crate) const CONTROLLERS: u16 = 3;

/// Which story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The incident that this project answers, with a router that lacks its guards beside ours
    Incident,
    /// A cluster of an older binary becomes one of this binary, under load
    RollingUpgrade,
}

/// A story with what it needs.
#[derive(Debug, Clone)]
pub(crate) enum Story {
    Incident,
    RollingUpgrade(Binaries),
}

impl Scenario {
    /// With what it needs; `older` is what was named, `own` this binary.
    ///
    /// # Errors
    /// When something is missing, or is there and not needed.
    pub(crate) fn story(self, older: Option<&Path>, own: &Path) -> Result<Story, Failure> {
        match (self, older) {
            (Self::Incident, None) => Ok(Story::Incident),
            (Self::Incident, Some(_)) => Err(Failure::usage("the incident has no part for an older binary")
                .hint("--older is for --scenario rolling-upgrade")),
            (Self::RollingUpgrade, _) => Binaries::find(older, own).map(Story::RollingUpgrade),
        }
    }
}

impl Story {
    /// Prepares a stage on which nothing runs yet; how its routers are configured.
    pub(crate) fn begin(&self, stage: &mut Stage) -> RouterChoice {
        match self {
            Self::Incident => incident::choice(),
            Self::RollingUpgrade(binaries) => {
                binaries.begin(stage);
                stage.layout.usual_choice()
            }
        }
    }

    /// Plays it on a stage that was just opened.
    ///
    /// # Errors
    /// What did not happen as it should have, and what was seen instead.
    pub(crate) async fn run(&self, stage: &mut Stage) -> anyhow::Result<()> {
        let played = match self {
            Self::Incident => incident::play(stage).await,
            Self::RollingUpgrade(binaries) => rolling_upgrade::play(stage, binaries).await,
        };
        // A child that ended by itself is often why something did not happen.
        for (_, sentence) in stage.obituaries().await {
            stage.say(&sentence)?;
        }
        played
    }
}
