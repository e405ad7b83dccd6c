//! Controllers and routers as real processes, looked at and changed through the command line only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{PROGRAM, Process};
use super::{SOON, eventually, expect, http, ports};

/// Where a controller listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) peer: u16,
    pub(crate) router: u16,
    pub(crate) admin: u16,
    pub(crate) http: u16,
}

impl Ports {
    pub(crate) fn free() -> Self {
        let [peer, router, admin, http] = [(); 4].map(|()| ports::free_port());
        Self { peer, router, admin, http }
    }
}

/// A process with its configuration, running or not.
#[derive(Debug)]
pub(crate) struct Unit {
    /// What is run: this build, unless a test says otherwise.
    pub(crate) program: PathBuf,
    kind: &'static str,
    pub(crate) config: PathBuf,
    log: PathBuf,
    variables: Vec<(&'static str, String)>,
    process: Option<Process>,
}

impl Unit {
    pub(crate) fn start(kind: &'static str, folder: &Path, name: &str, config: &str) -> Self {
        Self::start_by(Path::new(PROGRAM), kind, folder, name, config)
    }

    /// The same with variables in its environment.
    #[allow(dead_code, reason = "not for the tests of time")]
    pub(crate) fn start_with(
        variables: Vec<(&'static str, String)>,
        kind: &'static str,
        folder: &Path,
        name: &str,
        config: &str,
    ) -> Self {
        Self { variables, ..Self::ready(Path::new(PROGRAM), kind, folder, name, config) }.running()
    }

    fn start_by(program: &Path, kind: &'static str, folder: &Path, name: &str, config: &str) -> Self {
        Self::ready(program, kind, folder, name, config).running()
    }

    fn ready(program: &Path, kind: &'static str, folder: &Path, name: &str, config: &str) -> Self {
        let (path, log) = (folder.join(format!("{name}.toml")), folder.join(format!("{name}.log")));
        fs::write(&path, config).unwrap();
        Self { program: program.to_owned(), kind, config: path, log, variables: Vec::new(), process: None }
    }

    fn running(mut self) -> Self {
        self.run();
        self
    }

    /// Starts it, or starts it again.
    pub(crate) fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Process::run_by(&self.program, self.kind, &self.config, &self.log, &self.variables));
    }

    /// Its process id.
    #[allow(dead_code, reason = "for the tests of time alone")]
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// Waits until it has ended by itself, or as it was asked to.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let status = self.process().exit_within(within).await;
        self.process = None;
        status
    }

    /// Everything that it logged in all of its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until its log says this.
    pub(crate) async fn says(&self, words: &str) {
        let what = format!("{} says {words:?}", self.config.display());
        eventually(&what, SOON, || async { expect(self.log().contains(words), || self.log()) }).await;
    }

    /// SIGKILL, and gone.
    pub(crate) async fn kill(&mut self) {
        self.process().kill().await;
        self.process = None;
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A cluster of processes and its routers.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) controllers: Vec<(Ports, Unit)>,
    pub(crate) routers: Vec<(u16, Unit)>,
    /// What new processes run.
    pub(crate) program: PathBuf,
    /// Further tables of the controllers' configurations.
    tables: &'static str,
    folder: TempDir,
}

impl Fleet {
    /// Founds a cluster and waits until it has a leader and every controller is up.
    pub(crate) async fn found(count: usize) -> Self {
        Self::found_by(Path::new(PROGRAM), "", count).await
    }

    /// The same with another build, and further tables in the configurations.
    pub(crate) async fn found_by(program: &Path, tables: &'static str, count: usize) -> Self {
        let (controllers, routers, folder) = (Vec::new(), Vec::new(), TempDir::new().unwrap());
        let mut fleet = Self { controllers, routers, program: program.to_owned(), tables, folder };
        let all: Vec<_> = (0..count).map(|_| Ports::free()).collect();
        let member = |(number, ports): (usize, &Ports)| {
            format!("{{ id = {number}, name = \"controller-{number}\", peer = \"http://127.0.0.1:{}\" }}", ports.peer)
        };
        let members: Vec<_> = (1..).zip(&all).map(member).collect();
        for (number, ports) in (1..).zip(&all) {
            fleet.controller(*ports, &format!("id = {number}\ninitial_members = [{}]", members.join(", ")));
        }
        fleet.settled(count).await;
        fleet
    }

    fn controller(&mut self, ports: Ports, bootstrap: &str) {
        let name = format!("controller-{}", self.controllers.len() + 1);
        let Ports { peer, router, admin, http } = ports;
        let data = self.folder.path().join(&name);
        let config = format!(
            "name = \"{name}\"\ndata_dir = \"{}\"\n{bootstrap}\n[listen]\npeer = \"127.0.0.1:{peer}\"\nrouter = \"127.0.0.1:{router}\"\nadmin = \"127.0.0.1:{admin}\"\nhttp = \"127.0.0.1:{http}\"\n[tls]\ninsecure = true\n{tables}",
            data.display(),
            tables = self.tables
        );
        let unit = Unit::start_by(&self.program, "controller", self.folder.path(), &name, &config);
        self.controllers.push((ports, unit));
    }

