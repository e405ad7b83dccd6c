//! **Not ours, and no model for anything**: a router as those of the incident were, made after what is told of 1.3.1.
//! It speaks protocol 1 and follows every controller by `Watch`. Where a guard is missing it says MISSING.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::demo::prober::channel;
use crate::domain::endpoint::Endpoint;
use crate::proto::router::router_control_client::RouterControlClient;
use crate::proto::router::{FlatList, WatchRequest};
use crate::tls::Security;

/// News that wait for their turn.
const NEWS_MAX: usize = 64;
/// Lines of its log that are kept: it writes two a list.
const LOG_LINES_MAX: usize = 64;
/// How often a controller is dialled again.
const RETRY: Duration = Duration::from_millis(200);

/// What it is started with.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) id: String,
    /// The controllers that its operator named.
    pub(super) seeds: Vec<String>,
    /// Where it saves the list: one address a line.
    pub(super) saved: PathBuf,
    pub(super) security: Security,
}

/// What can be seen of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How many controllers it hears.
    pub(super) connected: usize,
    /// How many controllers its list names; `None` before the first list.
    pub(super) named: Option<usize>,
    /// The index of that list.
    pub(super) index: u64,
    /// What it logged, and when.
    pub(super) log: Vec<(Instant, String)>,
}

/// A running one; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Unguarded {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Unguarded {
    /// Starts it from its saved list, or from its configuration when there is none.
    ///
    /// # Errors
    /// Why it refuses to start.
    pub(super) fn start(configuration: &Configuration) -> Result<Self, String> {
        let Configuration { seeds, saved, .. } = configuration;
        let first = match std::fs::read_to_string(saved) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => seeds.clone(),
            Err(error) => return Err(error.to_string()),
        };
        // MISSING: the way back. The file exists, so the configured controllers are never looked at.
        if first.is_empty() {
            return Err("the saved list names no controller".to_owned());
        }
        let (tells, seen) = watch::channel(Seen::default());
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let life = Life { configuration: configuration.clone(), lines: BTreeMap::new(), tasks: JoinSet::new(), tells };
        Ok(Self { seen, task: tokio::spawn(life.run(first, sender, news)) })
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

impl Drop for Unguarded {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What comes from a controller.
#[derive(Debug)]
enum News {
    List(FlatList),
    Lost,
}

/// A control connection.
#[derive(Debug)]
struct Line {
    handle: AbortHandle,
    hears: bool,
}

struct Life {
    configuration: Configuration,
    lines: BTreeMap<String, Line>,
    tasks: JoinSet<()>,
    tells: watch::Sender<Seen>,
}

impl Life {
    async fn run(mut self, first: Vec<String>, sender: Sender, mut news: mpsc::Receiver<(String, News)>) {
        self.connect(&first, &sender);
        while let Some((address, news)) = news.recv().await {
            // What comes late from a connection that was closed.
            let Some(line) = self.lines.get_mut(&address) else { continue };
            line.hears = matches!(news, News::List(_));
            if let News::List(list) = news {
                // MISSING: the version is not saved. After a restart it takes the first list from anyone, however old.
                // MISSING: any look at what the list says. It is newer, so it is taken.
                if list.index > self.tells.borrow().index {
                    self.take(&list, &sender);
                }
            }
            let connected = self.lines.values().filter(|line| line.hears).count();
            self.tells.send_modify(|seen| seen.connected = connected);
        }
    }

    fn take(&mut self, list: &FlatList, sender: &Sender) {
        let named = list.addresses.len();
        self.log(format!("a newer list with {named} controllers: taken"));
        let before = self.lines.len();
        // MISSING: whether anybody is left to speak to.
        self.lines.retain(|address, line| {
            let keep = list.addresses.contains(address);
            if !keep {
                line.handle.abort();
            }
            keep
        });
        let closed = before - self.lines.len();
        self.connect(&list.addresses, sender);
        // MISSING: the list before, a checksum, a cluster, and a write that is whole or not at all.
        let text: String = list.addresses.iter().map(|address| format!("{address}\n")).collect();
        let saved =
            std::fs::write(&self.configuration.saved, text).map_or_else(|why| why.to_string(), |()| "saved".into());
        if closed > 0 {
            self.log(format!("closed {closed} control connections; the list is {saved} over the one before"));
        }
        self.tells.send_modify(|seen| (seen.named, seen.index) = (Some(named), list.index));
    }

