//! A cluster of processes, some of which are of an older build, under load and with witnesses everywhere. It can be
//! changed in small steps; after each of them everything that was promised is looked at.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pilothouse::domain::endpoint::Endpoint;
use pilothouse::proto::admin::StatusResponse;
use pilothouse::rpc::client::AdminClient;
use pilothouse::tls::Security;
use serde_json::Value;

use super::builds::{self, Build};
use super::frozen::router::{Manner, Router};
use super::held::{self, Held};
use super::lists::{Lists, Version};
use crate::support::fleet::{Fleet, Unit};
use crate::support::probe::{Mark, Probe};
use crate::support::{SOON, eventually, expect, http};

/// How many controllers found a cluster: one may be away.
pub(crate) const CONTROLLERS: usize = 3;
/// Our routers.
const ROUTERS: [&str; 2] = ["edge-1", "edge-2"];
/// A process that is asked to stop is gone within this time.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Longest gap in acknowledged writes, whatever is being replaced: the lease, an election, and a loaded machine's share.
const GAP_MAX: Duration = Duration::from_secs(8);
/// A controller with fewer entries to catch up on has caught up: the load goes on meanwhile.
const LAG_MAX: u64 = 64;

/// A cluster of two builds.
pub(crate) struct Mixed {
    pub(crate) fleet: Fleet,
    pub(crate) older: Build,
    pub(crate) newer: Build,
    lists: Lists,
    held: Held,
    frozen: [Router; 2],
    load: Probe,
    mark: Mark,
    changes: usize,
    began: Instant,
}

impl Mixed {
    /// Everybody is of the older build: three controllers, two routers, two routers of protocol 1.
    pub(crate) async fn all_older(older: &Build, tables: &'static str) -> Self {
        let mut fleet = Fleet::found_by(&older.program, tables, CONTROLLERS).await;
        for id in ROUTERS {
            fleet.router(id);
        }
        fleet.routers_are_current().await;
        let admins: Vec<u16> = fleet.controllers.iter().map(|(ports, _)| ports.admin).collect();
        let mut lists = Lists::default();
        fleet.controllers.iter().for_each(|(ports, _)| lists.follow(*ports, &admins));
        let seed = format!("http://127.0.0.1:{}", fleet.controllers[0].0.router);
        let frozen = [("old-1", Manner::Session), ("old-2", Manner::Watch)]
            .map(|(id, manner)| Router::start(id, seed.clone(), manner));
        let held = Held::watch(fleet.routers.iter().map(|(port, _)| *port));
        let load = Probe::start("load", &fleet.router_ports());
        let mark = load.mark().await;
        let (older, newer) = (older.clone(), builds::this());
        let mixed = Self { fleet, older, newer, lists, held, frozen, load, mark, changes: 0, began: Instant::now() };
        mixed.everybody_holds_the_list().await;
        mixed
    }

    /// The place of the leader, and those of all others that run.
    pub(crate) async fn leader_and_others(&self) -> (usize, Vec<usize>) {
        let leader = eventually("somebody leads", SOON, || async {
            let leader = self.status().await?.leader;
            expect(leader != 0, || "nobody does".to_owned()).map(|()| place_of(leader))
        })
        .await;
        let places = 0..self.fleet.controllers.len();
        (leader, places.filter(|place| *place != leader && self.fleet.controllers[*place].1.runs()).collect())
    }

    /// Stops a controller as an operator does.
    pub(crate) async fn stop_controller(&mut self, place: usize) {
        stop(&mut self.fleet.controllers[place].1).await;
    }

    /// Ends a controller without a goodbye, and waits until another one leads and writes go on.
    pub(crate) async fn kill_controller(&mut self, place: usize) {
        self.fleet.controllers[place].1.kill().await;
        let acks = self.load.acks();
        self.load.more_acks_than(acks).await;
    }

    /// Starts a controller with this build on the data that it has, and waits until it takes part.
    pub(crate) async fn start_controller(&mut self, place: usize, build: &Build) {
        let (ports, unit) = &mut self.fleet.controllers[place];
        let http = ports.http;
        start(unit, build);
        let (id, version) = (place as u64 + 1, build.version.as_str());
        eventually(&format!("controller {id} of build {version} takes part"), SOON, || async {
            let (ready, why) = http::get(http, "/readyz").await?;
            let members = self.status().await?.members;
            let member = members.into_iter().find(|member| member.id == id).unwrap_or_default();
            let right = member.state == "up" && member.software_version == version && member.lag_entries < LAG_MAX;
            expect(ready == 200 && right, || format!("{why} {member:?}"))
        })
        .await;
    }

