//! A controller's configuration: what was written ([`ControllerFile`]), what was meant ([`ControllerConfig`]), and
//! [`ControllerFile::validate`] between the two. It does not know where a value came from, and opens nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, ControllerName};
use crate::ops::alerts::{AlertsConfig, AlertsFile};
use crate::ops::config::{InvalidConfig, Log, LogFile};
use crate::tls::{ControllerTlsFile, TlsConfig};

mod validation;

/// Where each service listens when the configuration does not say.
pub const DEFAULT_LISTEN: [(&str, &str); 4] =
    [("peer", "127.0.0.1:7001"), ("router", "127.0.0.1:7002"), ("admin", "127.0.0.1:7003"), ("http", "127.0.0.1:7004")];
/// Least heartbeat interval: it is also the deadline of one peer call, and shorter ones flap under load.
pub const HEARTBEAT_MS_MIN: u64 = 100;
/// An election waits for at least this many missed heartbeats.
pub const HEARTBEATS_PER_ELECTION_MIN: u64 = 3;
/// Largest election timeout: beyond it a lost leader is noticed too late to be useful.
pub const ELECTION_MS_MAX: u64 = 60_000;
/// Longest soak time of an upgrade: 90 days. Who means never leaves it out.
pub const FINALIZE_AFTER_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Fewest log entries between two snapshots.
pub const SNAPSHOT_EVERY_ENTRIES_MIN: u64 = 100;

/// What was written: the TOML file, overlaid by the environment and flags. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerFile {
    /// Name for people; unique in the cluster.
    pub name: Option<String>,
    /// Raft id; only together with `initial_members`.
    pub id: Option<u64>,
    /// Directory of its log, votes and snapshots.
    pub data_dir: Option<PathBuf>,
    /// The controllers that found the cluster; the same on all of them.
    pub initial_members: Option<Vec<InitialMemberFile>>,
    /// Wait blank until `pilothouse cluster add` names this controller.
    pub join: Option<bool>,
    /// Where its services listen.
    pub listen: ListenFile,
    /// Under which addresses others reach it; what is absent follows from `listen`.
    pub advertise: AdvertiseFile,
    /// Unix socket for operators on this host.
    pub admin_socket: Option<PathBuf>,
    /// Certificates, or plain text.
    pub tls: ControllerTlsFile,
    /// Raft's times.
    pub raft: RaftFile,
    /// Upgrades of the cluster.
    pub upgrade: UpgradeFile,
    /// Who is alarmed.
    pub alerts: AlertsFile,
    /// The log on stderr.
    pub log: LogFile,
}

/// One founding member, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialMemberFile {
    /// Raft id.
    pub id: u64,
    /// Its `name`.
    pub name: String,
    /// Its peer address, as `https://HOST:PORT`.
    pub peer: String,
}

/// Listen addresses, as written: `HOST:PORT`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenFile {
    /// For other controllers.
    pub peer: Option<String>,
    /// For routers.
    pub router: Option<String>,
    /// For operators.
    pub admin: Option<String>,
    /// For probes and metrics.
    pub http: Option<String>,
}

/// Advertised addresses, as written: `https://HOST:PORT` each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvertiseFile {
    /// To other controllers.
    pub peer: Vec<String>,
    /// To routers: this is what stands in the list.
    pub router: Vec<String>,
    /// To operators and to controllers that forward.
    pub admin: Vec<String>,
}

/// Raft's times, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftFile {
    /// How often a leader is heard.
    pub heartbeat_ms: Option<u64>,
    /// Least time without a leader before an election.
    pub election_min_ms: Option<u64>,
    /// Most time without a leader before an election.
    pub election_max_ms: Option<u64>,
    /// Log entries between two snapshots.
    pub snapshot_every_entries: Option<u64>,
}

/// Upgrades, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeFile {
    /// An upgrade is finalized by itself once every controller has run the newer version for so many seconds.
    pub finalize_after_s: Option<u64>,
}

/// What was meant: every relation between the values holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Name for people.
    pub name: ControllerName,
    /// Directory of its log, votes and snapshots.
    pub data_dir: PathBuf,
    /// How it becomes a member.
    pub bootstrap: Bootstrap,
    /// Where its services listen.
    pub listen: Listen,
    /// Under which addresses others reach it. An empty kind follows from the bound listener.
    pub advertise: Advertise,
    /// Unix socket for operators on this host.
    pub admin_socket: Option<PathBuf>,
    /// How bytes travel.
    pub tls: TlsConfig,
    /// Raft's times.
    pub raft: RaftTimes,
    /// How long an upgrade soaks until it is finalized by itself; `None`: an operator finalizes it.
    pub finalize_after: Option<Duration>,
    /// Who is alarmed; `None`: nobody.
    pub alerts: Option<AlertsConfig>,
    /// The log on stderr.
    pub log: Log,
}

/// How a controller becomes a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// It founds the cluster together with the others of the list, itself among them.
    Found {
        /// Its own id.
        id: ControllerId,
        /// All of them, itself included, ordered by id.
        members: Vec<InitialMember>,
    },
    /// It waits until an operator adds it.
    Join,
}

/// One founding member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Raft id.
    pub id: ControllerId,
    /// Name for people.
    pub name: ControllerName,
    /// Its peer address.
    pub peer: Endpoint,
}

/// Where its services listen. Port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// For other controllers.
    pub peer: SocketAddr,
    /// For routers.
    pub router: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// For probes and metrics.
    pub http: SocketAddr,
}

/// Under which addresses others reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertise {
    /// To other controllers.
    pub peer: Vec<Endpoint>,
    /// To routers.
    pub router: Vec<Endpoint>,
    /// To operators.
    pub admin: Vec<Endpoint>,
}

/// Raft's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftTimes {
    /// How often a leader is heard.
    pub heartbeat_ms: u64,
    /// Least time without a leader before an election.
    pub election_min_ms: u64,
    /// Most time without a leader before an election.
    pub election_max_ms: u64,
    /// Log entries between two snapshots.
    pub snapshot_every_entries: u64,
}

impl Default for RaftTimes {
    fn default() -> Self {
        Self { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 1_000, snapshot_every_entries: 20_000 }
    }
}

impl ControllerFile {
    /// What was meant.
    ///
    /// # Errors
    /// [`InvalidConfig`] with every problem, each with its key and its remedy.
    pub fn validate(self) -> Result<ControllerConfig, InvalidConfig> {
        validation::validate(self)
    }
}

#[cfg(test)]
mod tests;
