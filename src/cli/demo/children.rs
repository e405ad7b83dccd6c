//! The child processes of a demo: started with a configuration file, logged within bounds, stopped without a trace.
//!
//! Every child is in a process group of its own, so that Ctrl-C reaches the demo alone and the demo decides the order;
//! it ends with the demo however the demo ends (see [`crate::cli::parent`]). It does not know what children are for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::layout::{Layout, Unit};
use super::log::BoundedLog;
use crate::cli::parent;

/// A child that was asked to stop has this long; a controller needs at most 8 s.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// A child that was killed is gone within this time, or the system is in trouble.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// What a child that ended had written is in its log within this time.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(1);
/// How much of a child's output is read at once.
const READ_BYTES: usize = 8 * 1024;

/// A running child.
#[derive(Debug)]
struct Running {
    process: Child,
    /// Nobody writes to it: its end tells the child that the demo is gone. Kept here, since waiting for a process closes
    /// what it holds itself, and a child takes that for a second request to stop.
    stdin: Option<ChildStdin>,
    pid: Pid,
    pid_file: PathBuf,
    log: JoinHandle<()>,
}

/// All children of a demo.
#[derive(Debug)]
pub(crate) struct Children {
    program: PathBuf,
    /// Those that run another program.
    others: BTreeMap<Unit, PathBuf>,
    running: BTreeMap<Unit, Running>,
}

impl Children {
    /// None yet; `program` is what they run.
    pub(crate) const fn new(program: PathBuf) -> Self {
        Self { program, others: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// From its next start on, a child runs this instead.
    pub(crate) fn will_run(&mut self, unit: Unit, program: PathBuf) {
        self.others.insert(unit, program);
    }

    /// From its next start on, a child runs what all do.
    pub(crate) fn will_run_the_usual(&mut self, unit: Unit) {
        self.others.remove(&unit);
    }

    /// Writes the configuration of a child.
    pub(crate) fn configure(layout: &Layout, unit: Unit, config: &str) -> anyhow::Result<()> {
        let (folder, path) = (layout.folder_of(unit), layout.config_of(unit));
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))
    }

    /// Starts a child that is configured.
    pub(crate) fn start(&mut self, layout: &Layout, unit: Unit) -> anyhow::Result<()> {
        anyhow::ensure!(!self.running.contains_key(&unit), "{unit} runs already");
        let program = self.others.get(&unit).unwrap_or(&self.program);
        let mut command = Command::new(program);
        command.arg(unit.command()).arg("run").arg("--config").arg(layout.config_of(unit)).arg(parent::FLAG);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PILOTHOUSE_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {unit} ({})", program.display()))?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.with_context(|| format!("{unit} ended before it had begun"))?;
        let stdin = process.stdin.take();
        let stderr = process.stderr.take().context("a piped output is there")?;
        let log = tokio::spawn(keep(stderr, BoundedLog::open(layout.log_of(unit))?));
        let pid_file = layout.pid_file_of(unit);
        self.running.insert(unit, Running { process, stdin, pid, pid_file: pid_file.clone(), log });
        std::fs::write(&pid_file, format!("{pid}\n")).with_context(|| format!("write {}", pid_file.display()))
    }

    /// Which children run, as far as is known.
    pub(crate) fn units(&self) -> Vec<Unit> {
        self.running.keys().copied().collect()
    }

    /// Those that ended by themselves since the last call, and how. Their last words are in their logs.
    pub(crate) async fn ended(&mut self) -> Vec<(Unit, ExitStatus)> {
        let gone = |(unit, running): (&Unit, &mut Running)| Some((*unit, running.process.try_wait().ok()??));
        let ended: Vec<_> = self.running.iter_mut().filter_map(gone).collect();
        for (unit, _) in &ended {
            if let Some(running) = self.running.get_mut(unit) {
                // Longer only if a grandchild holds the pipe; then its words are not the child's.
                let _ = tokio::time::timeout(LAST_WORDS_DEADLINE, &mut running.log).await;
            }
            self.forget(*unit);
        }
        ended
    }

    /// SIGKILL: no goodbye.
    pub(crate) async fn kill(&mut self, unit: Unit) -> anyhow::Result<()> {
        let running = self.running.get_mut(&unit).with_context(|| format!("{unit} does not run"))?;
        let killed = tokio::time::timeout(KILL_DEADLINE, running.process.kill()).await;
        killed.with_context(|| format!("{unit} survived SIGKILL for {KILL_DEADLINE:?}"))??;
        self.forget(unit);
        Ok(())
    }

    /// SIGTERM, and SIGKILL for one that does not obey in time. `false` when it had to be killed.
    pub(crate) async fn stop(&mut self, unit: Unit) -> anyhow::Result<bool> {
        let running = self.running.get_mut(&unit).with_context(|| format!("{unit} does not run"))?;
        let obeyed = obey(running).await;
        self.forget(unit);
        obeyed
    }