    /// Replaces the binary of a controller.
    pub(crate) async fn replace_controller(&mut self, place: usize, build: &Build) {
        self.stop_controller(place).await;
        self.start_controller(place, build).await;
        self.change_the_list().await;
    }

    /// Replaces the binary of every router, one after the other. What the one saved, the other must be able to use.
    pub(crate) async fn replace_routers(&mut self, build: &Build) {
        for (_, unit) in &mut self.fleet.routers {
            stop(unit).await;
            let config = unit.config.to_str().unwrap();
            let files = ask(&build.program, &["router", "list", "--config", config, "-o", "json"], "").await;
            held::on_disk(&files.unwrap()).unwrap();
            start(unit, build);
        }
        self.change_the_list().await;
    }

    /// Makes a controller the leader.
    pub(crate) async fn transfer_to(&self, place: usize) {
        let id = (place + 1).to_string();
        eventually(&format!("controller {id} leads"), SOON, || async {
            let answer = self.fleet.cli(&["cluster", "transfer", "--to", &id]).await;
            let leader = self.status().await?.leader;
            expect(leader != 0 && place_of(leader) == place, || format!("{answer:?}"))
        })
        .await;
    }

    /// A controller of this build joins with a vote. Its place.
    pub(crate) async fn join(&mut self, build: &Build) -> usize {
        self.fleet.program.clone_from(&build.program);
        let peer = self.fleet.newcomer().await;
        let place = self.fleet.controllers.len() - 1;
        is(&mut self.fleet.controllers[place].1, build);
        self.done(&["cluster", "add", "--peer", &peer, "--wait"]).await;
        self.done(&["cluster", "promote", &(place + 1).to_string(), "--wait"]).await;
        let admins: Vec<u16> = self.fleet.controllers.iter().map(|(ports, _)| ports.admin).collect();
        self.lists.follow(self.fleet.controllers[place].0, &admins);
        self.everybody_holds_the_list().await;
        place
    }

    /// A controller leaves for good.
    pub(crate) async fn leave(&mut self, place: usize) {
        self.done(&["cluster", "remove", &(place + 1).to_string()]).await;
        self.stop_controller(place).await;
        self.everybody_holds_the_list().await;
    }

    /// An older controller is passed over when somebody else can be asked, and says that it is one when nobody can.
    pub(crate) async fn whoever_knows_upgrades_is_asked(&self, older: usize) {
        let admin = |place: usize| format!("http://127.0.0.1:{}", self.fleet.controllers[place].0.admin);
        let others = (0..self.fleet.controllers.len()).filter(|place| *place != older);
        let endpoints: Vec<_> = std::iter::once(older).chain(others).map(admin).collect();
        let asks = ["cluster", "upgrade", "status", "-o", "json"];
        let told = ask(&self.newer.program, &asks, &endpoints.join(",")).await.unwrap();
        assert_eq!(told["finalized"], false, "{told}");
        let alone = self.fleet.cli_at(older, &["cluster", "upgrade", "status"]).await;
        assert!(alone.code == 1 && alone.err.contains("a version that does not know this command"), "{alone:?}");
    }

    /// Asked at a controller of this build, the cluster says why it cannot be finalized yet, and stays as it is.
    pub(crate) async fn finalizing_is_refused(&self, place: usize, why: &str) {
        let refused = self.fleet.cli_at(place, &["cluster", "upgrade", "finalize"]).await;
        assert!(refused.code == 1 && refused.err.contains(why), "{why:?}: {refused:?}");
        assert!(self.status().await.unwrap().feature_level < self.newer.levels.1);
    }

    /// Raises the feature level to the newest one.
    pub(crate) async fn finalize(&self) {
        let done = self.fleet.cli(&["cluster", "upgrade", "finalize", "--wait", "--timeout", "60"]).await;
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(self.status().await.unwrap().feature_level, self.newer.levels.1);
    }

    /// A controller that is stopped ends at its start by this build, and says why and what to do.
    pub(crate) async fn start_is_refused(&mut self, place: usize, build: &Build) {
        let unit = &mut self.fleet.controllers[place].1;
        start(unit, build);
        let status = unit.ended(SOON).await;
        assert_eq!(status.code(), Some(1), "{}", unit.log());
        let says = format!("this build reads up to level {}: start the newer build again", build.levels.1);
        assert!(unit.log().contains(&says), "{says:?} is not in {}", unit.log());
    }