    fn connect(&mut self, addresses: &[String], sender: &Sender) {
        for address in addresses {
            let (configuration, sender) = (&self.configuration, sender.clone());
            self.lines.entry(address.clone()).or_insert_with(|| {
                let (id, security) = (configuration.id.clone(), configuration.security.clone());
                Line { handle: self.tasks.spawn(follow(id, address.clone(), security, sender)), hears: false }
            });
        }
    }

    fn log(&self, line: String) {
        self.tells.send_modify(|seen| {
            if seen.log.len() < LOG_LINES_MAX {
                seen.log.push((Instant::now(), line));
            }
        });
    }
}

type Sender = mpsc::Sender<(String, News)>;

/// Passes on every list of a controller, and dials it again for ever.
async fn follow(id: String, address: String, security: Security, sender: Sender) {
    let Ok(endpoint) = address.parse::<Endpoint>() else { return };
    let mut ticks = interval(RETRY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut client = RouterControlClient::new(channel(endpoint.clone(), security.clone()));
        let request = WatchRequest { router_id: id.clone(), ..WatchRequest::default() };
        let Ok(answer) = client.watch(request).await else { continue };
        let mut updates = answer.into_inner();
        while let Ok(Some(update)) = updates.message().await {
            let Ok(list) = FlatList::decode(&*update.list) else { continue };
            if sender.send((address.clone(), News::List(list))).await.is_err() {
                return;
            }
        }
        if sender.send((address.clone(), News::Lost)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(saved: PathBuf) -> Configuration {
        let seeds = vec!["http://127.0.0.1:9".to_owned()];
        Configuration { id: "router-1.3.1".to_owned(), seeds, saved, security: Security::default() }
    }

    #[tokio::test]
    async fn it_starts_from_its_configuration_only_when_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let configuration = configuration(folder.path().join("controllers"));
        assert!(Unguarded::start(&configuration).is_ok());
        std::fs::write(&configuration.saved, "http://127.0.0.1:9\n").unwrap();
        assert!(Unguarded::start(&configuration).is_ok());
        std::fs::write(&configuration.saved, "").unwrap();
        assert_eq!(Unguarded::start(&configuration).unwrap_err(), "the saved list names no controller");
    }

    #[tokio::test]
    async fn it_takes_whatever_is_newer_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let configuration = configuration(folder.path().join("controllers"));
        let (tells, seen) = watch::channel(Seen::default());
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let life = Life { configuration: configuration.clone(), lines: BTreeMap::new(), tasks: JoinSet::new(), tells };
        let here = configuration.seeds[0].clone();
        let task = tokio::spawn(life.run(configuration.seeds.clone(), sender.clone(), news));
        let offer = async |index, addresses: &[String]| {
            let list = FlatList { addresses: addresses.to_vec(), index };
            sender.send((here.clone(), News::List(list))).await.unwrap();
        };
        let saved = || std::fs::read_to_string(&configuration.saved).unwrap();
        let mut heard = seen.clone();
        offer(7, &configuration.seeds).await;
        heard.wait_for(|seen| seen.index == 7 && seen.connected == 1).await.unwrap();
        assert_eq!(saved(), "http://127.0.0.1:9\n");
        offer(6, &[]).await;
        offer(8, &[]).await;
        heard.wait_for(|seen| seen.connected == 0).await.unwrap();
        let seen = seen.borrow().clone();
        assert_eq!((seen.index, seen.named, saved().as_str()), (8, Some(0), ""));
        assert_eq!(seen.log.len(), 3, "{:?}", seen.log);
        task.abort();
    }
}
