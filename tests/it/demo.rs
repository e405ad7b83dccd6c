//! `pilothouse demo` as a shell sees it: it begins, it tells, and it leaves nothing behind, however it ends.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// From the first process to routers that hold the list, on a machine that does other things too.
const BEGIN_DEADLINE: Duration = Duration::from_secs(60);
/// From the signal to the end: a controller may take 8 s.
const END_DEADLINE: Duration = Duration::from_secs(30);
/// Lines of a demo that are kept until they are read.
const LINES_MAX: usize = 10_000;

/// A running demo.
struct Demo {
    process: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(arguments: &[&str], temporary: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pilothouse"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    /// One that runs in a folder, with a router that holds a list.
    fn under_way(arguments: &[&str], base: u16, folder: &Path) -> Self {
        let (base, data) = (base.to_string(), folder.join("data"));
        let few = ["--controllers", "1", "--routers", "1", "--base-port", &base, "--data-dir", data.to_str().unwrap()];
        let demo = Self::start(&[&few[..], arguments].concat(), folder);
        demo.await_lines(vec!["router-1 holds list"]);
        demo
    }

    /// Reads until every one of these was said.
    fn await_lines(&self, mut expected: Vec<&str>) {
        let end = Instant::now() + BEGIN_DEADLINE;
        let mut said = Vec::new();
        while !expected.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|why| {
                panic!("{why}: {expected:?} were not said, but:\n{}", said.join("\n"));
            });
            expected.retain(|text| !line.contains(text));
            said.push(line);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        wait_for("the demo ends", END_DEADLINE, || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Already ended, unless the test failed; the children end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a command printed on its standard output, or else on its standard error.
fn cli(arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(env!("CARGO_BIN_EXE_pilothouse")).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process ids that a demo's folders name.
fn pids(folder: &Path) -> Vec<Pid> {
    let children = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().join("pid"));
    let texts = children.filter_map(|pid| std::fs::read_to_string(pid).ok());
    texts.map(|pid| Pid::from_raw(pid.trim().parse().unwrap())).collect()
}

fn await_gone(pids: &[Pid]) {
    for pid in pids {
        wait_for(&format!("process {pid} is gone"), END_DEADLINE, || kill(*pid, None).is_err().then_some(()));
    }
}

/// A base port whose ports are free now. Each test has a range of its own, away from the ports of other tests.
fn base_port(range: std::ops::Range<u16>) -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    range.step_by(700).find(|base| (*base..base + 650).all(free)).unwrap()
}

#[test]
fn a_demo_is_where_it_was_told_to_be_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (data, base) = (folder.path().join("data"), base_port(2_000..4_500));
    let arguments = ["--base-port", &base.to_string(), "--data-dir", data.to_str().unwrap(), "--insecure"];
    let mut demo = Demo::start(&arguments, folder.path());
    demo.await_lines(vec!["leads the cluster", "router-1 holds list", "router-2 holds list"]);
    let running = pids(&data);
    assert_eq!(running.len(), 5);
    for port in [10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33, 501, 502] {
        TcpStream::connect(("127.0.0.1", base + port)).unwrap();
    }
    for (child, files) in
        [("controller-3", ["config.toml", "data", "log", "pid"]), ("router-2", ["config.toml", "data", "log", "pid"])]
    {
        let missing: Vec<&str> = files.into_iter().filter(|file| !data.join(child).join(file).exists()).collect();
        assert!(missing.is_empty(), "{child} lacks {missing:?}");
    }

    let client = data.join("admin").join("client.toml");
    let status = cli(&["cluster", "status", "--config", client.to_str().unwrap()]).unwrap();
    assert!(status.contains("controller-3"), "{status}");
    assert!(std::fs::read_to_string(&client).unwrap().contains("insecure = true"));
    assert!(!data.join("ca").exists() && !data.join("controller-1").join("tls").exists(), "plain text needs no keys");

    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.exit_code(), Some(0));
    await_gone(&running);
    assert_eq!(pids(&data), [], "a process id outlived its process");
    assert!(data.join("controller-1").join("data").is_dir(), "a folder that was asked for stays");
}

