//! A real, small file system that fills up: what was acknowledged stays, and there is a way back.
//!
//! It is mounted in a namespace of its own. Where that is not allowed this test says so and proves nothing, unless
//! `REQUIRE_NAMESPACES` is set, as the gate sets it.

use std::fs;
use std::path::Path;

use pilothouse::domain::feature::FeatureLevel;
use pilothouse::domain::ids::ControllerId;
use pilothouse::raft::{Bootstrap, InitialMember, Node, Seams, Settings};
use pilothouse::storage::log::Record;
use pilothouse::storage::{Directory, OpenError};
use tokio::net::TcpListener;

use super::writer::{command, entry, is_full, open_gently, say};
use crate::support::{SOON, eventually, expect};

/// Room of the file system; the reserve that must stay free is 16 MiB of it.
const MOUNT: &str = "mount -t tmpfs -o size=40m tmpfs \"$STORING_DIRECTORY\" && exec \"$@\"";
/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 10;

#[test]
fn a_full_disk_loses_nothing_and_a_log_goes_on_when_there_is_room_again() {
    on_a_small_disk("until full");
}

#[test]
fn a_controller_whose_disk_has_no_room_for_a_snapshot_goes_on() {
    on_a_small_disk("without snapshots");
}

/// Plays a role in a small file system, where that is allowed.
fn on_a_small_disk(role: &str) {
    let folder = tempfile::tempdir().unwrap();
    let namespace = ["unshare", "--user", "--map-root-user", "--mount"];
    let allowed = std::process::Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("REQUIRE_NAMESPACES").is_none(), "namespaces are required here");
        say("no file system can be mounted here: nothing was proved");
        return;
    }
    let under = [&namespace[..], &["sh", "-c", MOUNT, "sh"]].concat();
    let ended = command(&under, role, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("everything is there"), "{said}");
}

/// In the small file system: writes until the disk is full, looks at what is there, makes room, goes on.
pub(super) async fn write_until_full(mount: &Path) {
    let data = mount.join("data");
    fs::write(mount.join("ballast"), vec![0; 12 * 1024 * 1024]).unwrap();
    let mut acknowledged = 0;
    let directory = open_gently(&data).unwrap();
    let full = loop {
        let large = Record { index: acknowledged, bytes: vec![7; 64 * 1024].into() };
        let written = match directory.log().append(&[large]) {
            Ok(()) => directory.flusher().synced().await,
            refused => refused,
        };
        match written {
            Ok(()) => acknowledged += 1,
            Err(full) => break full,
        }
    };
    assert!(is_full(&full), "{full}");
    assert!(acknowledged > 10, "{acknowledged}");
    drop(directory);
    match open_gently(&data) {
        Err(refused @ OpenError::DiskFull { .. }) => say(&refused.to_string()),
        other => panic!("a start on a full disk is refused: {other:?}"),
    }
    fs::remove_file(mount.join("ballast")).unwrap();
    let directory = open_gently(&data).unwrap();
    // The last one may have reached the disk without having been acknowledged.
    let next = directory.log().last_index().map_or(0, |last| last + 1);
    assert!(next == acknowledged || next == acknowledged + 1, "{next} {acknowledged}");
    let kept = directory.log().range(0, acknowledged, usize::MAX).unwrap();
    assert!(kept.iter().all(|record| record.bytes == vec![7; 64 * 1024]));
    directory.log().append(&[entry(next)]).unwrap();
    directory.flusher().synced().await.unwrap();
    say(&format!("{acknowledged} entries were acknowledged and everything is there"));
}

/// In the small file system: a controller with too little room for snapshots takes entries all the same. The failure of
/// its disk would end this process, as it would end a controller.
pub(super) async fn go_on_without_snapshots(mount: &Path) {
    fs::write(mount.join("ballast"), vec![0; 12 * 1024 * 1024]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let at = |host: &str| format!("http://{host}:{port}").parse().unwrap();
    let (id, name) = (ControllerId::new(1).unwrap(), "controller-1");
    let members = vec![InitialMember { id, name: name.parse().unwrap(), peer: at("127.0.0.1") }];
    let mut settings = Settings::new(name.parse().unwrap(), Some(id), Bootstrap::InitialMembers(members));
    (settings.peer, settings.router) = (vec![at("127.0.0.1")], vec![at("127.0.0.2")]);
    (settings.admin, settings.snapshot_every_entries) = (vec![at("127.0.0.3")], SNAPSHOT_EVERY);
    let directory = Directory::open(&mount.join("data")).unwrap();
    let node = Node::start(settings, directory, Seams::default()).await.unwrap();
    let not_yet = || "not yet".to_owned();
    eventually("it leads", SOON, async || expect(node.status().borrow().leads(), not_yet)).await;
    for _ in 0..3 * SNAPSHOT_EVERY {
        node.take_checkpoint().await.unwrap();
    }
    eventually("it had no room", SOON, async || expect(node.snapshots_without_room() > 0, not_yet)).await;
    assert_eq!(node.status().borrow().snapshot, None);
    node.take_checkpoint().await.unwrap();
    let trial = node.try_level(FeatureLevel::SUPPORTED).await.unwrap_err();
    assert!(trial.is_full(), "{trial}");
    fs::remove_file(mount.join("ballast")).unwrap();
    node.try_level(FeatureLevel::SUPPORTED).await.unwrap();
    node.shutdown().await;
    say("it went on without a snapshot, and everything is there");
}