    /// A controller of this build is not taken in, with what it reads and what is written.
    pub(crate) async fn joining_is_refused(&mut self, build: &Build) {
        self.fleet.program.clone_from(&build.program);
        let peer = self.fleet.newcomer().await;
        let refused = self.fleet.cli_at(0, &["cluster", "add", "--peer", &peer]).await;
        let reads = format!("reads feature levels {} to {}", build.levels.0, build.levels.1);
        assert!(refused.code == 1 && refused.err.contains(&reads), "{refused:?}");
        let (_, mut newcomer) = self.fleet.controllers.pop().unwrap();
        newcomer.kill().await;
    }

    /// How many snapshots a controller received in all of its lives.
    pub(crate) fn snapshots_received(&self, place: usize) -> usize {
        self.fleet.controllers[place].1.log().matches("received a snapshot").count()
    }

    /// The newest snapshot of a controller, by the name of its file: later ones come after.
    pub(crate) fn newest_snapshot(&self, place: usize) -> Option<String> {
        let folder = self.fleet.data(&format!("controller-{}", place + 1)).join("snapshots");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.contains("partial")).max()
    }

    /// Waits until so many more entries are committed.
    pub(crate) async fn entries_later(&self, count: u64) {
        let before = eventually("a status", SOON, || self.status()).await.committed_index;
        eventually(&format!("{count} entries more"), SOON, || async {
            let now = self.status().await?.committed_index;
            expect(now >= before + count, || format!("{now} after {before}"))
        })
        .await;
    }

    /// One more list: an address of a controller is written in another way. Everybody has to hold it.
    pub(crate) async fn change_the_list(&mut self) {
        self.changes += 1;
        let host = if self.changes.is_multiple_of(2) { "127.0.0.1" } else { "localhost" };
        let (leader, _) = self.leader_and_others().await;
        let address = format!("http://{host}:{}", self.fleet.controllers[leader].0.router);
        self.done(&["cluster", "readdress", &(leader + 1).to_string(), "--router", &address]).await;
        self.everybody_holds_the_list().await;
    }

    /// Every router of every kind and every controller that runs has the committed list; nothing was wrong until now.
    pub(crate) async fn everybody_holds_the_list(&self) {
        eventually("everybody holds the committed list", SOON, || async {
            self.nothing_was_wrong();
            let status = self.status().await?;
            let version = (status.epoch, status.list_index);
            let running = self.fleet.controllers.iter().filter(|(_, unit)| unit.runs());
            self.lists.agree(running.map(|(ports, _)| ports.router), version)?;
            for (port, _) in &self.fleet.routers {
                let said = http::get_json(*port, "/api/v1/status").await?;
                let served = said["sessions"].as_array().is_some_and(|sessions| !sessions.is_empty());
                let holds = held::version(&said["held"]["version_text"]) == Some(version);
                expect(served && holds, || said.to_string())?;
            }
            self.frozen_hold(version)
        })
        .await;
    }

    fn frozen_hold(&self, (epoch, index): Version) -> Result<(), String> {
        let flat = (u64::from(epoch) << 32) + index;
        self.frozen.iter().map(Router::seen).try_for_each(|seen| {
            expect(seen.list.index == flat && seen.connected.is_some(), || format!("{flat}: {seen:?}"))
        })
    }

    fn nothing_was_wrong(&self) {
        assert_eq!(self.lists.wrong(), Vec::<String>::new(), "no list may be empty, older, uncommitted or ambiguous");
        assert_eq!(self.held.wrong(), Vec::<String>::new(), "every router has a usable list at any time");
        for router in &self.frozen {
            assert_eq!(router.seen().wrong, [], "no list of protocol 1 is empty or older");
        }
        let gap = self.load.longest_gap(self.mark);
        assert!(gap < GAP_MAX, "no write was acknowledged for {gap:?}");
    }

    /// The end: everybody agrees, nothing that was acknowledged is missing, and both builds can ask. Tells how it went.
    pub(crate) async fn end(self, order: &str) {
        self.everybody_holds_the_list().await;
        let speaks = self.older.protocol_max.min(self.newer.protocol_max);
        for id in ROUTERS {
            let shown = self.asked_by(&self.older, &["routers", "show", id, "-o", "json"]).await;
            assert!(shown["protocol"].as_u64() >= Some(speaks.into()), "{shown}");
        }
        for build in [&self.older, &self.newer] {
            assert!(self.asked_by(build, &["cluster", "status", "-o", "json"]).await["leader"].is_u64());
        }
        self.states_agree().await;
        let (gap, took) = (self.load.longest_gap(self.mark), self.began.elapsed());
        let versions = self.lists.versions();
        let acked = self.load.stop();
        let listed = eventually("routers are listed", SOON, || async {
            let answer = self.fleet.cli(&["routers", "list", "-o", "json"]).await;
            if answer.code == 0 { Ok(answer.json()) } else { Err(answer.err) }
        })
        .await;
        let routers = listed["routers"].as_array().unwrap().iter();
        let registered: BTreeSet<&str> =
            routers.filter(|router| router["registered"] == true).filter_map(|router| router["id"].as_str()).collect();
        let missing: Vec<_> = acked.iter().filter(|id| !registered.contains(id.as_str())).collect();
        assert!(missing.is_empty(), "these were acknowledged: {missing:?}");
        println!(
            "{order}: {} writes, longest gap {} ms, {versions} lists, {:.1} s",
            acked.len(),
            gap.as_millis(),
            took.as_secs_f64()
        );
    }

    /// The cluster, as whoever runs and answers first reports it.
    async fn status(&self) -> Result<StatusResponse, String> {
        let running = self.fleet.controllers.iter().filter(|(_, unit)| unit.runs());
        let endpoints: Vec<Endpoint> =
            running.map(|(ports, _)| format!("http://127.0.0.1:{}", ports.admin).parse().unwrap()).collect();
        let asked = AdminClient::connect(&endpoints, None, Security::default()).await;
        asked.map_err(|error| error.to_string())?.status().await.map_err(|error| error.to_string())
    }

    /// No controller of this build has come to another state than the rest. Where all are of this build, each is compared
    /// with the others: the level is raised only when all are the same.
    async fn states_agree(&self) {
        let newer = |unit: &Unit| unit.runs() && unit.program == self.newer.program;
        if self.fleet.controllers.iter().all(|(_, unit)| newer(unit) || !unit.runs()) {
            self.finalize().await;
        }
        for (place, (_, unit)) in self.fleet.controllers.iter().enumerate() {
            if !unit.runs() || unit.program != self.newer.program {
                continue;
            }
            let told = self.fleet.cli_at(place, &["cluster", "upgrade", "status", "-o", "json"]).await.json();
            let controllers = told["controllers"].as_array().cloned().unwrap_or_default();
            assert!(controllers.iter().all(|controller| controller["state"] != "differs"), "{told}");
        }
    }

    pub(crate) async fn done(&self, arguments: &[&str]) {
        // Whoever has just come back may know no leader yet, and says so: it is asked again.
        eventually(&format!("{arguments:?}"), SOON, || async {
            let answer = self.fleet.cli(arguments).await;
            let nothing_to_do = answer.err.contains("already");
            expect(answer.code == 0 || nothing_to_do, || format!("{answer:?}"))
        })
        .await;
    }

    /// What this build's command line prints when it asks whoever runs.
    async fn asked_by(&self, build: &Build, arguments: &[&str]) -> Value {
        let running = self.fleet.controllers.iter().filter(|(_, unit)| unit.runs());
        let endpoints: Vec<_> = running.map(|(ports, _)| format!("http://127.0.0.1:{}", ports.admin)).collect();
        let endpoints = endpoints.join(",");
        eventually(&format!("{arguments:?}"), SOON, || ask(&build.program, arguments, &endpoints)).await
    }
}

