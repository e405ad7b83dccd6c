//! `health`

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use super::endpoint;
use crate::domain::endpoint::Endpoint;

/// How long an answer may take, in seconds: a process on the same host has it at once or has something wrong with it.
const ANSWER_SECONDS: NonZeroU32 = NonZeroU32::new(5).expect("it is not 0");

/// `health`
#[derive(Debug, Args)]
pub struct Health {
    /// The configuration of the controller or router; PILOTHOUSE_… variables are read as it reads them
    #[arg(long, value_name = "FILE", env = "PILOTHOUSE_CONFIG", conflicts_with = "url")]
    pub config: Option<PathBuf>,
    /// Its HTTP port, in place of a configuration: https:// for a controller, http:// for a router
    #[arg(long, value_name = "https://HOST:PORT", value_parser = endpoint)]
    pub url: Option<Endpoint>,
    /// Whoever signed its certificate, PEM, which has to name HOST: for --url https://
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
    /// Ask whether it still makes progress (/livez) and not whether it is ready: what fails this has to be restarted
    #[arg(long)]
    pub alive: bool,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = ANSWER_SECONDS)]
    pub timeout: NonZeroU32,
}