    /// Starts a blank controller that waits to be added; its peer address.
    pub(crate) async fn newcomer(&mut self) -> String {
        let ports = Ports::free();
        self.controller(ports, "join = true");
        eventually("the newcomer is up", SOON, || async { http::get(ports.http, "/livez").await }).await;
        format!("http://127.0.0.1:{}", ports.peer)
    }

    /// Starts a router whose seeds are all controllers.
    pub(crate) fn router(&mut self, id: &str) {
        let seeds: Vec<_> =
            self.controllers.iter().map(|(ports, _)| format!("\"http://127.0.0.1:{}\"", ports.router)).collect();
        let port = ports::free_port();
        let data = self.folder.path().join(id);
        let config = format!(
            "id = \"{id}\"\ndata_dir = \"{}\"\nseeds = [{}]\nhttp = \"127.0.0.1:{port}\"\n[labels]\nzone = \"north\"\n[tls]\ninsecure = true\n",
            data.display(),
            seeds.join(", ")
        );
        let unit = Unit::start_by(&self.program, "router", self.folder.path(), id, &config);
        self.routers.push((port, unit));
    }

    /// Starts a controller that the fleet does not count, with the configuration of another one, changed.
    pub(crate) fn stray(&self, like: usize, name: &str, change: impl FnOnce(String) -> String) -> Unit {
        let config = change(fs::read_to_string(&self.controllers[like].1.config).unwrap());
        Unit::start("controller", self.folder.path(), name, &config)
    }

    /// Starts a router that the fleet does not count, with the configuration of another one, changed.
    pub(crate) fn stray_router(&self, like: usize, name: &str, change: impl FnOnce(String) -> String) -> Unit {
        let config = change(fs::read_to_string(&self.routers[like].1.config).unwrap());
        Unit::start("router", self.folder.path(), name, &config)
    }

    /// The data directory of the controller or router with this name.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn router_ports(&self) -> Vec<u16> {
        self.controllers.iter().map(|(ports, _)| ports.router).collect()
    }

    /// Runs a command that may ask every controller that runs.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Answer {
        let endpoints: Vec<_> = self
            .controllers
            .iter()
            .filter(|(_, unit)| unit.runs())
            .map(|(ports, _)| format!("http://127.0.0.1:{}", ports.admin))
            .collect();
        cli(arguments, &endpoints.join(",")).await
    }

    /// Runs a command that asks this controller only.
    pub(crate) async fn cli_at(&self, controller: usize, arguments: &[&str]) -> Answer {
        cli(arguments, &format!("http://127.0.0.1:{}", self.controllers[controller].0.admin)).await
    }

    /// `cluster status -o json`.
    pub(crate) async fn status(&self) -> Value {
        let answer = self.cli(&["cluster", "status", "-o", "json"]).await;
        serde_json::from_str(&answer.out).unwrap_or(Value::Null)
    }

    /// Waits until there is a leader, and so many members are up.
    pub(crate) async fn settled(&self, up: usize) -> Value {
        eventually(&format!("a leader, and {up} members up"), SOON, || async {
            let status = self.status().await;
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let alive = members.iter().filter(|member| member["state"] == "up").count();
            expect(status["leader"].is_u64() && alive == up, || status.to_string()).map(|()| status)
        })
        .await
    }

    /// Place of the leader among the controllers.
    pub(crate) async fn leader(&self) -> usize {
        let leader = self.settled_leader().await;
        usize::try_from(leader).unwrap() - 1
    }

    async fn settled_leader(&self) -> u64 {
        eventually("a leader", SOON, || async {
            let status = self.status().await;
            status["leader"].as_u64().ok_or_else(|| status.to_string())
        })
        .await
    }

    /// Waits until `routers list` shows that every router of this fleet holds the committed list.
    pub(crate) async fn routers_are_current(&self) {
        eventually("every router holds the committed list", SOON, || async {
            let version = self.status().await["list_version"].clone();
            let list = self.cli(&["routers", "list", "-o", "json"]).await;
            let list: Value = serde_json::from_str(&list.out).unwrap_or(Value::Null);
            let shown = list["routers"].as_array().cloned().unwrap_or_default();
            let current = |router: &&Value| router["held"] == version && router["last_heard_ms"].is_u64();
            let alive = shown.iter().filter(current).count();
            expect(version.is_string() && alive == self.routers.len(), || format!("{version}: {list}"))
        })
        .await;
    }
}

async fn cli(arguments: &[&str], endpoints: &str) -> Answer {
    let mut command = tokio::process::Command::new(PROGRAM);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PILOTHOUSE_")) {
        command.env_remove(name);
    }
    let output = command
        .args(arguments)
        .env("PILOTHOUSE_ENDPOINT", endpoints)
        .env("PILOTHOUSE_INSECURE", "yes")
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}
