//! One real process of the built binary: started, signalled, awaited, and never left behind.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

/// The binary that was built with these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pilothouse");
/// How much of a log is shown when a test fails.
const TAIL_LINES: usize = 25;
/// A process that was killed is gone within this time, or the system is in trouble.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A running (or paused, or ended) process whose log goes to a file.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Runs `pilothouse KIND run --config CONFIG`, and appends its stderr to `log`.
    pub(crate) fn run(kind: &str, config: &Path, log: &Path) -> Self {
        Self::run_by(Path::new(PROGRAM), kind, config, log, &[])
    }

    /// The same with another build of `pilothouse`, and with variables in its environment.
    pub(crate) fn run_by(
        program: &Path,
        kind: &str,
        config: &Path,
        log: &Path,
        variables: &[(&'static str, String)],
    ) -> Self {
        let stderr: File = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PILOTHOUSE_")) {
            command.env_remove(name);
        }
        let child = command
            .args([kind, "run", "--config"])
            .arg(config)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("start {kind} with {}: {error}", config.display()));
        Self { name: log.display().to_string(), child, log: log.to_owned() }
    }

    #[allow(dead_code, reason = "for the tests of time alone")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends a signal. A process that has ended already must not get one: its id could be somebody else's.
    pub(crate) fn signal(&mut self, signal: Signal) {
        assert!(self.is_running(), "{} has ended before {signal}\n{}", self.name, self.tail());
        kill(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and gone.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.exit_within(KILLED_WITHIN).await;
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn exit_within(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, deadline, || {
            let ended = self.child.try_wait().unwrap().ok_or_else(|| format!("it runs\n{}", tail(&self.log)));
            async { ended }
        })
        .await
    }

    /// The end of the log.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    #[allow(clippy::print_stdout, reason = "what a failed test left behind is shown with its failure")]
    fn drop(&mut self) {
        // Both fail only for one that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- {}\n{}", self.name, self.tail());
        }
    }
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

fn tail(log: &Path) -> String {
    let text = read(log);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