#[test]
fn a_demos_own_admin_is_let_in_and_nobody_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let (data, base) = (folder.path().join("data"), base_port(12_300..13_700));
    let mut demo = Demo::under_way(&[], base, folder.path());
    let client = data.join("admin").join("client.toml");
    let status = cli(&["cluster", "status", "--config", client.to_str().unwrap()]).unwrap();
    assert!(status.contains("controller-1"), "{status}");
    for key in
        ["ca/issuer-controllers-key.pem", "controller-1/tls/key.pem", "router-1/tls/key.pem", "admin/tls/key.pem"]
    {
        assert_eq!(std::fs::metadata(data.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }

    // Somebody with an authority of the same name.
    let (other, stranger) = (folder.path().join("other"), folder.path().join("stranger"));
    let (other, stranger) = (other.to_str().unwrap(), stranger.to_str().unwrap());
    cli(&["pki", "init", "--dir", other, "--trust-domain", "demo.pilothouse"]).unwrap();
    cli(&["pki", "issue", "--dir", other, "admin", "demo", "--out", stranger]).unwrap();
    let ask = |scheme: &str, with: &[&str]| {
        let endpoint = format!("{scheme}://127.0.0.1:{}", base + 12);
        cli(&[&["cluster", "status", "--endpoint", &endpoint][..], with].concat())
    };
    let own = data.join("admin").join("tls");
    assert!(ask("https", &["--tls-dir", own.to_str().unwrap()]).is_ok());
    let refused = ask("https", &["--tls-dir", stranger]).unwrap_err();
    assert!(refused.contains("no controller answered"), "the controller is a stranger too: {refused}");
    std::fs::copy(own.join("ca-controllers.pem"), Path::new(stranger).join("ca-controllers.pem")).unwrap();
    ask("https", &["--tls-dir", stranger]).expect_err("the controller takes a stranger for its admin");
    ask("http", &["--insecure"]).expect_err("the controller answers to plain text");
    let refused = ask("https", &[]).unwrap_err();
    assert!(refused.contains("no certificate to show"), "{refused}");
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.exit_code(), Some(0));
}

#[test]
fn a_folder_keeps_its_certificates_and_is_not_opened_in_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let (data, base) = (folder.path().join("data"), base_port(13_700..15_300));
    let end = |mut demo: Demo| {
        demo.signal(Signal::SIGTERM);
        assert_eq!(demo.exit_code(), Some(0));
    };
    let certificates = || {
        let files = ["ca/issuer-routers.pem", "controller-1/tls/certificate.pem", "admin/tls/certificate.pem"];
        files.map(|file| std::fs::read_to_string(data.join(file)).unwrap())
    };
    end(Demo::under_way(&[], base, folder.path()));
    let first = certificates();
    let few = ["demo", "--insecure", "--controllers", "1", "--routers", "1", "--data-dir", data.to_str().unwrap()];
    let refused = cli(&few).unwrap_err();
    assert!(refused.contains("with TLS") && refused.contains("give a new folder"), "{refused}");
    end(Demo::under_way(&[], base, folder.path()));
    assert_eq!(certificates(), first);
}

#[test]
fn a_demo_starts_again_what_was_killed_and_removes_its_temporary_folder_when_it_is_interrupted() {
    let temporary = tempfile::tempdir().unwrap();
    let base = base_port(4_500..7_000).to_string();
    let mut demo = Demo::start(&["--controllers", "1", "--routers", "1", "--base-port", &base], temporary.path());
    demo.await_lines(vec!["router-1 holds list"]);
    let running = pids(&only_folder(temporary.path()));
    assert_eq!(running.len(), 2);
    kill(running[0], Signal::SIGKILL).unwrap();
    demo.await_lines(vec!["ended (signal: 9", "is started again"]);
    wait_for("it runs again", END_DEADLINE, || (pids(&only_folder(temporary.path())).len() == 2).then_some(()));
    let running = pids(&only_folder(temporary.path()));
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.exit_code(), Some(0));
    await_gone(&running);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn children_end_with_a_demo_that_was_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let base = base_port(7_000..9_500).to_string();
    let mut demo = Demo::start(&["--controllers", "1", "--routers", "1", "--base-port", &base], temporary.path());
    demo.await_lines(vec!["router-1 holds list"]);
    let running = pids(&only_folder(temporary.path()));
    assert_eq!(running.len(), 2);
    demo.signal(Signal::SIGKILL);
    assert_eq!(demo.exit_code(), None);
    await_gone(&running);
}

