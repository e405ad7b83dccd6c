//! A witness on every controller: follows its list as a router would, and writes down what no router may ever be told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pilothouse::domain::endpoint::Endpoint;
use pilothouse::proto::router::{ControllerList, ListUpdate, WatchRequest};
use pilothouse::rpc::client::AdminClient;
use pilothouse::tls::Security;
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::fleet::Ports;
use crate::support::probe::client;

/// How often a controller that is away is looked for.
const RETRY: Duration = Duration::from_millis(100);
/// What a list is made of is known to be committed within this time: a leader may have to be elected first.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// Epoch and index.
pub(crate) type Version = (u32, u64);

#[derive(Debug, Default)]
struct Notes {
    /// Every version that was ever seen, with its bytes: on each controller, of each build, they are the same.
    seen: BTreeMap<Version, Vec<u8>>,
    /// The newest version of each controller.
    newest: BTreeMap<u16, Version>,
    wrong: Vec<String>,
}

impl Notes {
    /// Writes down a list that a controller sent after another one in the same session.
    fn take(&mut self, port: u16, before: Option<Version>, update: &ListUpdate) -> Option<Version> {
        let mut wrong = |what: String| {
            self.wrong.push(format!("port {port}: {what}"));
            None
        };
        let Ok(list) = ControllerList::decode(&*update.list) else { return wrong("it cannot be read".to_owned()) };
        let version = list.version.unwrap_or_default();
        let version = (version.epoch, version.index);
        if list.controllers.is_empty() {
            return wrong(format!("{version:?} is empty"));
        }
        if list.controllers.iter().any(|controller| controller.endpoints.is_empty()) {
            return wrong(format!("{version:?} has a controller without an endpoint"));
        }
        if before.is_some_and(|before| version < before) {
            return wrong(format!("{version:?} came after {before:?}"));
        }
        let known = self.seen.entry(version).or_insert_with(|| update.list.to_vec());
        if *known != update.list {
            return wrong(format!("{version:?} says something else than elsewhere"));
        }
        self.newest.insert(port, version);
        Some(version)
    }
}

/// All witnesses; they end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    notes: Arc<Mutex<Notes>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Lists {
    /// Follows the list of one more controller; those at `admins` know what is committed.
    pub(crate) fn follow(&mut self, at: Ports, admins: &[u16]) {
        let admins = admins.iter().map(|port| format!("http://127.0.0.1:{port}").parse().unwrap()).collect();
        self.tasks.push(tokio::spawn(follow(at.router, admins, Arc::clone(&self.notes))));
    }

    /// What must not have been.
    pub(crate) fn wrong(&self) -> Vec<String> {
        lock(&self.notes).wrong.clone()
    }

    /// How many different versions were seen.
    pub(crate) fn versions(&self) -> usize {
        lock(&self.notes).seen.len()
    }

    /// Whether these controllers show this version, and none ever showed a later one.
    pub(crate) fn agree(&self, ports: impl IntoIterator<Item = u16>, version: Version) -> Result<(), String> {
        let notes = lock(&self.notes);
        let ports: BTreeSet<u16> = ports.into_iter().collect();
        let newest: BTreeMap<_, _> = notes.newest.iter().filter(|(port, _)| ports.contains(port)).collect();
        let last = notes.seen.last_key_value().map(|(version, _)| *version);
        let agree = newest.len() == ports.len() && newest.values().all(|newest| **newest == version);
        if agree && last == Some(version) { Ok(()) } else { Err(format!("{version:?}: {newest:?}, ever {last:?}")) }
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap()
}

async fn follow(port: u16, admins: Vec<Endpoint>, notes: Arc<Mutex<Notes>>) {
    let mut ticks = interval(RETRY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = WatchRequest { protocol_min: 2, protocol_max: 2, ..WatchRequest::default() };
        let Ok(answer) = client(port).watch(request).await else { continue };
        let (mut updates, mut before) = (answer.into_inner(), None);
        while let Ok(Some(update)) = updates.message().await {
            let Some(version) = lock(&notes).take(port, before, &update) else { continue };
            if before != Some(version) && !is_committed(&admins, version).await {
                lock(&notes).wrong.push(format!("port {port}: {version:?} was shown and is not committed"));
            }
            before = Some(version);
        }
    }
}

/// Whether the cluster says that the entry of this list is committed. Once it is, it is for ever.
async fn is_committed(admins: &[Endpoint], (_, index): Version) -> bool {
    let deadline = Instant::now() + KNOWN_WITHIN;
    let mut ticks = interval(RETRY);
    while Instant::now() < deadline {
        ticks.tick().await;
        let Ok(mut client) = AdminClient::connect(admins, None, Security::default()).await else { continue };
        if client.status().await.is_ok_and(|status| status.committed_index + 1 >= index) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use pilothouse::proto::router::{ListVersion, ListedController};

    use super::*;

    fn update(index: u64, endpoints: &[&[&str]]) -> ListUpdate {
        let controller = |(id, endpoints): (u64, &&[&str])| ListedController {
            id,
            endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
            ..ListedController::default()
        };
        let list = ControllerList {
            version: Some(ListVersion { epoch: 1, index }),
            controllers: (1..).zip(endpoints).map(controller).collect(),
            ..ControllerList::default()
        };
        ListUpdate { list: list.encode_to_vec().into(), ..ListUpdate::default() }
    }

    #[test]
    fn a_witness_notices_what_no_router_may_be_told() {
        let good: &[&[&str]] = &[&["http://a:1"], &["http://b:1"]];
        let mut notes = Notes::default();
        assert_eq!(notes.take(1, None, &update(5, good)), Some((1, 5)));
        assert_eq!(notes.take(2, Some((1, 5)), &update(6, good)), Some((1, 6)));
        assert_eq!(notes.wrong, Vec::<String>::new());
        let garbage = ListUpdate { list: vec![0xff].into(), ..ListUpdate::default() };
        for (what, before, update) in [
            ("cannot be read", None, garbage),
            ("is empty", None, update(7, &[])),
            ("without an endpoint", None, update(7, &[&["http://a:1"], &[]])),
            ("came after", Some((1, 6)), update(5, good)),
            ("something else", None, update(6, &[&["http://c:1"]])),
        ] {
            assert_eq!(notes.take(1, before, &update), None, "{what}");
            let last = notes.wrong.last().map_or("", String::as_str);
            assert!(last.contains(what), "{what}: {last}");
        }
    }
}
