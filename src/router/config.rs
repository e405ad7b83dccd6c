//! A router's configuration: what was written ([`RouterFile`]), what was meant ([`RouterConfig`]), and
//! [`RouterFile::validate`] between the two. It does not know where a value came from, and opens nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::endpoint::Endpoint;
use crate::domain::ids::RouterId;
use crate::ops::alerts::{AlertsConfig, AlertsFile};
use crate::ops::config::{InvalidConfig, Log, LogFile};
use crate::tls::{TlsConfig, TlsFile};

mod validation;

/// Most seeds of a router: more do not make it safer, and every one is dialled before it gives up a round.
pub const SEEDS_MAX: usize = 64;
/// Sessions of a router when its configuration does not say: one active, one warm.
pub const SESSIONS_DEFAULT: usize = 2;
/// Most sessions of a router: each costs its controller memory.
pub const SESSIONS_MAX: usize = 4;
/// Least and most of `no_controller_after_ms`: sooner every restart of a controller alarms, later nobody is helped.
pub const NO_CONTROLLER_AFTER_MS: RangeInclusive<u64> = 1_000..=3_600_000;
/// Longest command line that is run when the list changes, in bytes.
pub const ON_CHANGE_BYTES_MAX: usize = 4 * 1024;

/// What was written: the TOML file, overlaid by the environment and flags. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterFile {
    /// The router's identity. Required: there is no default, since two routers with one id fight for one session.
    pub id: Option<String>,
    /// Directory of its saved lists. Required.
    pub data_dir: Option<PathBuf>,
    /// Router endpoints of controllers, as `https://HOST:PORT`: tried last, never forgotten. At least one.
    pub seeds: Vec<String>,
    /// How many controllers it keeps a session with.
    pub sessions: Option<usize>,
    /// For so long without any controller, and a person is told.
    pub no_controller_after_ms: Option<u64>,
    /// Whether it has its certificate renewed by controllers, long before it ends.
    pub renew_certificate: Option<bool>,
    /// For people and selectors.
    pub labels: BTreeMap<String, String>,
    /// How the data plane beside it learns of the list.
    pub output: OutputFile,
    /// Where its HTTP API listens: `127.0.0.1:PORT` or `unix:/PATH`. Absent: nowhere.
    pub http: Option<String>,
    /// Certificates, or plain text.
    pub tls: TlsFile,
    /// Who is alarmed.
    pub alerts: AlertsFile,
    /// The log on stderr.
    pub log: LogFile,
}

/// Outputs, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputFile {
    /// The list as JSON, replaced atomically at each change.
    pub json_file: Option<PathBuf>,
    /// A command line for `/bin/sh`, run after each change.
    pub on_change: Option<String>,
}

/// What was meant: every relation between the values holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// The router's identity.
    pub id: RouterId,
    /// Directory of its saved lists.
    pub data_dir: PathBuf,
    /// Router endpoints of controllers. At least one.
    pub seeds: Vec<Endpoint>,
    /// How many controllers it keeps a session with: 1 to [`SESSIONS_MAX`].
    pub sessions: usize,
    /// For so long without any controller, and a person is told.
    pub no_controller_after: Duration,
    /// Whether it has its certificate renewed by controllers.
    pub renew_certificate: bool,
    /// For people and selectors.
    pub labels: BTreeMap<String, String>,
    /// How the data plane beside it learns of the list.
    pub output: Output,
    /// Where its HTTP API listens.
    pub http: Option<HttpListen>,
    /// How bytes travel.
    pub tls: TlsConfig,
    /// Who is alarmed; `None`: nobody.
    pub alerts: Option<AlertsConfig>,
    /// The log on stderr.
    pub log: Log,
}

/// Outputs for the data plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The list as JSON.
    pub json_file: Option<PathBuf>,
    /// A command line for `/bin/sh`, run after each change.
    pub on_change: Option<String>,
}

/// Where the HTTP API listens: for this host only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpListen {
    /// A loopback address. Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A local socket.
    Unix(PathBuf),
}

impl fmt::Display for HttpListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl RouterFile {
    /// What was meant.
    ///
    /// # Errors
    /// [`InvalidConfig`] with every problem, each with its key and its remedy.
    pub fn validate(self) -> Result<RouterConfig, InvalidConfig> {
        validation::validate(self)
    }
}