/// Ids are given in the order in which controllers were started.
fn place_of(id: u64) -> usize {
    usize::try_from(id).unwrap() - 1
}

/// Runs a command of a build, which prints JSON.
async fn ask(program: &Path, arguments: &[&str], endpoints: &str) -> Result<Value, String> {
    let mut command = tokio::process::Command::new(program);
    if !endpoints.is_empty() {
        command.env("PILOTHOUSE_ENDPOINT", endpoints).env("PILOTHOUSE_INSECURE", "yes");
    }
    let done = command.args(arguments).stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    serde_json::from_slice(&done.stdout).map_err(|error| format!("{arguments:?}: {error}: {said}"))
}

async fn stop(unit: &mut Unit) {
    unit.process().signal(Signal::SIGTERM);
    let status = unit.ended(STOP_WITHIN).await;
    assert!(status.success(), "{}: {status}", unit.config.display());
}

fn start(unit: &mut Unit, build: &Build) {
    unit.program.clone_from(&build.program);
    unit.run();
    is(unit, build);
}

/// What runs is what is meant: no build passes for another one.
fn is(unit: &mut Unit, build: &Build) {
    let runs = std::fs::read_link(format!("/proc/{}/exe", unit.id())).unwrap();
    assert_eq!(runs, build.program.canonicalize().unwrap());
}
