//! The router agent, as a library, against controllers that do what a test says.

mod alarmed;
mod faults;
mod hostile;
mod leaderless;
mod moving;
mod outsiders;
mod refused;
mod scripted;
mod telling;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pilothouse::domain::endpoint::Endpoint;
use pilothouse::domain::retry::Backoff;
use pilothouse::router::config::{RouterConfig, RouterFile};
use pilothouse::router::status::{AgentStatus, SessionState};
use pilothouse::router::{Agent, Parts, Timing};
use pilothouse::tls::TlsFile;

use crate::support::{SOON, eventually, expect};

/// Waits of a router in tests: short, so that nothing waits for long.
const TIMING: Timing = Timing {
    dial: Duration::from_millis(500),
    welcome: Duration::from_millis(500),
    heartbeat: (Duration::from_millis(20), Duration::from_millis(100)),
    retry: Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(100) },
    stable: Duration::from_millis(50),
    improve: Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(100) },
    register_again: Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(100) },
    ..Timing::DEFAULT
};

fn config(data_dir: &Path, seeds: &[&Endpoint], sessions: usize) -> RouterConfig {
    RouterFile {
        id: Some("edge-1".into()),
        data_dir: Some(data_dir.into()),
        seeds: seeds.iter().map(ToString::to_string).collect(),
        sessions: Some(sessions),
        tls: TlsFile::plain(),
        ..RouterFile::default()
    }
    .validate()
    .unwrap()
}

fn parts() -> Parts {
    Parts { timing: TIMING, random: Arc::new(rand::random), ..Parts::default() }
}

async fn agent(data_dir: &Path, seeds: &[&Endpoint], sessions: usize) -> Agent {
    Agent::start(config(data_dir, seeds, sessions), parts()).await.unwrap()
}

/// Waits until the status is as it should be.
async fn becomes(agent: &Agent, what: &str, holds: impl Fn(&AgentStatus) -> bool) {
    eventually(what, SOON, || async {
        let status = agent.status().borrow().clone();
        expect(holds(&status), || format!("{status:?}"))
    })
    .await;
}

fn holds(status: &AgentStatus, version: &str) -> bool {
    status.held.as_ref().is_some_and(|held| held.version_text == version)
}

/// Ids of the controllers with an open session, the active one first.
fn open(status: &AgentStatus) -> Vec<u64> {
    let open = status.sessions.iter().filter(|session| session.state != SessionState::Connecting);
    open.filter_map(|session| session.controller.map(|id| id.get())).collect()
}
