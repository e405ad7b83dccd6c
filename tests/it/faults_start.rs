//! Starts that must be refused: each ends with a reason and a remedy, with 1, and nothing touched.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::support::fleet::{Fleet, Unit};

/// A refusal is quick: whoever starts it stands beside it.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// Every file below, with its bytes.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Waits for the refusal, and looks for these words in it.
async fn refused(mut unit: Unit, words: &[&str]) {
    let status = unit.ended(REFUSED_WITHIN).await;
    let log = unit.log();
    assert_eq!(status.code(), Some(1), "{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is not in: {log}");
    }
}

fn without(config: &str, key: &str) -> String {
    config.lines().filter(|line| !line.starts_with(key)).fold(String::new(), |text, line| text + line + "\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_contradicts_itself_is_refused_with_the_remedy() {
    let mut fleet = Fleet::found(1).await;
    fleet.controllers[0].1.kill().await;
    let data = fleet.data("controller-1");
    let before = content(&data);
    let both = fleet.stray(0, "both", |config| format!("join = true\n{config}"));
    refused(both, &["initial_members", "join", "every later one"]).await;
    let absent = fleet.stray(0, "absent", |config| config.replace("\nid = 1\n", "\nid = 7\n"));
    refused(absent, &["does not contain this controller (id = 7)", "this one too"]).await;
    let neither = fleet.stray(0, "neither", |config| without(&without(&config, "initial_members"), "id ="));
    refused(neither, &["initial_members", "join = true"]).await;
    assert!(content(&data) == before, "a refused start touched the data directory");
    // And with the configuration that it had it goes on.
    fleet.controllers[0].1.run();
    fleet.settled(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_and_a_locked_directory_are_refused_with_the_remedy() {
    let mut fleet = Fleet::found(1).await;
    let peer = fleet.controllers[0].0.peer;
    // The same configuration a second time: the ports are the first thing that it lacks.
    refused(fleet.stray(0, "again", |config| config), &["listen.peer", &peer.to_string()]).await;
    // Other ports, the same directory.
    let locked = fleet.stray(0, "locked", |config| {
        let (head, _) = config.split_once("[listen]").unwrap();
        let any = "\"127.0.0.1:0\"";
        format!("{head}[listen]\npeer = {any}\nrouter = {any}\nadmin = {any}\nhttp = {any}\n[tls]\ninsecure = true\n")
    });
    refused(locked, &["is in use by another process", "directory of its own"]).await;
    fleet.settled(1).await;

    fleet.controllers[0].1.kill().await;
    let before = content(&fleet.data("controller-1"));
    let taken = TcpListener::bind(("127.0.0.1", fleet.controllers[0].0.admin)).unwrap();
    refused(fleet.stray(0, "taken", |config| config), &["listen.admin", "another port"]).await;
    drop(taken);
    assert!(content(&fleet.data("controller-1")) == before, "a refused start touched the data directory");
    fleet.controllers[0].1.run();
    fleet.settled(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_another_controller_is_refused_and_stays_as_it_was() {
    let mut fleet = Fleet::found(2).await;
    for (_, unit) in &mut fleet.controllers {
        unit.kill().await;
    }
    let theirs = fleet.data("controller-2");
    let before = content(&theirs);
    let own = fleet.data("controller-1");
    let swapped = fleet.stray(0, "swapped", |config| config.replace(own.to_str().unwrap(), theirs.to_str().unwrap()));
    refused(swapped, &["data directory", "controller 2"]).await;
    assert!(content(&theirs) == before, "a refused start touched the data directory");
    for (_, unit) in &mut fleet.controllers {
        unit.run();
    }
    fleet.settled(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_written_is_refused_with_the_remedy() {
    let mut fleet = Fleet::found(1).await;
    fleet.controllers[0].1.kill().await;
    // Even the superuser cannot write there.
    let own = fleet.data("controller-1");
    let readonly = fleet.stray(0, "readonly", |config| config.replace(own.to_str().unwrap(), "/proc/self/fdinfo"));
    refused(readonly, &["/proc/self/fdinfo", "permission"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_is_refused_a_port_in_use_and_a_directory_that_it_cannot_have() {
    let mut fleet = Fleet::found(1).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let (port, data) = (fleet.routers[0].0, fleet.data("edge-1"));
    refused(fleet.stray_router(0, "again", |config| config), &["(http)", &port.to_string(), "another address"]).await;
    let locked = |config: String| config.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
    refused(fleet.stray_router(0, "locked", locked), &[data.to_str().unwrap(), "in use by another process"]).await;

    fleet.routers[0].1.kill().await;
    let nowhere = |config: String| config.replace(data.to_str().unwrap(), "/proc/self/fdinfo");
    refused(fleet.stray_router(0, "readonly", nowhere), &["/proc/self/fdinfo", "write access"]).await;
    fleet.routers[0].1.run();
    fleet.routers_are_current().await;
}
