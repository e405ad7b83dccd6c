//! The arguments of `events`.

use clap::{Args, ValueEnum};

use super::Reach;
use crate::ops::events::Severity;

/// What to show of what happened.
#[derive(Debug, Clone, Args)]
pub struct EventsArguments {
    /// Go on, and print what happens as it happens
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Show only what matters at least so much
    #[arg(long, value_enum, default_value_t = Least::Info, value_name = "SEVERITY")]
    pub severity: Least,
    /// Whom to ask.
    #[command(flatten)]
    pub reach: Reach,
}

/// The least that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Least {
    /// Everything
    Info,
    /// What was wrong, and was dealt with or has to be
    Warning,
    /// What a person must look at
    Error,
}

impl From<Least> for Severity {
    fn from(least: Least) -> Self {
        match least {
            Least::Info => Self::Info,
            Least::Warning => Self::Warning,
            Least::Error => Self::Error,
        }
    }
}
