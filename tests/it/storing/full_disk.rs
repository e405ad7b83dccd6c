//! A real, small file system that fills up: what was acknowledged stays, and there is a way back.
//!
//! It is mounted in a namespace of its own. Where that is not allowed this test says so and proves nothing, unless
//! `REQUIRE_NAMESPACES` is set, as the gate sets it.

use std::fs;
use std::path::Path;

use pilothouse::storage::OpenError;
use pilothouse::storage::log::Record;

use super::writer::{command, entry, is_full, open_gently, say};

/// Room of the file system; the reserve that must stay free is 16 MiB of it.
const MOUNT: &str = "mount -t tmpfs -o size=40m tmpfs \"$STORING_DIRECTORY\" && exec \"$@\"";

#[test]
fn a_full_disk_loses_nothing_and_a_log_goes_on_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let namespace = ["unshare", "--user", "--map-root-user", "--mount"];
    let allowed = std::process::Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("REQUIRE_NAMESPACES").is_none(), "namespaces are required here");
        println!("no file system can be mounted here: nothing was proved");
        return;
    }
    let under = [&namespace[..], &["sh", "-c", MOUNT, "sh"]].concat();
    let ended = command(&under, "until full", folder.path()).output().unwrap();
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
