//! `cluster upgrade …`.

use clap::{Args, Subcommand};

use super::Reach;
use crate::domain::feature::FeatureLevel;

/// `cluster upgrade …`
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Show which version every controller runs, what the cluster may write, and what is in the way of more
    ///
    /// With `-o json`: `feature_level`, `target`, `finalized`, `leader`, `answered_by`, `controllers` with `id`, `name`,
    /// `version`, `running`, `reads` (MIN to MAX), `serves` (router protocols), `state` and `compared_at`, `blockers` with
    /// `reason`, `controller`, `message`, `hint`, `routers` by version, `soak_ms` and `soaked_ms` (null: never by itself).
    Status(Reach),
    /// Show what raising the feature level would do, without doing it: routers, and a trial on every controller
    ///
    /// Exit code 1 when a router would be refused, or something is in the way.
    Plan {
        /// The level; without it, the newest that any controller writes
        #[arg(long, value_name = "LEVEL", value_parser = level)]
        to: Option<FeatureLevel>,
        /// Whom to ask.
        #[command(flatten)]
        reach: Reach,
    },
    /// Raise the feature level: from then on older versions are refused, and there is no way back
    Finalize(Finalizing),
}

/// `cluster upgrade finalize`
#[derive(Debug, Args)]
pub struct Finalizing {
    /// The level; without it, the newest that any controller writes
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub to: Option<FeatureLevel>,
    /// Wait until nothing is in the way, and show what is
    #[arg(long)]
    pub wait: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub reach: Reach,
}

fn level(text: &str) -> Result<FeatureLevel, String> {
    let number: u32 = text.parse().map_err(|_| "a feature level is a number from 1".to_owned())?;
    FeatureLevel::new(number).ok_or_else(|| "feature levels begin at 1".to_owned())
}
