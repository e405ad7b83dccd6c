//! Certificates, keys and issuers that are replaced while everything runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pilothouse::domain::principal::RoleKind;
use pilothouse::ops::events::Events;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::router::config::RouterFile;
use pilothouse::router::status::{AgentStatus, SessionState};
use pilothouse::router::{Agent, Parts, Timing};
use pilothouse::tls::TlsFile;
use tempfile::TempDir;

use super::super::cluster::{Cluster, eventually};
use super::super::router::registration;
use super::channel;

const ROUTERS: usize = 20;
/// How often the sessions of all routers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn agent_file(cluster: &Cluster, data: &TempDir, id: &str) -> RouterFile {
    let pki = cluster.pki.as_ref().unwrap();
    RouterFile {
        id: Some(id.to_owned()),
        data_dir: Some(data.path().join(id)),
        seeds: cluster.seats.iter().map(|seat| cluster.at(seat.router).to_string()).collect(),
        sessions: Some(2),
        tls: TlsFile { dir: Some(pki.directory(&format!("router/{id}"))), ..TlsFile::default() },
        ..RouterFile::default()
    }
}

fn open(status: &AgentStatus) -> usize {
    status.sessions.iter().filter(|session| session.state != SessionState::Connecting).count()
}

/// How often certificates were replaced, of somebody's events.
fn replaced(events: &Events) -> usize {
    events.kept().iter().filter(|kept| kept.event.code() == "certificate_replaced").count()
}

/// A running cluster with its routers, and somebody who never looks away from their sessions.
struct Fleet {
    cluster: Cluster,
    agents: Vec<Agent>,
    least: Arc<AtomicUsize>,
    watched: Arc<AtomicBool>,
    _data: TempDir,
}

