//! `config …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::OutputFlag;
use super::daemon::CommonFlags;

/// `config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the resulting values: defaults, file, PILOTHOUSE_… variables, flags
    Show(Show),
}

/// `config show`
#[derive(Debug, Args)]
pub struct Show {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whose configuration it is; without it the file's keys tell
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Also say where each value came from
    #[arg(long)]
    pub origin: bool,
    /// Flags of the daemon.
    #[command(flatten)]
    pub flags: CommonFlags,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: OutputFlag,
}

/// Whose configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A controller's
    Controller,
    /// A router's
    Router,
}

impl Role {
    /// As in commands and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Router => "router",
        }
    }
}
