//! `router …`

use super::checks::Findings;
use super::configured::{Daemon, configured};
use super::daemon;
use super::enroll::enroll;
use super::prepare::prepare;
use super::wait_for;
use crate::cli::arguments::{Output, RouterCommand, RouterFlags};
use crate::cli::config_layers::Written;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::render::{held, json};
use crate::domain::ids::ClusterId;
use crate::ops::alerts::AlertsFile;
use crate::ops::config::{InvalidConfig, LogFile};
use crate::ops::events::Severity;
use crate::router::config::{HttpListen, RouterConfig, RouterFile, SESSIONS_DEFAULT};
use crate::router::generations::{FileState, Floors, Inspection, inspect, trust};
use crate::router::{self, NO_CONTROLLER_AFTER};
use crate::tls::TlsFile;

/// A configuration to start from.
pub(super) const EXAMPLE: &str = include_str!("../../../tests/data/example-router.toml");

pub(super) fn dispatch(command: RouterCommand, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        RouterCommand::Run(flags) => return run(&flags, console),
        RouterCommand::Check(flags) => return check(&flags, console),
        RouterCommand::Enroll(asked) => return wait_for(enroll(&asked, console)),
        RouterCommand::Prepare(asked) => return prepare(&asked, console),
        RouterCommand::List { flags, output } => {
            let config = configured_router(&flags)?;
            if !config.data_dir.exists() {
                return Err(Failure::new(format!(
                    "{} does not exist: router {} has not run yet",
                    config.data_dir.display(),
                    config.id
                ))
                .hint("start it with `pilothouse router run`, or name its data directory with --data-dir"));
            }
            let inspection = inspect(&config.data_dir).map_err(anyhow::Error::from)?;
            console.data(&match output.output {
                Output::Json => json(&inspection),
                Output::Table => held::list(&inspection, console.out_colour()),
            })?;
        }
        RouterCommand::Trust { cluster, reset_floor, flags } => {
            trust_cluster(&flags, cluster, if reset_floor { Floors::Reset } else { Floors::Kept }, console)?;
        }
        RouterCommand::ExampleConfig => console.data(EXAMPLE)?,
    }
    Ok(ExitStatus::Done)
}

fn run(flags: &RouterFlags, console: Console) -> Result<ExitStatus, Failure> {
    let config = configured_router(flags)?;
    let format = config.log.format;
    let filter = config.log.level.clone();
    daemon::run((format, &filter), &flags.common, console, |ready, stop| async move {
        router::run(config, ready, stop).await.map_err(Failure::of)
    })
}

fn configured_router(flags: &RouterFlags) -> Result<RouterConfig, Failure> {
    configured::<RouterFile>(flags.config.clone(), flags.values())
}

/// What a start would meet. Nothing is locked or changed.
fn check(flags: &RouterFlags, console: Console) -> Result<ExitStatus, Failure> {
    let config = configured_router(flags)?;
    logging::parse(&config.log.level)?;
    let mut findings = Findings::default();
    findings.add("configuration", Ok::<_, String>(format!("{} is configured consistently", config.id)));
    findings.certificates(&config.tls);
    if config.data_dir.exists() {
        match inspect(&config.data_dir) {
            Ok(inspection) => saved(&inspection, config.seeds.len(), &mut findings),
            Err(why) => findings.add("data directory", Err::<String, _>(format!("{:#}", anyhow::Error::from(why)))),
        }
    } else {
        findings.creatable("data directory", &config.data_dir);
    }
    if let Some(HttpListen::Tcp(address)) = config.http {
        findings.port("http port", address);
    }
    findings.report(console)
}

/// Which saved files can be used, and which list a start would use.
fn saved(inspection: &Inspection, seeds: usize, findings: &mut Findings) {
    let mut file = |name: &str, unusable: Option<&String>| {
        findings.add(
            name,
            match unusable {
                None => Ok("absent or good"),
                Some(why) => Err(format!("{why}; a start sets it aside and goes on from the next best source")),
            },
        );
    };
    for list in &inspection.lists {
        file(list.name, unusable(&list.state));
    }
    file(inspection.floor_file.name, unusable(&inspection.floor_file.state));
    file(inspection.reserve.name, unusable(&inspection.reserve.state));
    let start = match inspection.in_use() {
        Some(held) => {
            format!("a start uses list {} with {} controllers", held.list.version(), held.list.controllers().len())
        }
        None => format!("no list is saved: a start uses the {seeds} configured seeds"),
    };
    findings.add("list", Ok::<_, String>(start));
}

fn unusable<T>(state: &FileState<T>) -> Option<&String> {
    match state {
        FileState::Unusable(why) => Some(why),
        FileState::Absent | FileState::Valid(_) => None,
    }
}

fn trust_cluster(flags: &RouterFlags, cluster: ClusterId, floors: Floors, console: Console) -> Result<(), Failure> {
    let config = configured_router(flags)?;
    let trusted = trust(&config.data_dir, cluster, floors).map_err(anyhow::Error::from)?;
    let id = &config.id;
    if trusted.before == Some(cluster) {
        let floor = trusted.floor_before.map_or_else(|| "none".to_owned(), |floor| floor.to_string());
        console.data(&format!(
            "router {id} forgot its floor {floor}: it takes the next list of cluster {cluster}, of any version\n"
        ))?;
    } else {
        let before = trusted.before.map_or_else(|| "no cluster".to_owned(), |before| format!("cluster {before}"));
        console.data(&format!("router {id} belonged to {before}, and belongs to cluster {cluster} now\n"))?;
    }
    for path in &trusted.kept {
        console.note(&format!("kept: {}", path.display()));
    }
    Ok(())
}

impl Written for RouterFile {
    fn defaults() -> Self {
        Self {
            sessions: Some(SESSIONS_DEFAULT),
            no_controller_after_ms: u64::try_from(NO_CONTROLLER_AFTER.as_millis()).ok(),
            renew_certificate: Some(false),
            tls: TlsFile { insecure: Some(false), insecure_off_loopback: Some(false), ..TlsFile::default() },
            alerts: AlertsFile { severity: Some(Severity::Warning.as_str().into()), ..AlertsFile::default() },
            log: LogFile { format: Some("text".into()), level: Some("info".into()) },
            ..Self::default()
        }
    }
}

impl Daemon for RouterFile {
    type Meant = RouterConfig;

    fn meant(self) -> Result<RouterConfig, InvalidConfig> {
        self.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::configured::tests::the_example_is_whole;

    #[test]
    fn the_example_has_every_key() {
        the_example_is_whole::<RouterFile>(EXAMPLE);
    }

    #[test]
    fn the_shown_defaults_are_those_that_hold() {
        let minimal = || RouterFile {
            id: Some("edge-1".into()),
            data_dir: Some("/d".into()),
            seeds: vec!["https://127.0.0.1:7002".into()],
            tls: TlsFile { dir: Some("/t".into()), ..TlsFile::default() },
            ..RouterFile::default()
        };
        let defaults = RouterFile::defaults();
        let shown = RouterFile {
            sessions: defaults.sessions,
            log: defaults.log,
            tls: TlsFile { dir: Some("/t".into()), ..defaults.tls },
            ..minimal()
        };
        assert_eq!(minimal().validate().unwrap(), shown.validate().unwrap());
    }
}
