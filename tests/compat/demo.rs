//! `pilothouse demo --scenario rolling-upgrade`, over mutual TLS: from a real older binary it ends with 0, and from one
//! that is not what it says with 1.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::builds;
use crate::support::process::PROGRAM;

/// The demo ends by itself within two minutes.
const END_WITHIN: Duration = Duration::from_secs(150);

/// Exit code, and everything that was said.
async fn upgraded_from(older: &Path) -> (Option<i32>, String) {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(["demo", "--scenario", "rolling-upgrade", "--older"]).arg(older);
    command.env("TMPDIR", temporary.path()).stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(END_WITHIN, command.output()).await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "its folder is gone");
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_upgrades_an_older_cluster_and_says_how_it_went() {
    let _alone = super::ALONE.lock().await;
    for older in builds::older() {
        let (code, said) = upgraded_from(&older.program).await;
        assert_eq!(code, Some(0), "{said}");
        let went = format!("5 processes went from {} to {}", older.version, builds::this().version);
        assert!(said.contains(&went) && said.contains("no router was ever without its list"), "{said}");
        println!("{}", said.lines().rfind(|line| line.contains("longest gap")).unwrap_or_default().trim());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_binary_that_is_not_what_it_says_is_noticed() {
    let _alone = super::ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let liar = folder.path().join("pilothouse");
    let older = builds::older().remove(0);
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo pilothouse 0.0.9 && exit\nexec {} \"$@\"\n",
        older.program.display()
    );
    std::fs::write(&liar, text).unwrap();
    std::fs::set_permissions(&liar, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (code, said) = upgraded_from(&liar).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("instead of 0.0.9"), "{said}");
}
