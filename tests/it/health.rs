//! `health`, as a container runtime runs it: a daemon that is ready, one that is not yet, one that is gone, and somebody
//! else's. Certificates of these tests name `localhost`.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::{Answer, pilothouse};
use crate::support::fleet::{Ports, Unit};
use crate::support::pki::Pki;
use crate::support::{SOON, eventually, expect, ports};

/// Longest that `health` may take when nobody answers there.
const DEADLINE: Duration = Duration::from_secs(20);

async fn health(arguments: &[&str]) -> Answer {
    let arguments: Vec<String> = ["health"].iter().chain(arguments).map(ToString::to_string).collect();
    let run = move || pilothouse(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn healthy(arguments: &[&str]) -> Answer {
    eventually("it is ready", SOON, || async {
        let answer = health(arguments).await;
        expect(answer.code == 0, || format!("{}: {}", answer.code, answer.err)).map(|()| answer)
    })
    .await
}

/// A controller that forms a cluster of its own, over TLS.
fn controller(folder: &Path, ports: Ports, tls: &Path) -> Unit {
    let Ports { peer, router, admin, http } = ports;
    let config = format!(
        "name = \"controller-1\"\ndata_dir = \"{}\"\nid = 1\n\
         initial_members = [{{ id = 1, name = \"controller-1\", peer = \"https://127.0.0.1:{peer}\" }}]\n\
         [listen]\npeer = \"127.0.0.1:{peer}\"\nrouter = \"127.0.0.1:{router}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         http = \"0.0.0.0:{http}\"\n[tls]\ndir = \"{}\"\n",
        folder.join("data").display(),
        tls.display()
    );
    Unit::start("controller", folder, "controller-1", &config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_is_verified_by_its_own_files_and_an_imposter_is_not_healthy() {
    let (folder, pki, other, listening) = (TempDir::new().unwrap(), Pki::new(), Pki::new(), Ports::free());
    let tls = pki.directory("controller/1");
    let mut unit = controller(folder.path(), listening, &tls);
    let config = unit.config.display().to_string();
    let ready = healthy(&["--config", &config]).await;
    assert_eq!((ready.out.as_str(), ready.err.as_str()), ("ready\n", ""));

    let url = format!("https://localhost:{}", listening.http);
    let ca = |dir: &Path| dir.join("ca-controllers.pem").display().to_string();
    assert_eq!(health(&["--url", &url, "--ca", &ca(&tls)]).await.code, 0);
    let theirs = other.directory("controller/1");
    let distrusted = health(&["--url", &url, "--ca", &ca(&theirs)]).await;
    assert_eq!(distrusted.code, 1, "{}", distrusted.out);

    // The same port, as a daemon with files of another authority sees it.
    let text = std::fs::read_to_string(&unit.config).unwrap();
    let mistaken = folder.path().join("mistaken.toml");
    std::fs::write(&mistaken, text.replace(tls.to_str().unwrap(), theirs.to_str().unwrap())).unwrap();
    let imposter = health(&["--config", mistaken.to_str().unwrap()]).await;
    assert_eq!((imposter.code, imposter.out.as_str()), (1, ""));
    assert!(imposter.err.contains("does not answer") && imposter.err.contains("\nhint: "), "{}", imposter.err);

    unit.kill().await;
    let gone = health(&["--config", &config]).await;
    assert!(gone.code == 1 && gone.err.contains("refused"), "{}", gone.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_without_a_list_is_not_healthy_and_says_why() {
    let (folder, http, dead) = (TempDir::new().unwrap(), ports::free_port(), ports::free_port());
    let config = format!(
        "id = \"edge-1\"\ndata_dir = \"{}\"\nseeds = [\"http://127.0.0.1:{dead}\"]\nhttp = \"127.0.0.1:{http}\"\n\
         [tls]\ninsecure = true\n",
        folder.path().join("data").display()
    );
    let router = Unit::start("router", folder.path(), "edge-1", &config);
    let config = router.config.display().to_string();
    eventually("it says what is missing", SOON, || async {
        let answer = health(&["--config", &config]).await;
        let right = answer.code == 1 && answer.err.contains("is not ready") && answer.err.contains("[-] list failed");
        expect(right, || answer.err)
    })
    .await;
    let alive = health(&["--config", &config, "--alive"]).await;
    assert_eq!(alive.code, 0, "nothing is stuck, and a restart would bring no list: {}", alive.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_who_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let asked = ["--url", &url, "--timeout", "1"];
    let answer = tokio::time::timeout(DEADLINE, health(&asked)).await.expect("it ends");
    assert!(answer.code == 1 && answer.err.contains("did not answer within 1 s"), "{}", answer.err);
}
