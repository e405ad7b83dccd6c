//! `pilothouse conformance router`: our own router passes every case, one that believes everything does not.

mod failing;
mod wrong;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::proto::router::{
    Ack, ControllerList, FlatList, HeldVersion, Hello, ListUpdate, Nack, RouterHeartbeat, RouterMessage, WatchRequest,
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::support::pki::Pki;
use crate::support::{POLL, ports};

/// A run that takes longer hangs.
const RUN_MAX: Duration = Duration::from_secs(150);
/// How often the router that believes everything sends a heartbeat.
const BEAT: Duration = Duration::from_millis(100);

/// Our own router as a process that a script starts and restarts; ended with this value.
struct Routed {
    folder: TempDir,
    script: PathBuf,
}

impl Routed {
    fn start(port: u16, scheme: &str, tls: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        let config = format!(
            "id = \"edge-1\"\ndata_dir = \"{at}/data\"\nseeds = [\"{scheme}://127.0.0.1:{port}\"]\nsessions = 4\n[tls]\n{tls}\n"
        );
        std::fs::write(folder.path().join("router.toml"), config).unwrap();
        let script = folder.path().join("restart.sh");
        let binary = env!("CARGO_BIN_EXE_pilothouse");
        let lines = format!(
            "if [ -f {at}/pid ]; then kill -9 \"$(cat {at}/pid)\"; fi\n{binary} router run --config {at}/router.toml </dev/null >/dev/null 2>>{at}/log &\necho $! >{at}/pid\n"
        );
        std::fs::write(&script, lines).unwrap();
        assert!(Command::new("sh").arg(&script).stdin(Stdio::null()).status().unwrap().success());
        Self { folder, script }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            // Fails only for one that has ended, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Exit code, stdout and stderr of a run.
async fn run(port: u16, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pilothouse"));
    let listen = format!("127.0.0.1:{port}");
    command.args(["conformance", "router", "--listen", &listen]).args(arguments).kill_on_drop(true);
    let output = timeout(RUN_MAX, command.stdin(Stdio::null()).output()).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn our_own_router_passes_every_case() {
    let port = ports::free_port();
    let router = Routed::start(port, "http", "insecure = true");
    let restart = format!("sh {}", router.script.display());
    let (code, out, err) = run(port, &["--insecure", "--case", "all", "--restart-command", &restart]).await;
    assert_eq!(code, 0, "{out}\n{err}\n{}", router.log());
    assert!(out.contains("17 pass, 0 fail, 0 skipped, 0 not applicable"), "{out}\n{err}");
}

#[tokio::test]
async fn our_own_router_passes_over_tls_and_what_needs_a_restart_is_skipped() {
    let (port, pki) = (ports::free_port(), Pki::new());
    let dir = pki.directory("controller/7").display().to_string();
    let router = Routed::start(port, "https", &format!("dir = {:?}", pki.directory("router/edge-1")));
    let cases = ["--case", "empty-list", "--case", "older-after-restart", "--case", "dead-controllers"];
    let (code, out, err) = run(port, &[&["--tls-dir", &dir][..], &cases].concat()).await;
    assert_eq!(code, 0, "{out}\n{err}\n{}", router.log());
    assert!(out.contains("3 pass, 0 fail, 1 skipped, 0 not applicable"), "{out}");
    assert!(out.contains("give --restart-command"), "{out}");
}

#[tokio::test]
async fn a_router_that_believes_everything_fails_and_the_files_say_where() {
    let (port, folder) = (ports::free_port(), tempfile::tempdir().unwrap());
    let credulous = tokio::spawn(believe_everything(format!("http://127.0.0.1:{port}")));
    let file = folder.path().join("junit.xml");
    let cases = ["--case", "empty-list", "--case", "older-version", "--timeout", "10"];
    let written = ["--insecure", "--report", "junit", "--out", path(&file)];
    let (code, out, err) = run(port, &[&cases[..], &written].concat()).await;
    credulous.abort();
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("1 pass, 2 fail, 0 skipped"), "{out}");
    let xml = std::fs::read_to_string(file).unwrap();
    assert!(xml.contains("tests=\"3\" failures=\"2\""), "{xml}");
    for case in ["empty-list", "older-version"] {
        let line = xml.lines().find(|line| line.contains(&format!("name=\"{case}\""))).unwrap_or_default();
        assert!(line.contains("<failure message=\""), "{xml}");
    }
}

/// What a router of protocol 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    /// It holds a session, and refuses what it cannot use.
    Session,
    /// It watches, and passes over what it cannot use.
    Watch,
    /// It watches, and goes where an empty list says: nowhere.
    Stranded,
}

#[tokio::test]
async fn routers_of_protocol_1_are_judged_where_a_case_makes_sense() {
    let cases = ["empty-list", "older-version", "truncated", "endless-updates", "dead-controllers"];
    let cases: Vec<_> = cases.iter().flat_map(|case| ["--case", case]).collect();
    for (kind, speaks) in [(Old::Session, "protocol 1\n"), (Old::Watch, "protocol 1, by Watch\n")] {
        let port = ports::free_port();
        let router = tokio::spawn(old(format!("http://127.0.0.1:{port}"), kind));
        let (code, out, err) = run(port, &[&["--insecure"][..], &cases].concat()).await;
        router.abort();
        assert_eq!(code, 0, "{kind:?}: {out}\n{err}");
        assert!(out.contains("5 pass, 0 fail, 0 skipped, 1 not applicable") && out.contains(speaks), "{out}");
    }
    let port = ports::free_port();
    let router = tokio::spawn(old(format!("http://127.0.0.1:{port}"), Old::Stranded));
    let (code, out, _) = run(port, &["--insecure", "--case", "empty-list", "--timeout", "3"]).await;
    router.abort();
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("it did not come back within 3 s"), "{out}");
}

#[tokio::test]
async fn wrong_usage_is_2_and_a_router_that_does_not_come_is_1() {
    let port = ports::free_port();
    for arguments in [&["--insecure", "--case", "nonsense"][..], &[], &["--insecure", "--tls-dir", "x"]] {
        assert_eq!(run(port, arguments).await.0, 2, "{arguments:?}");
    }
    let (code, _, err) = run(port, &["--insecure", "--appear", "1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("as its only seed"), "{err}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A router with the guards of the incident: none. It holds whatever came last, and says so.
async fn believe_everything(controller: String) {
    let (mut held, mut again) = (None, interval(POLL));
    loop {
        again.tick().await;
        if let Ok(client) = RouterControlClient::connect(controller.clone()).await {
            believe(client, &mut held).await;
        }
    }
}

async fn believe(mut client: RouterControlClient<tonic::transport::Channel>, held: &mut Option<HeldVersion>) {
    let (outgoing, messages) = mpsc::channel(64);
    let say = |kind| outgoing.try_send(RouterMessage { kind: Some(kind) }).is_ok();
    let hello = Hello {
        router_id: "credulous".into(),
        protocol_min: 1,
        protocol_max: 2,
        held: held.clone(),
        ..Hello::default()
    };
    assert!(say(FromRouter::Hello(hello)));
    let Ok(incoming) = client.session(ReceiverStream::new(messages)).await else { return };
    let (mut incoming, mut beat) = (incoming.into_inner(), interval(BEAT));
    loop {
        let said = tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => match message.kind {
                    Some(Kind::Update(update)) => say(FromRouter::Ack(believed(update, held))),
                    _ => true,
                },
                _ => return,
            },
            _ = beat.tick() => {
                say(FromRouter::Heartbeat(RouterHeartbeat { held: held.clone(), ..RouterHeartbeat::default() }))
            }
        };
        if !said {
            return;
        }
    }
}

fn believed(update: ListUpdate, held: &mut Option<HeldVersion>) -> Ack {
    let list = ControllerList::decode(update.list).unwrap_or_default();
    let (version, digest) = (list.version, update.digest);
    *held = Some(HeldVersion { cluster_id: list.cluster_id, version, digest: digest.clone() });
    Ack { nonce: update.nonce, version, digest }
}

/// A router of protocol 1, until an empty list strands it.
async fn old(controller: String, kind: Old) {
    let mut again = interval(POLL);
    loop {
        again.tick().await;
        let Ok(mut client) = RouterControlClient::connect(controller.clone()).await else { continue };
        if kind == Old::Session {
            follow(client).await;
            continue;
        }
        let request = WatchRequest { router_id: "old".into(), ..WatchRequest::default() };
        let Ok(lists) = client.watch(request).await else { continue };
        let mut lists = lists.into_inner();
        while let Ok(Some(update)) = lists.message().await {
            if kind == Old::Stranded && !is_usable(update) {
                return;
            }
        }
    }
}

/// Answers what comes in a session of protocol 1.
async fn follow(mut client: RouterControlClient<tonic::transport::Channel>) {
    let (outgoing, messages) = mpsc::channel(512);
    let say = |kind| outgoing.try_send(RouterMessage { kind: Some(kind) }).is_ok();
    assert!(say(FromRouter::Hello(Hello { router_id: "old".into(), ..Hello::default() })));
    let Ok(incoming) = client.session(ReceiverStream::new(messages)).await else { return };
    let mut incoming = incoming.into_inner();
    while let Ok(Some(message)) = incoming.message().await {
        let Some(Kind::Update(update)) = message.kind else { continue };
        let nonce = update.nonce;
        let answer = if is_usable(update) {
            FromRouter::Ack(Ack { nonce, ..Ack::default() })
        } else {
            FromRouter::Nack(Nack { nonce, reason: "unusable".into(), ..Nack::default() })
        };
        if !say(answer) {
            return;
        }
    }
}

fn is_usable(update: ListUpdate) -> bool {
    FlatList::decode(update.list).is_ok_and(|list| !list.addresses.is_empty())
}
