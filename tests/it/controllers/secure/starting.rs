//! Starts under an id that the certificate does not have: refused, before anything is said or written.

use std::fs;

use pilothouse::router::config::RouterFile;
use pilothouse::router::{Agent, Parts};
use pilothouse::tls::TlsFile;
use tempfile::TempDir;

use super::super::cluster::eventually;
use crate::support::pki::Pki;
use crate::support::ports::free_port;
use crate::support::process::Process;

#[tokio::test]
async fn a_router_does_not_start_with_the_certificate_of_another_one() {
    let (pki, folder) = (Pki::new(), TempDir::new().unwrap());
    let start = async |id: &str| {
        let tls = TlsFile { dir: Some(pki.directory("router/edge-1")), ..TlsFile::default() };
        let data_dir = Some(folder.path().join(id));
        let seeds = vec![format!("https://127.0.0.1:{}", free_port())];
        let file = RouterFile { id: Some(id.into()), data_dir, seeds, tls, ..RouterFile::default() };
        Agent::start(file.validate().unwrap(), Parts::default()).await
    };
    let refused = start("edge-2").await.unwrap_err().to_string();
    assert!(refused.contains("this is router edge-2") && refused.contains("give it the certificate"), "{refused}");
    assert!(!folder.path().join("edge-2").exists());
    start("edge-1").await.unwrap().stop().await;
}

#[tokio::test]
async fn a_founder_does_not_start_with_the_certificate_of_another_controller() {
    let (pki, folder) = (Pki::new(), TempDir::new().unwrap());
    let [peer, router, admin, http] = [(); 4].map(|()| format!("127.0.0.1:{}", free_port()));
    let at = |name: &str| folder.path().join(name);
    let (data, tls) = (at("data"), pki.directory("controller/2"));
    let config = format!(
        "name = \"controller-1\"\nid = 1\ndata_dir = {data:?}\n\
         initial_members = [{{ id = 1, name = \"controller-1\", peer = \"https://{peer}\" }}]\n\
         [listen]\npeer = \"{peer}\"\nrouter = \"{router}\"\nadmin = \"{admin}\"\nhttp = \"{http}\"\n[tls]\ndir = {tls:?}\n"
    );
    fs::write(at("controller.toml"), config).unwrap();
    let _process = Process::run("controller", &at("controller.toml"), &at("log"));
    eventually("the start is refused by name", async || {
        fs::read_to_string(at("log")).ok()?.contains("give it the certificate").then_some(())
    })
    .await;
    assert!(!data.exists());
}
