//! `controller …` and `router …`: the flags that override what the configuration file says.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use figment::value::Value;

use super::{ControllerJoin, OutputFlag, RouterEnroll, RouterPrepare};
use crate::cli::config_layers::FlagValue;
use crate::domain::ids::ClusterId;

/// `controller …`
#[derive(Debug, Subcommand)]
pub enum ControllerCommand {
    /// Run a controller until SIGINT or SIGTERM
    Run(Box<ControllerFlags>),
    /// Check the configuration, the data directory and the ports, and start nothing
    Check(Box<ControllerFlags>),
    /// Prepare a controller that is to be added to a cluster: key, certificate request, configuration, and what to do then
    ///
    /// Nothing is asked over the network, and the key never leaves this host. Over TLS a controller's id is that of its
    /// certificate, and one that was ever used is refused: `pilothouse cluster status` shows the next free one.
    Join(Box<ControllerJoin>),
    /// Print a commented configuration to start from
    ExampleConfig,
}

/// `router …`
#[derive(Debug, Subcommand)]
pub enum RouterCommand {
    /// Run the router agent until SIGINT or SIGTERM
    Run(Box<RouterFlags>),
    /// Check the configuration and every saved list, and say which list a start would use
    Check(Box<RouterFlags>),
    /// Get a certificate with a join token, write a configuration, and get the first list
    ///
    /// Run it as the user that the router will run as. The key is made here and stays here. Controllers are verified by the
    /// token before the secret is said. Where the certificate is there already, only the list is asked for. With
    /// `-o json`: `router`, `identity`, `until`, `tls_dir`, `data_dir`, `config`, `list_version`, `controllers`.
    Enroll(Box<RouterEnroll>),
    /// Make directories that belong to the user whom the router will run as
    ///
    /// For an init container, where there is no shell to do it: it is root there, and needs CAP_CHOWN alone. A directory that
    /// is there keeps its mode and what is in it; one that is that user's already stays as it is.
    Prepare(RouterPrepare),
    /// Print the controllers that this router holds
    List {
        /// The configuration.
        #[command(flatten)]
        flags: Box<RouterFlags>,
        /// How the answer is printed.
        #[command(flatten)]
        output: OutputFlag,
    },
    /// Let this router, which is stopped, take lists of another cluster
    Trust {
        /// The cluster's id, as `pilothouse cluster status` prints it
        #[arg(long, value_name = "UUID")]
        cluster: ClusterId,
        /// Forget the newest list that it held, also of the same cluster: the next one may be of any version
        #[arg(long)]
        reset_floor: bool,
        /// The configuration.
        #[command(flatten)]
        flags: Box<RouterFlags>,
    },
    /// Print a commented configuration to start from
    ExampleConfig,
}

/// Flags of both daemons.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Its data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug, trace, also by module: info,pilothouse::raft=debug
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// Any key of the configuration, as in raft.heartbeat_ms=150 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, Value)>,
    /// Stop in order when standard input ends: for a process that starts daemons and may not outlive them
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// Flags of `controller run` and `controller check`.
#[derive(Debug, Clone, Args)]
pub struct ControllerFlags {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Its name
    #[arg(long)]
    pub name: Option<String>,
    /// Its id among initial_members
    #[arg(long)]
    pub id: Option<u64>,
    /// Wait blank until `cluster add`
    #[arg(long)]
    pub join: bool,
    /// Where other controllers reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_peer: Option<String>,
    /// Where routers reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_router: Option<String>,
    /// Where operators reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_admin: Option<String>,
    /// Where probes and metrics are served
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_http: Option<String>,
    /// Unix socket for operators on this host
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<String>,
    /// Flags of both daemons.
    #[command(flatten)]
    pub common: CommonFlags,
}

/// Flags of `router …`.
#[derive(Debug, Clone, Args)]
pub struct RouterFlags {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Its id
    #[arg(long)]
    pub id: Option<String>,
    /// Router port of a controller (repeatable; replaces the file's seeds)
    #[arg(long = "seed", value_name = "https://HOST:PORT")]
    pub seeds: Vec<String>,
    /// How many controllers it keeps a session with
    #[arg(long, value_name = "COUNT")]
    pub sessions: Option<u64>,
    /// Where its HTTP API listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
    /// Flags of both daemons.
    #[command(flatten)]
    pub common: CommonFlags,
}

impl CommonFlags {
    /// As the highest layer of a configuration; `--set` comes last.
    #[must_use]
    pub fn values(&self) -> Vec<FlagValue> {
        let named = [
            text("data_dir", "--data-dir", self.data_dir.as_deref()),
            text("log.format", "--log-format", self.log_format.as_deref()),
            text("log.level", "--log-level", self.log_level.as_deref()),
        ];
        let set = self.set.iter().map(|(key, value)| FlagValue::new(key, "--set", value.clone()));
        named.into_iter().flatten().chain(set).collect()
    }
}

impl ControllerFlags {
    /// As the highest layer of a configuration.
    #[must_use]
    pub fn values(&self) -> Vec<FlagValue> {
        let named = [
            text("name", "--name", self.name.as_deref()),
            self.id.map(|id| FlagValue::new("id", "--id", id)),
            self.join.then(|| FlagValue::new("join", "--join", true)),
            text("listen.peer", "--listen-peer", self.listen_peer.as_deref()),
            text("listen.router", "--listen-router", self.listen_router.as_deref()),
            text("listen.admin", "--listen-admin", self.listen_admin.as_deref()),
            text("listen.http", "--listen-http", self.listen_http.as_deref()),
            text("admin_socket", "--admin-socket", self.admin_socket.as_deref()),
        ];
        named.into_iter().flatten().chain(self.common.values()).collect()
    }
}

impl RouterFlags {
    /// As the highest layer of a configuration.
    #[must_use]
    pub fn values(&self) -> Vec<FlagValue> {
        let seeds = (!self.seeds.is_empty()).then(|| FlagValue::new("seeds", "--seed", self.seeds.clone()));
        let named = [
            text("id", "--id", self.id.as_deref()),
            seeds,
            self.sessions.map(|sessions| FlagValue::new("sessions", "--sessions", sessions)),
            text("http", "--http", self.http.as_deref()),
        ];
        named.into_iter().flatten().chain(self.common.values()).collect()
    }
}

fn text(key: &str, flag: &str, value: Option<&str>) -> Option<FlagValue> {
    value.map(|value| FlagValue::new(key, flag, value))
}

fn key_value(pair: &str) -> Result<(String, Value), String> {
    let (key, value) = pair.split_once('=').ok_or("write it as KEY=VALUE, as in raft.heartbeat_ms=150")?;
    Ok((key.trim().to_owned(), value.parse().unwrap_or_else(|_| Value::from(value))))
}
