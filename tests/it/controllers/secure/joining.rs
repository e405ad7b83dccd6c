//! `controller join`, the built binary: from a key that never leaves its host to a member of a cluster that speaks TLS.

use std::fs;
use std::path::{Path, PathBuf};

use pilothouse::proto::admin::change_request::Change;
use pilothouse::proto::admin::{AddMember, ChangeProgress, ChangeRequest};
use pilothouse::rpc::client::ClientError;
use tempfile::TempDir;

use super::super::cluster::{Cluster, eventually};
use crate::cli::{Answer, pilothouse};
use crate::support::pki::TRUST_DOMAIN;
use crate::support::ports::free_port;
use crate::support::process::Process;

/// A host that is to become a controller.
struct Host {
    folder: TempDir,
    ports: [String; 4],
}

impl Host {
    fn new() -> Self {
        let port = |_| format!("127.0.0.1:{}", free_port());
        Self { folder: TempDir::new().unwrap(), ports: [(); 4].map(port) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn join(&self, id: &str) -> Answer {
        let [peer, router, admin, http] = self.ports.each_ref().map(String::as_str);
        let path = |name: &str| self.at(name).display().to_string();
        let (data, tls, name) = (path("data"), path("tls"), format!("controller-{}", self.ports[0].replace(':', "-")));
        let known =
            ["--id", id, "--name", &name, "--trust-domain", TRUST_DOMAIN, "--data-dir", &data, "--tls-dir", &tls];
        let listen = ["--peer", peer, "--router", router, "--admin", admin, "--http", http];
        pilothouse(&[&["controller", "join"][..], &known, &listen].concat())
    }

    /// `pki issue` for the request that lies here.
    fn issue(&self, authority: &Path, id: &str) -> Answer {
        let [dir, csr, out] = [authority.to_owned(), self.at("tls/request.pem"), self.at("issued")];
        let [dir, csr, out] = [dir, csr, out].map(|path| path.display().to_string());
        pilothouse(&["pki", "issue", "--dir", &dir, "controller", id, "--csr", &csr, "--out", &out])
    }

    /// Copies what was issued, and runs it.
    fn start(&self) -> Process {
        for entry in fs::read_dir(self.at("issued")).unwrap().map(|entry| entry.unwrap()) {
            fs::copy(entry.path(), self.at("tls").join(entry.file_name())).unwrap();
        }
        Process::run("controller", &self.at("controller.toml"), &self.at("log"))
    }

    fn add(&self) -> Change {
        Change::Add(AddMember { peer: format!("https://{}", self.ports[0]) })
    }
}

async fn change(cluster: &Cluster, change: Change) -> Result<ChangeProgress, ClientError> {
    let request = ChangeRequest { change: Some(change), wait: false };
    let mut progress = cluster.admin_of(0).await.change(request).await?;
    let mut last = ChangeProgress::default();
    while let Some(next) = progress.next().await? {
        last = next;
    }
    Ok(last)
}

/// Adds a controller as soon as it listens; what comes of it.
async fn added(cluster: &Cluster, host: &Host) -> Result<u64, (String, String)> {
    eventually("the new controller listens", async || match change(cluster, host.add()).await {
        Ok(done) => Some(Ok(done.member)),
        Err(ClientError::Refused { reason, .. }) if reason == "not_addable" => None,
        Err(ClientError::Refused { reason, message, .. }) => Some(Err((reason, message))),
        Err(other) => panic!("{other}"),
    })
    .await
}

async fn next_id(cluster: &Cluster) -> u64 {
    cluster.admin_of(0).await.status().await.unwrap().next_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_joins_under_the_id_of_its_certificate_and_nobody_gets_an_id_again() {
    let cluster = Cluster::secure(1).await;
    let authority = cluster.pki.as_ref().unwrap().authority();
    assert_eq!(next_id(&cluster).await, 2);
    let host = Host::new();
    let answer = host.join("2");
    assert_eq!(answer.code, 0, "{}", answer.err);
    for step in [
        "pilothouse pki issue --dir CA controller 2 --csr request.pem",
        "certificate.pem ca-controllers.pem ca-routers.pem ca-admins.pem",
        "pilothouse controller run --config",
        &format!("pilothouse cluster add --peer https://{}", host.ports[0]),
    ] {
        assert!(answer.out.contains(step), "{step}: {}", answer.out);
    }
    let again = host.join("2");
    assert_eq!(again.code, 1);
    assert!(again.err.contains("controller.toml is there already"), "{}", again.err);
    let wrong = host.issue(&authority, "3");
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("asks for \"spiffe://test.example/controller/2\""), "{}", wrong.err);
    let issued = host.issue(&authority, "2");
    assert_eq!(issued.code, 0, "{}", issued.err);
    let _running = host.start();
    assert_eq!(added(&cluster, &host).await, Ok(2));
    assert_eq!(next_id(&cluster).await, 3);
    assert_eq!(change(&cluster, Change::Remove(2)).await.unwrap().member, 2);
    assert_eq!(next_id(&cluster).await, 3);

    let reused = Host::new();
    assert_eq!((reused.join("2").code, reused.issue(&authority, "2").code), (0, 0));
    let _running = reused.start();
    let (reason, message) = added(&cluster, &reused).await.unwrap_err();
    assert_eq!(reason, "id_used");
    assert!(message.contains("controller id 2 was used before") && message.contains("next free id"), "{message}");
    // With a certificate there is nothing to prepare any more.
    fs::remove_file(reused.at("controller.toml")).unwrap();
    let complete = reused.join("2");
    assert_eq!(complete.code, 1);
    assert!(complete.err.contains("certificate.pem is there already"), "{}", complete.err);
}