#[test]
fn a_tour_whose_step_does_not_hold_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let (data, base) = (folder.path().join("data"), base_port(9_500..12_000));
    let arguments = ["--tour", "--base-port", &base.to_string(), "--data-dir", data.to_str().unwrap()];
    let mut demo = Demo::start(&arguments, folder.path());
    let router = wait_for("router-2 runs", BEGIN_DEADLINE, || {
        std::fs::read_to_string(data.join("router-2").join("pid")).ok()?.trim().parse().ok()
    });
    // It can do nothing from now on, as if it had been forgotten: the tour has to notice.
    kill(Pid::from_raw(router), Signal::SIGSTOP).unwrap();
    demo.await_lines(vec![" 2/11 "]);
    assert_eq!(demo.exit_code(), Some(1));
    await_gone(&[Pid::from_raw(router)]);
}

#[test]
fn a_tour_and_a_scenario_with_numbers_that_cannot_work_are_wrong_usage() {
    let temporary = tempfile::tempdir().unwrap();
    for arguments in [
        &["--tour", "--controllers", "2"][..],
        &["--tour", "--routers", "0"],
        &["--base-port", "32000"],
        &["--scenario", "incident", "--controllers", "4"],
        &["--scenario", "incident", "--routers", "0"],
        &["--scenario", "incident", "--tour"],
        &["--scenario", "nonsense"],
    ] {
        let mut demo = Demo::start(arguments, temporary.path());
        assert_eq!(demo.exit_code(), Some(2), "{arguments:?}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn the_incident_strands_the_router_without_guards_and_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (data, base) = (folder.path().join("data"), base_port(15_300..15_400));
    let arguments = ["--scenario", "incident", "--base-port", &base.to_string(), "--data-dir", data.to_str().unwrap()];
    let mut demo = Demo::start(&arguments, folder.path());
    demo.await_lines(vec![
        "hears 3 controllers",
        "a newer list with 0 controllers: taken",
        "answered NACK (empty)",
        "refuses to start",
        "starts with list 1.1 from its disk",
        "controller-4 joins",
        "verdict: the router of 1.3.1 is lost",
        "ours kept its list, is served",
    ]);
    assert_eq!(demo.exit_code(), Some(0));
    assert_eq!(std::fs::read(data.join("router-1.3.1").join("controllers")).unwrap(), b"", "what it saved is lost");
    assert!(std::fs::metadata(data.join("router-1").join("data").join("list.current")).unwrap().len() > 0);
    assert_eq!(pids(&data), []);
}

#[test]
fn an_incident_that_goes_otherwise_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let (data, base) = (folder.path().join("data"), base_port(1_100..1_200));
    // The other router was lost before: that is not the story.
    std::fs::create_dir_all(data.join("router-1.3.1")).unwrap();
    std::fs::write(data.join("router-1.3.1").join("controllers"), "").unwrap();
    let arguments = ["--scenario", "incident", "--base-port", &base.to_string(), "--data-dir", data.to_str().unwrap()];
    let mut demo = Demo::start(&arguments, folder.path());
    demo.await_lines(vec!["1/4", "all ended in order"]);
    assert_eq!(demo.exit_code(), Some(1));
    assert_eq!(pids(&data), []);
}

fn only_folder(parent: &Path) -> PathBuf {
    let mut folders = std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.next().unwrap();
    assert!(folders.next().is_none());
    folder
}
