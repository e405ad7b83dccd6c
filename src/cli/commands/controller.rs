//! `controller …`

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::checks::Findings;
use super::configured::{Daemon, configured};
use super::daemon;
use super::join::join;
use crate::cli::arguments::{ControllerCommand, ControllerFlags};
use crate::cli::config_layers::Written;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::{logging, panics};
use crate::controller;
use crate::controller::config::{
    Bootstrap, ControllerConfig, ControllerFile, DEFAULT_LISTEN, Listen, ListenFile, RaftFile, RaftTimes,
};
use crate::controller::listeners::Listeners;
use crate::ops::alerts::AlertsFile;
use crate::ops::config::{InvalidConfig, LogFile};
use crate::ops::events::Severity;
use crate::storage::Directory;
use crate::tls::ControllerTlsFile;

/// A controller that panicked has this long to say which of its tasks it was, and to end by itself.
const PANIC_NAMED_WITHIN: Duration = Duration::from_secs(1);
/// A configuration to start from.
pub(super) const EXAMPLE: &str = include_str!("../../../tests/data/example-controller.toml");

pub(super) fn dispatch(command: ControllerCommand, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        ControllerCommand::Run(flags) => return run(&flags, console),
        ControllerCommand::Check(flags) => return check(&flags, console),
        ControllerCommand::Join(asked) => return join(&asked, console),
        ControllerCommand::ExampleConfig => console.data(EXAMPLE)?,
    }
    Ok(ExitStatus::Done)
}

fn run(flags: &ControllerFlags, console: Console) -> Result<ExitStatus, Failure> {
    let config = configured::<ControllerFile>(flags.config.clone(), flags.values())?;
    let format = config.log.format;
    let filter = config.log.level.clone();
    daemon::run((format, &filter), &flags.common, console, |ready, stop| async move {
        let run = async {
            let listeners = Listeners::bind(&config).await?;
            controller::run(config, listeners, ready, stop).await
        };
        tokio::select! {
            outcome = run => outcome.map_err(Failure::of),
            // What the controller does not notice by itself, such as a panic in a single request.
            () = panicked_and_went_on(panics::watch()) => {
                Err(Failure::new("a part of this controller panicked: see the log, and start it again"))
            }
        }
    })
}

async fn panicked_and_went_on(panicked: CancellationToken) {
    panicked.cancelled().await;
    tokio::time::sleep(PANIC_NAMED_WITHIN).await;
}

/// What a start would meet. The directory is opened only when there is one already, and stays as it is.
fn check(flags: &ControllerFlags, console: Console) -> Result<ExitStatus, Failure> {
    let config = configured::<ControllerFile>(flags.config.clone(), flags.values())?;
    logging::parse(&config.log.level)?;
    let mut findings = Findings::default();
    findings.add("configuration", Ok::<_, String>(format!("{} is configured consistently", config.name)));
    findings.certificates(&config.tls);
    if config.data_dir.exists() {
        findings.add("data directory", directory(&config));
    } else {
        findings.creatable("data directory", &config.data_dir);
    }
    let Listen { peer, router, admin, http } = config.listen;
    for (what, address) in [("peer port", peer), ("router port", router), ("admin port", admin), ("http port", http)] {
        findings.port(what, address);
    }
    findings.report(console)
}

fn directory(config: &ControllerConfig) -> Result<String, String> {
    let path = config.data_dir.display();
    let empty = config.data_dir.read_dir().map_err(|why| format!("{path} cannot be read: {why}"))?.next().is_none();
    if empty {
        return Ok(format!("{path} is empty: it is formatted at the first start"));
    }
    let id = match &config.bootstrap {
        Bootstrap::Found { id, .. } => Some(*id),
        Bootstrap::Join => None,
    };
    let directory = Directory::open(&config.data_dir).map_err(|why| why.to_string())?;
    directory.expect(id, None).map_err(|why| why.to_string())?;
    Ok(match directory.marker().assignment {
        Some(assignment) => format!("{path} is that of controller {} of cluster {}", assignment.id, assignment.cluster),
        None => format!("{path} belongs to no cluster yet"),
    })
}

impl Written for ControllerFile {
    fn defaults() -> Self {
        let [peer, router, admin, http] = DEFAULT_LISTEN.map(|(_, address)| Some(address.to_owned()));
        let times = RaftTimes::default();
        Self {
            join: Some(false),
            listen: ListenFile { peer, router, admin, http },
            raft: RaftFile {
                heartbeat_ms: Some(times.heartbeat_ms),
                election_min_ms: Some(times.election_min_ms),
                election_max_ms: Some(times.election_max_ms),
                snapshot_every_entries: Some(times.snapshot_every_entries),
            },
            alerts: AlertsFile { severity: Some(Severity::Warning.as_str().into()), ..AlertsFile::default() },
            log: LogFile { format: Some("text".into()), level: Some("info".into()) },
            tls: ControllerTlsFile {
                insecure: Some(false),
                insecure_off_loopback: Some(false),
                ..ControllerTlsFile::default()
            },
            ..Self::default()
        }
    }
}

impl Daemon for ControllerFile {
    type Meant = ControllerConfig;

    fn meant(self) -> Result<ControllerConfig, InvalidConfig> {
        self.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::configured::tests::the_example_is_whole;

    #[test]
    fn the_example_has_every_key() {
        the_example_is_whole::<ControllerFile>(EXAMPLE);
    }

    #[test]
    fn the_shown_defaults_are_those_that_hold() {
        let minimal = ControllerFile {
            name: Some("c".into()),
            data_dir: Some("/d".into()),
            join: Some(true),
            tls: ControllerTlsFile { dir: Some("/t".into()), ..ControllerTlsFile::default() },
            ..ControllerFile::default()
        };
        let shown = ControllerFile {
            name: minimal.name.clone(),
            data_dir: minimal.data_dir.clone(),
            join: Some(true),
            tls: ControllerTlsFile { dir: Some("/t".into()), ..ControllerFile::defaults().tls },
            ..ControllerFile::defaults()
        };
        assert_eq!(minimal.validate().unwrap(), shown.validate().unwrap());
    }
}