    /// Stops all, routers first: they would only look for controllers. Names those that had to be killed.
    pub(crate) async fn stop_all(&mut self) -> Vec<Unit> {
        let mut killed = Vec::new();
        for routers in [true, false] {
            let of_kind = |unit: &Unit| matches!(unit, Unit::Router(_)) == routers;
            let stops = self
                .running
                .iter_mut()
                .filter(|(unit, _)| of_kind(unit))
                .map(|(unit, running)| async move { (*unit, obey(running).await.unwrap_or(false)) });
            let stopped = futures::future::join_all(stops).await;
            for (unit, obeyed) in stopped {
                self.forget(unit);
                if !obeyed {
                    killed.push(unit);
                }
            }
        }
        killed
    }

    /// Ends all at once.
    pub(crate) async fn kill_all(&mut self) {
        for unit in self.units() {
            // Nothing is left to do about one that cannot be killed; it ends with this process.
            let _ = self.kill(unit).await;
        }
    }

    /// A pid file that outlived its process could name somebody else's.
    fn forget(&mut self, unit: Unit) {
        if let Some(running) = self.running.remove(&unit) {
            let _ = std::fs::remove_file(&running.pid_file);
            drop(running.stdin);
            // The log task ends by itself with the pipe.
            drop(running.log);
        }
    }
}

async fn obey(running: &mut Running) -> anyhow::Result<bool> {
    // The second signal lets one that was stopped (SIGSTOP) see the first. Both fail only for one that is gone.
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        let _ = kill(running.pid, signal);
    }
    if let Ok(ended) = tokio::time::timeout(STOP_DEADLINE, running.process.wait()).await {
        ended?;
        return Ok(true);
    }
    tokio::time::timeout(KILL_DEADLINE, running.process.kill()).await??;
    Ok(false)
}

/// Copies a child's output into its log until the child is gone.
async fn keep(mut output: ChildStderr, mut log: BoundedLog) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        // A log that cannot be written must not stop the child: its output is read on, and dropped.
        let _ = log.append(&buffer[..length]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    const UNIT: Unit = Unit::Router(1);

    /// Children that run a shell script, and where they would live.
    fn children(folder: &Path, script: &str) -> (Children, Layout) {
        let program = folder.join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let layout = Layout { folder: folder.to_owned(), base_port: 20_000, controllers: 0, routers: 1, secure: false };
        Children::configure(&layout, UNIT, "").unwrap();
        (Children::new(program), layout)
    }

    fn pid_of(layout: &Layout) -> Pid {
        Pid::from_raw(std::fs::read_to_string(layout.pid_file_of(UNIT)).unwrap().trim().parse().unwrap())
    }

    #[tokio::test]
    async fn a_child_is_stopped_even_when_it_is_paused_and_leaves_no_process_id() {
        let folder = tempfile::tempdir().unwrap();
        let (mut children, layout) = children(folder.path(), "exec sleep 60");
        for pause in [false, true] {
            children.start(&layout, UNIT).unwrap();
            let pid = pid_of(&layout);
            kill(pid, pause.then_some(Signal::SIGSTOP)).unwrap();
            assert!(children.stop(UNIT).await.unwrap(), "it had to be killed");
            assert!(kill(pid, None).is_err() && !layout.pid_file_of(UNIT).exists());
        }
    }

    #[tokio::test]
    async fn a_child_is_asked_to_stop_once_and_its_input_stays_open_while_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let slow = "trap 'timeout 0.3 cat; echo $? >&2; exit 0' TERM; echo ready >&2; while :; do sleep 0.02; done";
        let (mut children, layout) = children(folder.path(), slow);
        children.start(&layout, UNIT).unwrap();
        let log = || std::fs::read_to_string(layout.log_of(UNIT)).unwrap_or_default();
        let ready = crate::cli::demo::wait::until(STOP_DEADLINE, async || {
            anyhow::ensure!(log().contains("ready"), "not ready");
            Ok(())
        });
        ready.await.unwrap();
        let running = children.running.get_mut(&UNIT).unwrap();
        assert!(obey(running).await.unwrap());
        (&mut running.log).await.unwrap();
        // 124: `cat` was still waiting for input when its time was over.
        assert!(log().ends_with("124\n"), "{}", log());
    }

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_noticed_once_and_its_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut children, layout) = children(folder.path(), "echo $1 $2 >&2; read nothing; exit 3");
        children.start(&layout, UNIT).unwrap();
        assert!(children.start(&layout, UNIT).is_err(), "it runs already");
        // The end of its standard input is how a child learns that its parent is gone.
        drop(children.running.get_mut(&UNIT).unwrap().stdin.take());
        let running = children.running.get_mut(&UNIT).unwrap();
        running.process.wait().await.unwrap();
        let ended = children.ended().await;
        assert!(matches!(ended.as_slice(), [(UNIT, status)] if status.code() == Some(3)), "{ended:?}");
        assert_eq!(std::fs::read_to_string(layout.log_of(UNIT)).unwrap(), "router run\n");
        assert!(children.ended().await.is_empty() && children.units().is_empty());
        assert!(!layout.pid_file_of(UNIT).exists());
    }
}
