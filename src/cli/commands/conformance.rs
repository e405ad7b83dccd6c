//! `conformance …`

use std::time::Duration;

use crate::cli::arguments::{ConformanceCommand, ReportForm, RouterConformance};
use crate::cli::console::{Console, Tone};
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::conformance::table;
use crate::conformance::{self, Outcome, Settings, Told};
use crate::domain::principal::Role;
use crate::ops::config::Problems;
use crate::tls::{ControllerTlsFile, Security};

/// Who the controller says it is over plain text.
const PLAIN_CONTROLLER: u64 = 1;

pub(super) async fn dispatch(command: ConformanceCommand, console: Console) -> Result<ExitStatus, Failure> {
    let ConformanceCommand::Router(asked) = command;
    let settings = settings(&asked)?;
    let report = conformance::run(&settings, |told| match told {
        Told::Waiting(endpoint) => console.note(&format!(
            "waiting for a router: start one with {endpoint} as its only seed and an empty data directory"
        )),
        Told::Over(finding) => {
            let tone = if finding.outcome == Outcome::Fail { Tone::Bad } else { Tone::Plain };
            let words = console.err_paint(tone, finding.outcome.words());
            console.note(&format!("{:26}  {words}", finding.case));
        }
    })
    .await
    .map_err(|why| Failure::new(&why).hint(why.hint()))?;
    let shown = table(&report, console.out_colour());
    let written = match asked.report {
        ReportForm::Text => table(&report, false),
        ReportForm::Junit => report.junit(),
    };
    match &asked.out {
        Some(path) => {
            std::fs::write(path, written)
                .map_err(|why| Failure::from(why).doing(format!("cannot write {}", path.display())))?;
            console.data(&shown)?;
        }
        None if asked.report == ReportForm::Junit => console.data(&written)?,
        None => console.data(&shown)?,
    }
    Ok(if report.conforms() { ExitStatus::Done } else { ExitStatus::Failed })
}

fn settings(asked: &RouterConformance) -> Result<Settings, Failure> {
    if asked.listen.ip().is_unspecified() && asked.advertise.is_none() {
        return Err(Failure::usage(format!("{} is no address that a router could dial", asked.listen))
            .hint("say how the router reaches this host with --advertise https://HOST:PORT"));
    }
    let (security, controller_id) = security(asked)?;
    if let Some(endpoint) = asked.advertise.as_ref().filter(|endpoint| endpoint.scheme() != security.scheme()) {
        return Err(Failure::usage(format!("{endpoint} does not begin with {}://", security.scheme().as_str()))
            .hint("https:// goes with --tls-dir, http:// with --insecure"));
    }
    let seconds = |seconds: std::num::NonZeroU32| Duration::from_secs(u64::from(seconds.get()));
    Ok(Settings {
        listen: asked.listen,
        advertise: asked.advertise.clone(),
        security,
        controller_id,
        cases: asked.chosen(),
        timeout: seconds(asked.timeout),
        appear: seconds(asked.appear),
        restart: asked.restart_command.clone(),
    })
}

/// How bytes travel, and who this controller is then: over TLS nobody can speak in another one's name.
fn security(asked: &RouterConformance) -> Result<(Security, u64), Failure> {
    let Some(dir) = asked.tls_dir.clone().filter(|_| !asked.insecure) else {
        return Ok((Security::Plain { off_loopback: false }, PLAIN_CONTROLLER));
    };
    let mut problems = Problems::default();
    let meant = ControllerTlsFile { dir: Some(dir), ..ControllerTlsFile::default() }.meant(&mut problems);
    let Some(meant) = meant else {
        return Err(Failure::usage(problems.into_invalid()));
    };
    let security = meant.open().map_err(Failure::of)?;
    let role = security.store().map(|store| store.current().leaf().principal.role.clone());
    match role {
        Some(Role::Controller(id)) => Ok((security, id.get())),
        _ => Err(Failure::new("the certificate is not a controller's")
            .hint("make one with `pilothouse pki issue controller 1`")),
    }
}