impl Fleet {
    async fn start() -> Self {
        let cluster = Cluster::secure(3).await;
        let data = TempDir::new().unwrap();
        let mut agents = Vec::new();
        for number in 0..ROUTERS {
            let file = agent_file(&cluster, &data, &format!("edge-{number}"));
            let parts = Parts { timing: Timing::DEFAULT, ..Parts::default() };
            agents.push(Agent::start(file.validate().unwrap(), parts).await.unwrap());
        }
        for agent in &agents {
            eventually("a router has two sessions", async || (open(&agent.status().borrow()) == 2).then_some(())).await;
        }
        let (least, watched) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicBool::new(true)));
        let statuses: Vec<_> = agents.iter().map(Agent::status).collect();
        let (lowest, goes_on) = (Arc::clone(&least), Arc::clone(&watched));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            while goes_on.load(Ordering::Relaxed) {
                ticks.tick().await;
                let fewest = statuses.iter().map(|status| open(&status.borrow())).min().unwrap_or(0);
                lowest.fetch_min(fewest, Ordering::Relaxed);
            }
        });
        Self { cluster, agents, least, watched, _data: data }
    }

    fn everybody(&self) -> Vec<Events> {
        let controllers = self.cluster.seats.iter().map(|seat| seat.running().events().clone());
        controllers.chain(self.agents.iter().map(|agent| agent.events().clone())).collect()
    }

    /// Changes files, and waits until every process has taken them over.
    async fn roll(&self, step: &str, change: impl FnOnce()) {
        let before: Vec<usize> = self.everybody().iter().map(replaced).collect();
        change();
        for (events, before) in self.everybody().iter().zip(before) {
            eventually(step, async || (replaced(events) > before).then_some(())).await;
        }
    }

    /// Ends every connection of one controller: all its routers have to come back with what they have now.
    async fn reconnect(&mut self, seat: usize) {
        self.cluster.restart(seat).await;
        self.cluster.serves(seat).await;
        for agent in &self.agents {
            eventually("a router has two sessions again", async || (open(&agent.status().borrow()) == 2).then_some(()))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_are_rolled_over_in_three_steps_and_no_router_is_cut_off() {
    let mut fleet = Fleet::start().await;
    let everyone = |fleet: &Fleet| -> Vec<String> {
        let routers = (0..ROUTERS).map(|number| format!("router/edge-{number}"));
        (1..=fleet.cluster.seats.len()).map(|id| format!("controller/{id}")).chain(routers).collect()
    };
    let earlier = fleet.cluster.pki.as_ref().unwrap().security("router/edge-0");
    let held: BTreeMap<_, _> = sessions(&fleet);

    fleet
        .roll("both issuers are trusted", || {
            let pki = fleet.cluster.pki.as_ref().unwrap();
            RoleKind::ALL.into_iter().for_each(|kind| pki.replace_issuer(kind));
            pki.directories().iter().for_each(|directory| pki.trust(directory));
        })
        .await;
    fleet.reconnect(0).await;
    fleet
        .roll("everybody has a certificate of the new issuer", || {
            let pki = fleet.cluster.pki.as_ref().unwrap();
            everyone(&fleet).iter().for_each(|role| pki.issue(role));
        })
        .await;
    fleet.reconnect(1).await;
    fleet
        .roll("the old issuer is not trusted any more", || {
            let pki = fleet.cluster.pki.as_ref().unwrap();
            pki.drop_earlier();
            pki.directories().iter().for_each(|directory| pki.trust(directory));
        })
        .await;
    assert!(sessions(&fleet).values().all(|open| *open == 2), "{held:?}");
    fleet.reconnect(2).await;
    fleet.watched.store(false, Ordering::Relaxed);
    // A restart takes one of two sessions; at no moment was a router without one.
    assert!(fleet.least.load(Ordering::Relaxed) >= 1, "a router was cut off");

    // The old certificate is still valid by its dates, and opens nothing any more.
    let seat = &fleet.cluster.seats[0];
    let refused = async {
        let channel = channel(&fleet.cluster, earlier, seat.router).await?;
        let registered = RouterControlClient::new(channel).register(registration("edge-0", 9, 1)).await;
        registered.map(drop).map_err(|status| status.to_string())
    };
    assert!(refused.await.is_err());
    assert!(fleet.cluster.seats.iter().any(super::super::cluster::Seat::leads));
}

fn sessions(fleet: &Fleet) -> BTreeMap<String, usize> {
    fleet
        .agents
        .iter()
        .map(|agent| (agent.status().borrow().router.to_string(), open(&agent.status().borrow())))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_open_stays_open_and_broken_files_change_nothing() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let data = TempDir::new().unwrap();
    let agent =
        Agent::start(agent_file(&cluster, &data, "edge-1").validate().unwrap(), Parts::default()).await.unwrap();
    eventually("the router has a session", async || (open(&agent.status().borrow()) == 1).then_some(())).await;
    let before = agent.status().borrow().sessions.clone();

    let events = cluster.seats[0].running().events().clone();
    pki.issue("controller/1");
    pki.issue("router/edge-1");
    eventually("both took theirs over", async || {
        (replaced(&events) == 1 && replaced(agent.events()) == 1).then_some(())
    })
    .await;
    std::fs::write(pki.directory("controller/1").join("certificate.pem"), "nonsense").unwrap();
    let told = eventually("the broken file is told of", async || {
        events.kept().into_iter().find(|kept| kept.event.code() == "certificate_unusable")
    })
    .await;
    assert!(told.event.to_string().contains("certificate.pem"), "{}", told.event);
    let after = agent.status().borrow().sessions.clone();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "the session did not notice");
    // New ones still use what was read last.
    let other = channel(&cluster, pki.security("router/edge-2"), cluster.seats[0].router).await.unwrap();
    RouterControlClient::new(other).register(registration("edge-2", 1, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_certificate_is_an_event_and_a_metric() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let data = TempDir::new().unwrap();
    let file = agent_file(&cluster, &data, "edge-1");
    pki.issue_for("router/edge-1", Duration::from_secs(3 * 24 * 60 * 60));
    let agent = Agent::start(file.validate().unwrap(), Parts::default()).await.unwrap();
    let within = async |words: &str| {
        eventually("the end is told of", async || {
            let mut told = agent.events().kept().into_iter().map(|kept| kept.event.to_string());
            told.find(|event| event.contains("(certificate)") && event.contains(words))
        })
        .await
    };
    within("within 7 days").await;
    pki.issue_for("router/edge-1", Duration::from_secs(60 * 60));
    within("within a day").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &agent.surface().registry).unwrap();
    let metric = "pilothouse_certificate_not_after_timestamp_seconds{certificate=\"certificate\"}";
    assert!(text.lines().any(|line| line.starts_with(metric)), "{text}");
}
