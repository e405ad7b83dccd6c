//! The operator's own command after a change of the list. It has a deadline and gets no secrets.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

/// A command that runs for longer is ended: the next change must not wait for ever.
pub const COMMAND_MAX: Duration = Duration::from_secs(30);

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started or awaited.
    #[error("/bin/sh could not be run: {0}")]
    Io(#[from] std::io::Error),
    /// It ended with something else than 0.
    #[error("the command ended with {0}")]
    Failed(ExitStatus),
    /// It did not end.
    #[error("the command did not end within {} s and was killed", COMMAND_MAX.as_secs())]
    TooSlow,
}

/// Runs a command line with `CONTROLLER_LIST_VERSION` and, when there is one, `CONTROLLER_LIST_FILE` set.
pub(super) async fn run(line: &str, version: &str, file: Option<&Path>) -> Result<(), CommandError> {
    run_within(COMMAND_MAX, line, version, file).await
}

async fn run_within(within: Duration, line: &str, version: &str, file: Option<&Path>) -> Result<(), CommandError> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).env("CONTROLLER_LIST_VERSION", version);
    // The service manager of the router hears of the router alone.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    if let Some(file) = file {
        command.env("CONTROLLER_LIST_FILE", file);
    }
    // A group of its own, so that a signal for the router does not end it halfway.
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).kill_on_drop(true).spawn()?;
    let mut group = Group(child.id());
    match tokio::time::timeout(within, child.wait()).await {
        Ok(ended) => {
            // What it left running on purpose stays, and its number may soon be another group's.
            group.0 = None;
            match ended? {
                status if status.success() => Ok(()),
                status => Err(CommandError::Failed(status)),
            }
        }
        Err(_) => {
            drop(group);
            child.kill().await?;
            Err(CommandError::TooSlow)
        }
    }
}

/// The processes that the command started. They end with it when it is not waited for any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.take().and_then(|leader| i32::try_from(leader).ok()) {
            // It may have ended a moment ago.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_sees_the_version_and_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        run("printf %s \"$CONTROLLER_LIST_VERSION\" > \"$CONTROLLER_LIST_FILE\"", "1.7", Some(&file)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "1.7");
    }

    #[tokio::test]
    async fn a_command_that_is_too_slow_ends_with_everything_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        // A child that the shell waits for, which a signal for the shell alone would leave behind.
        let line = "sleep 1000 & echo $! > \"$CONTROLLER_LIST_FILE\"; wait";
        let ended = run_within(Duration::from_secs(1), line, "1.7", Some(&file)).await;
        assert!(matches!(ended, Err(CommandError::TooSlow)), "{ended:?}");
        let child = Pid::from_raw(std::fs::read_to_string(&file).unwrap().trim().parse().unwrap());
        // Gone, or a zombie that its new parent has not collected yet.
        let alive = || match std::fs::read_to_string(format!("/proc/{child}/stat")) {
            Ok(stat) => !stat.contains(") Z "),
            Err(_) => false,
        };
        tokio::time::timeout(Duration::from_secs(5), async {
            while alive() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the child ends too");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_reported() {
        assert!(
            matches!(run("exit 3", "1.7", None).await, Err(CommandError::Failed(status)) if status.code() == Some(3))
        );
    }
}
