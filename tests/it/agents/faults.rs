//! Faults of the router's own code, and of its disk: it starts again, and its followers never see an older list.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use pilothouse::domain::endpoint::Endpoint;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::router::generations::{Disk, HostDisk};
use pilothouse::router::status::Source;
use pilothouse::router::{Agent, ConnectError, Connected, Connector, Parts, TcpConnector};

use super::moving::pair;
use super::scripted::{CLUSTER, Controller, Manner, offer};
use super::{agent, becomes, config, holds, open, parts};

/// Panics at the next dial, as a bug would.
#[derive(Default)]
struct Faulty(AtomicBool);

impl Faulty {
    fn panics_next(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Connector for Faulty {
    fn connect(&self, endpoint: Endpoint, within: Duration) -> BoxFuture<'static, Result<Connected, ConnectError>> {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a planted fault");
        TcpConnector::default().connect(endpoint, within)
    }
}

/// A disk that is full, or panics at the next read, when a test says so.
#[derive(Debug, Default)]
struct Flawed {
    full: AtomicBool,
    panics: AtomicBool,
}

impl Disk for Flawed {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a planted fault");
        HostDisk.read(path, bytes_max)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        HostDisk.write_synced(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        HostDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        HostDisk.sync_dir(dir)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        HostDisk.names(dir)
    }

    fn now_ms(&self) -> u64 {
        HostDisk.now_ms()
    }
}

#[tokio::test]
async fn a_fault_in_the_agents_own_code_starts_it_again_and_its_followers_keep_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let [first, _second] = pair().await;
    let before = agent(dir.path(), &[&first.endpoint], 1).await;
    becomes(&before, "it holds the list", |status| holds(status, "1.5")).await;
    before.stop().await;

    let faulty = Arc::new(Faulty::default());
    faulty.panics_next();
    let parts = Parts { connector: Some(faulty), ..parts() };
    let agent = Agent::start(config(dir.path(), &[&first.endpoint], 1), parts).await.unwrap();
    let lists = agent.lists();
    becomes(&agent, "it has a session after all", |status| open(status) == [1] || open(status) == [2]).await;
    assert!(lists.borrow().is_some(), "whoever follows it kept the list");
    assert_eq!(agent.status().borrow().source, Source::Newest);
}

#[tokio::test]
async fn a_list_that_was_adopted_in_memory_only_outlives_a_fault_even_one_while_starting_again() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    let me = (1, &controller.endpoint);
    let (connector, disk) = (Arc::new(Faulty::default()), Arc::new(Flawed::default()));
    let parts = Parts { connector: Some(connector.clone()), disk: disk.clone(), ..parts() };
    let agent = Agent::start(config(dir.path(), &[&controller.endpoint], 1), parts).await.unwrap();
    controller.offers(offer(1, CLUSTER, 5, &[me])).await;
    becomes(&agent, "it holds the list", |status| holds(status, "1.5") && status.saved).await;
    disk.full.store(true, Ordering::SeqCst);
    controller.says_once(Kind::Update(offer(2, CLUSTER, 6, &[me]))).await;
    becomes(&agent, "it holds the next one in memory", |status| holds(status, "1.6") && !status.saved).await;

    let mut lists = agent.lists();
    lists.mark_unchanged();
    disk.panics.store(true, Ordering::SeqCst);
    connector.panics_next();
    controller.closes();
    // Its script still offers the older list to every new session.
    becomes(&agent, "it is back, and refuses what is older", |status| {
        open(status) == [1] && holds(status, "1.6") && status.offers.refused.contains_key("stale")
    })
    .await;
    assert!(!disk.panics.load(Ordering::SeqCst), "both faults struck");
    assert!(!lists.has_changed().unwrap(), "whoever follows it saw no older list");
    assert!(!agent.status().borrow().saved);
    disk.full.store(false, Ordering::SeqCst);
    becomes(&agent, "it is saved when there is room again", |status| status.saved).await;
}
