//! What can be typed: the tree of commands. It does nothing.

mod cluster;
mod config;
mod conformance;
mod daemon;
mod enrolment;
mod events;
mod health;
mod pki;
mod token;
mod upgrade;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use time::OffsetDateTime;

use crate::cli::demo::DemoArguments;
use crate::domain::endpoint::Endpoint;

pub use cluster::{Change, ClusterCommand, Readdressing, RoutersCommand};
pub use config::{ConfigCommand, Role, Show};
pub use conformance::{Chosen, ConformanceCommand, ReportForm, RouterConformance};
pub use daemon::{CommonFlags, ControllerCommand, ControllerFlags, RouterCommand, RouterFlags};
pub use enrolment::{ControllerJoin, Hidden, Owner, RouterEnroll, RouterPrepare};
pub use events::{EventsArguments, Least};
pub use health::Health;
pub use pki::{PkiCluster, PkiCommand, PkiInit, PkiIssue, PkiRenew, PkiShow, issuer_lasting, leaf_lasting};
pub use token::{Creation, TokenCommand};
pub use upgrade::{Finalizing, UpgradeCommand};

/// Where a packaged controller has its socket for operators: asked when nothing names another one.
pub const ADMIN_SOCKET: &str = "/run/pilothouse/admin.sock";

/// Controllers that agree through Raft, and routers that never lose the list of them.
#[derive(Debug, Parser)]
#[command(name = "pilothouse", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 wrong usage.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run or check a controller
    #[command(subcommand)]
    Controller(ControllerCommand),
    /// Run or look at the router agent of this host
    #[command(subcommand)]
    Router(RouterCommand),
    /// Show and change the cluster of controllers
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show the routers of the cluster
    #[command(subcommand)]
    Routers(RoutersCommand),
    /// Show what happened on every controller and router of the cluster
    Events(EventsArguments),
    /// Make join tokens, with which routers get their certificates
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show what a configuration amounts to
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make and renew the certificates that controllers, routers and admins know each other by
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Ask a controller or router on this host whether it is ready
    ///
    /// For health checks of containers and supervisors: exit code 0 when `/readyz`, or with --alive `/livez`, says so, else 1
    /// with the reason. It finds
    /// the daemon by the configuration that the daemon was started with, and verifies a controller by that one's own files.
    Health(Health),
    /// Try how routers behave when a controller misbehaves
    #[command(subcommand)]
    Conformance(ConformanceCommand),
    /// Run a whole cluster and its routers on this host, and tell what happens
    Demo(DemoArguments),
    /// Print a completion script for a shell
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// Where to, made if it is not there; read one with `man -l DIR/pilothouse.1`
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// When they were last changed, in seconds since 1970; without it they bear no date
        #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", value_parser = moment)]
        epoch: Option<OffsetDateTime>,
    },
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs: one JSON value on stdout
    Json,
}

/// `-o`.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputFlag {
    /// How the answer is printed
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// Whom to ask, and how long.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// Admin port of a controller, tried in turn; without it the file of --config, then /run/pilothouse/admin.sock
    #[arg(
        long = "endpoint",
        value_name = "https://HOST:PORT",
        env = "PILOTHOUSE_ENDPOINT",
        value_delimiter = ',',
        value_parser = endpoint
    )]
    pub endpoints: Vec<Endpoint>,
    /// A file with `endpoints = ["https://HOST:PORT"]` and a table `[tls]`, or a controller's own configuration
    #[arg(long, value_name = "FILE", env = "PILOTHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// A directory with an admin certificate, as `pilothouse pki issue` writes it
    #[arg(long, value_name = "DIR", conflicts_with = "insecure")]
    pub tls_dir: Option<PathBuf>,
    /// Speak plain text (http://) to a controller on this host
    #[arg(long, env = "PILOTHOUSE_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    pub insecure: bool,
    /// Give up after this many seconds [default: 15; 60 for a change, 180 with --wait]
    #[arg(long, value_name = "SECONDS", env = "PILOTHOUSE_TIMEOUT")]
    pub timeout: Option<NonZeroU32>,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: OutputFlag,
}

impl Reach {
    /// The deadline that was asked for, or this one.
    #[must_use]
    pub fn deadline_or(&self, default: Duration) -> Duration {
        self.timeout.map_or(default, |seconds| Duration::from_secs(u64::from(seconds.get())))
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse().map_err(|why| format!("{why}; write it as in https://127.0.0.1:7003"))
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let seconds = text.parse().map_err(|_| "it is not a whole number".to_owned())?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn endpoints_repeat_or_stand_side_by_side() {
        let parse = |list: &[&str]| {
            Arguments::try_parse_from([&["pilothouse", "cluster", "status"], list].concat()).map(|arguments| {
                let Command::Cluster(ClusterCommand::Status(reach)) = arguments.command else { panic!("not status") };
                reach.endpoints.len()
            })
        };
        assert_eq!(parse(&["--endpoint", "http://a:1", "--endpoint", "http://b:2"]).unwrap(), 2);
        assert_eq!(parse(&["--endpoint", "https://a:1,http://b:2"]).unwrap(), 2);
        assert!(parse(&["--insecure", "--tls-dir", "x"]).is_err());
        assert!(parse(&["--endpoint", "a:1"]).is_err());
        assert!(parse(&["--timeout", "0"]).is_err());
    }
}
