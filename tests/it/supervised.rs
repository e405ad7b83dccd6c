//! Daemons as a service manager runs them: what they tell it, in which order, and what is true when they do.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixDatagram};

use crate::support::fleet::{Ports, Unit};
use crate::support::{SOON, http, ports};

/// Signs of life are wanted this often, in microseconds: quickly enough for a test.
const WATCHDOG_US: u64 = 400_000;
/// What a stop may take.
const STOP_MAX: Duration = Duration::from_secs(8);

/// A service manager, as far as it listens.
struct Manager(UnixDatagram);

impl Manager {
    fn new(folder: &Path) -> (Self, Vec<(&'static str, String)>) {
        let path = folder.join("notify");
        let variables = vec![("NOTIFY_SOCKET", path.display().to_string()), ("WATCHDOG_USEC", WATCHDOG_US.to_string())];
        (Self(UnixDatagram::bind(path).unwrap()), variables)
    }

    async fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let bytes = tokio::time::timeout(SOON, self.0.recv(&mut message)).await.expect("it says something").unwrap();
        String::from_utf8_lossy(&message[..bytes]).lines().map(str::to_owned).collect()
    }

    /// Everything up to the message in which a line begins like this.
    async fn hears(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let listening = async {
            while !heard.iter().any(|heard: &String| heard.starts_with(line)) {
                heard.extend(self.next().await);
            }
        };
        let complete = tokio::time::timeout(SOON, listening).await;
        assert!(complete.is_ok(), "{line} did not come: {heard:?}");
        heard
    }

    /// Everything that was said and not heard yet.
    fn rest(&self) -> Vec<String> {
        let (mut heard, mut message) = (Vec::new(), [0; 4096]);
        while let Ok(bytes) = self.0.try_recv(&mut message) {
            heard.extend(String::from_utf8_lossy(&message[..bytes]).lines().map(str::to_owned));
        }
        heard
    }
}

fn says(heard: &[String], line: &str) -> bool {
    heard.iter().any(|heard| heard == line)
}

/// Member 1 of a cluster of so many; of the others nothing is there.
fn controller(folder: &Path, ports: Ports, of: u64) -> String {
    let Ports { peer, router, admin, http } = ports;
    let others = (2..=of).map(|id| {
        format!(", {{ id = {id}, name = \"controller-{id}\", peer = \"http://127.0.0.1:{}\" }}", ports::free_port())
    });
    format!(
        "name = \"controller-1\"\ndata_dir = \"{}\"\nid = 1\n\
         initial_members = [{{ id = 1, name = \"controller-1\", peer = \"http://127.0.0.1:{peer}\" }}{}]\n\
         [listen]\npeer = \"127.0.0.1:{peer}\"\nrouter = \"127.0.0.1:{router}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         http = \"127.0.0.1:{http}\"\n[tls]\ninsecure = true\n",
        folder.join("data").display(),
        others.collect::<String>(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_says_when_it_serves_how_it_is_that_it_lives_and_that_it_stops() {
    let (folder, listening) = (TempDir::new().unwrap(), Ports::free());
    let (manager, variables) = Manager::new(folder.path());
    let config = controller(folder.path(), listening, 1);
    let mut unit = Unit::start_with(variables, "controller", folder.path(), "controller-1", &config);
    let before = manager.hears("READY=1").await;
    assert!(!says(&before, "WATCHDOG=1"), "{before:?}");
    for port in [listening.peer, listening.router, listening.admin, listening.http] {
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok(), "port {port} is open when it is ready");
    }
    assert_eq!(http::get(listening.http, "/livez").await.unwrap(), (200, "alive\n".into()));
    manager.hears("STATUS=leader, list 1.1, 1 voter, 0 sessions").await;
    for _ in 0..3 {
        manager.hears("WATCHDOG=1").await;
    }
    unit.process().signal(Signal::SIGTERM);
    manager.hears("STOPPING=1").await;
    assert_eq!(unit.ended(STOP_MAX).await.code(), Some(0), "{}", unit.log());
    assert!(!says(&manager.rest(), "READY=1"), "it was ready once");
    assert!(!unit.log().contains("ERROR"), "a stop is no reason for anybody to look: {}", unit.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_without_a_majority_is_ready_all_the_same() {
    let (folder, listening) = (TempDir::new().unwrap(), Ports::free());
    let (manager, variables) = Manager::new(folder.path());
    let config = controller(folder.path(), listening, 3);
    let _unit = Unit::start_with(variables, "controller", folder.path(), "controller-1", &config);
    let heard = manager.hears("READY=1").await;
    assert!(says(&heard, "STATUS=blank: belongs to no cluster yet"), "{heard:?}");
    manager.hears("WATCHDOG=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_cannot_serve_is_never_ready() {
    let (folder, listening) = (TempDir::new().unwrap(), Ports::free());
    let (manager, variables) = Manager::new(folder.path());
    let _taken = TcpListener::bind(("127.0.0.1", listening.http)).await.unwrap();
    let config = controller(folder.path(), listening, 1);
    let mut unit = Unit::start_with(variables.clone(), "controller", folder.path(), "controller-1", &config);
    assert_eq!(unit.ended(SOON).await.code(), Some(1));
    let heard = manager.rest();
    assert!(says(&heard, "STOPPING=1") && !says(&heard, "READY=1"), "{heard:?}");

    let config = format!(
        "id = \"edge-1\"\ndata_dir = \"{}\"\nseeds = [\"http://127.0.0.1:1\"]\nhttp = \"127.0.0.1:{}\"\n\
         [tls]\ninsecure = true\n",
        folder.path().join("router").display(),
        listening.http
    );
    let mut unit = Unit::start_with(variables, "router", folder.path(), "edge-1", &config);
    assert_eq!(unit.ended(SOON).await.code(), Some(1));
    let heard = manager.rest();
    assert!(says(&heard, "STOPPING=1") && !says(&heard, "READY=1"), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_is_ready_without_any_controller_and_its_command_is_not_its_voice() {
    let (folder, listening, port) = (TempDir::new().unwrap(), Ports::free(), ports::free_port());
    let (manager, variables) = Manager::new(folder.path());
    let seen = folder.path().join("environment");
    let config = format!(
        "id = \"edge-1\"\ndata_dir = \"{}\"\nseeds = [\"http://127.0.0.1:{}\"]\nhttp = \"127.0.0.1:{port}\"\n\
         [output]\non_change = \"env > {seen}.new; mv {seen}.new {seen}\"\n[tls]\ninsecure = true\n",
        folder.path().join("router").display(),
        listening.router,
        seen = seen.display(),
    );
    let mut router = Unit::start_with(variables, "router", folder.path(), "edge-1", &config);
    let heard = manager.hears("READY=1").await;
    assert!(says(&heard, "STATUS=no list yet, seeds only, no controller reached"), "{heard:?}");
    assert_eq!(http::get(port, "/livez").await.unwrap(), (200, "alive\n".into()));
    manager.hears("WATCHDOG=1").await;

    let config = controller(folder.path(), listening, 1);
    let _controller = Unit::start("controller", folder.path(), "controller-1", &config);
    manager.hears("STATUS=list 1.1 from controller 1, 1 session").await;
    crate::support::eventually("its command has run", SOON, || async {
        std::fs::read_to_string(&seen).map(|environment| {
            assert!(environment.contains("CONTROLLER_LIST_VERSION=1.1"), "{environment}");
            assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
        })
    })
    .await;
    router.process().signal(Signal::SIGTERM);
    manager.hears("STOPPING=1").await;
    assert_eq!(router.ended(STOP_MAX).await.code(), Some(0), "{}", router.log());
}
