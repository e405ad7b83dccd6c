//! `conformance …`

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::endpoint;
use crate::conformance::Case;
use crate::domain::endpoint::Endpoint;

/// `conformance …`
#[derive(Debug, Subcommand)]
pub enum ConformanceCommand {
    /// Play a hostile controller to a router, ours or another, and tell what it did
    ///
    /// Start it, then the router, with this address as its only seed and an empty data directory. Never use a router that
    /// serves anybody: it is made to hold lists of a cluster that does not exist. With two sessions or more a router is
    /// tried in every case. Exit code 0: no case failed.
    Router(Box<RouterConformance>),
}

/// Flags of `conformance router`.
#[derive(Debug, Clone, Args)]
pub struct RouterConformance {
    /// Where the router finds this controller
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7002")]
    pub listen: SocketAddr,
    /// How the router writes this address, when it is not the one of --listen
    #[arg(long, value_name = "https://HOST:PORT", value_parser = endpoint)]
    pub advertise: Option<Endpoint>,
    /// Only this case (repeatable): empty-list, silence, …; another name prints them all
    #[arg(long = "case", value_name = "NAME|all", default_value = "all", value_parser = chosen)]
    pub cases: Vec<Chosen>,
    /// Longest wait for any step of a case
    #[arg(long, value_name = "SECONDS", default_value = "20")]
    pub timeout: NonZeroU32,
    /// Longest wait for a router to appear
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub appear: NonZeroU32,
    /// Restarts the router, run by sh: older-after-restart needs it
    #[arg(long, value_name = "CMD")]
    pub restart_command: Option<String>,
    /// A table for people, or JUnit XML for CI
    #[arg(long, value_enum, default_value_t = ReportForm::Text, value_name = "FORM")]
    pub report: ReportForm,
    /// Write the report here; a table still goes to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Speak plain text (http://) to a router on this host
    #[arg(long, conflicts_with = "tls_dir")]
    pub insecure: bool,
    /// A directory with a controller certificate, as `pilothouse pki issue` writes it
    #[arg(long, value_name = "DIR", required_unless_present = "insecure")]
    pub tls_dir: Option<PathBuf>,
}

/// What `--case` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// Every case.
    All,
    /// This one.
    One(Case),
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// A table
    Text,
    /// JUnit XML
    Junit,
}

impl RouterConformance {
    /// The cases that were asked for, in the order in which they are played.
    #[must_use]
    pub fn chosen(&self) -> Vec<Case> {
        let wanted = |case: &Case| self.cases.contains(&Chosen::All) || self.cases.contains(&Chosen::One(*case));
        Case::ALL.into_iter().filter(wanted).collect()
    }
}

fn chosen(name: &str) -> Result<Chosen, String> {
    if name == "all" { Ok(Chosen::All) } else { name.parse().map(Chosen::One) }
}
