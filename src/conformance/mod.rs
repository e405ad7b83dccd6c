//! A hostile controller on purpose: plays each thing that a controller may do wrong to a router, ours or somebody else's,
//! and tells what the router did. It is its own server; nothing in the product knows it.
//!
//! ```text
//! case ──── what there is, and what is expected     lists ─── good and bad lists, as bytes
//! server ── the doors: what happens at them         stage ─── everything that was heard, and the way to speak
//! conduct ─ the steps that cases are made of        plays ─── the cases, step by step
//! report ── what came of it
//! ```
//!
//! Only what the protocol promises is judged. Everything is bounded: one router, a deadline for each step, the sizes of
//! messages, and how much is remembered.

mod case;
mod conduct;
mod lists;
mod plays;
mod report;
mod server;
mod stage;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

pub use case::Case;
pub use lists::Dialect;
pub use report::{Finding, Outcome, Report};

use self::conduct::Unmet;
use self::lists::CLUSTER;
use self::server::Door;
use self::stage::{Stage, excerpt};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::ClusterId;
use crate::tls::Security;

/// Name of what comes before all cases.
const GOOD_LIST: &str = "good-list";
/// What is expected then.
const GOOD_LIST_EXPECTED: &str = "acknowledges a good list with its version and digest";
/// Below every index that is offered: room for an older version than the first one.
const FIRST_INDEX: u64 = 100;
/// No router is taken that holds a list with a higher index: there has to be room above it.
const INDEX_MAX: u64 = u32::MAX as u64 / 2;

/// What is to be done, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the router finds this controller.
    pub listen: SocketAddr,
    /// How the router writes this address, where it is another one.
    pub advertise: Option<Endpoint>,
    /// How bytes travel.
    pub security: Security,
    /// Who this controller says it is; over TLS what its certificate says.
    pub controller_id: u64,
    /// Which cases.
    pub cases: Vec<Case>,
    /// Longest wait for any one step of a case.
    pub timeout: Duration,
    /// Longest wait for a router to appear.
    pub appear: Duration,
    /// Restarts the router.
    pub restart: Option<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Setback {
    /// The address cannot be used.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Nobody came.
    #[error("no router came to {0} within {1:?}")]
    Nobody(Endpoint, Duration),
    /// The router belongs to a real cluster.
    #[error("router {router} holds a list of cluster {cluster}")]
    Taken {
        /// Which router.
        router: String,
        /// Whose list it holds.
        cluster: String,
    },
    /// The router holds a version above which there is no room.
    #[error("router {0} holds a list with an index of {1}, above which there is no room")]
    NoRoom(String, u64),
}

impl Setback {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Listen(..) => "choose another address with --listen".to_owned(),
            Self::Nobody(endpoint, _) => {
                format!("start the router with {endpoint} as its only seed and an empty data directory")
            }
            Self::Taken { .. } | Self::NoRoom(..) => {
                "start the router with an empty data directory: what is tried here is never tried on a router in use"
                    .to_owned()
            }
        }
    }
}

/// What is told while it goes on.
#[derive(Debug)]
pub enum Told<'a> {
    /// A router is waited for here.
    Waiting(&'a Endpoint),
    /// A case is over.
    Over(&'a Finding),
}

/// Waits for a router, plays the cases, and tells what it did.
///
/// # Errors
/// [`Setback`], when nothing could be played.
pub async fn run(settings: &Settings, mut told: impl FnMut(Told<'_>)) -> Result<Report, Setback> {
    let mut stage = Stage::open(settings).await.map_err(|why| Setback::Listen(settings.listen, why))?;
    told(Told::Waiting(&stage.endpoint));
    let first = stage.wait(settings.appear, |stage| stage.open_at(Door::Seed)).await;
    let first = first.ok_or_else(|| Setback::Nobody(stage.endpoint.clone(), settings.appear))?;
    let mut report = introduce(&mut stage, first)?;
    let began = Instant::now();
    let good = stage.give_good().await;
    let accepts = good.is_ok();
    report.findings.push(finding(GOOD_LIST, GOOD_LIST_EXPECTED, began, good));
    for finding in &report.findings {
        told(Told::Over(finding));
    }
    for case in &settings.cases {
        let began = Instant::now();
        let seen = match (accepts, case.excused(stage.dialect())) {
            (false, _) => Err(Unmet::Skipped("it does not take a good list".to_owned())),
            (true, Some(why)) => {
                report.findings.push(excused(*case, why));
                report.findings.last().into_iter().for_each(|finding| told(Told::Over(finding)));
                continue;
            }
            (true, None) => played(&mut stage, *case).await,
        };
        report.findings.push(finding(case.name(), case.expected(), began, seen));
        report.findings.last().into_iter().for_each(|finding| told(Told::Over(finding)));
    }
    Ok(report)
}

/// Who came, and where its list begins.
fn introduce(stage: &mut Stage, first: u64) -> Result<Report, Setback> {
    let hello = stage.sessions.get(&first).map(|session| session.hello.clone()).unwrap_or_default();
    let router = excerpt(&hello.router_id);
    stage.last_index = FIRST_INDEX;
    if let Some(held) = hello.held {
        if held.cluster_id != CLUSTER {
            let cluster = ClusterId::from_slice(&held.cluster_id);
            let cluster = cluster.map_or_else(|| "that cannot be read".to_owned(), |cluster| cluster.to_string());
            return Err(Setback::Taken { router, cluster });
        }
        // Left from an earlier run.
        stage.last_index = held.version.unwrap_or_default().index.max(FIRST_INDEX);
        if stage.last_index > INDEX_MAX {
            return Err(Setback::NoRoom(router, stage.last_index));
        }
    }
    let software = excerpt(&hello.software_version);
    Ok(Report { router, software, speaks: stage.dialect().words(), findings: Vec::new() })
}

/// A good list, so that no case suffers from the one before it; then the case.
async fn played(stage: &mut Stage, case: Case) -> Result<String, Unmet> {
    stage.manner = stage::Manner::Proper;
    stage.answers.clear();
    stage.ready().await?;
    stage.give_good().await?;
    stage.play(case).await
}

fn excused(case: Case, why: &str) -> Finding {
    Finding {
        case: case.name(),
        outcome: Outcome::NotApplicable,
        expected: case.expected(),
        seen: why.to_owned(),
        took: Duration::ZERO,
    }
}

fn finding(case: &'static str, expected: &'static str, began: Instant, seen: Result<String, Unmet>) -> Finding {
    let (outcome, seen) = match seen {
        Ok(seen) => (Outcome::Pass, seen),
        Err(Unmet::Failed(why)) => (Outcome::Fail, why),
        Err(Unmet::Skipped(why)) => (Outcome::Skipped, why),
    };
    Finding { case, outcome, expected, seen, took: began.elapsed() }
}
