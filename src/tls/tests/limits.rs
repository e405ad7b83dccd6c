//! What is limited, what is never resumed, and what plain text may not do: each guard by what happens without it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::authority::{Trust, issue, wanted};
use crate::domain::endpoint::Endpoint;
use crate::domain::principal::{Principal, RoleKind};
use crate::ops::config::Problems;
use crate::tls::authority::{Issuer, NotGranted, Validity, granted, make_request};
use crate::tls::certificate::{NoIdentity, read_leaf};
use crate::tls::material::{ANCHORS_MAX, FILE_BYTES_MAX};
use crate::tls::{Door, Files, Material, Newcomer, NotTrusted, Security, TlsConfig, TlsFile};

const CONTROLLER: &str = "spiffe://example.org/controller/1";
const ROUTER: &str = "spiffe://example.org/router/edge-7";
/// Of a test that runs once more in a network of its own.
const IN_A_NAMESPACE: &str = "PILOTHOUSE_TEST_IN_A_NAMESPACE";
/// An address of this host that is none of the loopback's.
const NOT_LOOPBACK: &str = "198.51.100.1";

#[test]
fn a_certificate_with_something_behind_it_is_none() {
    let trust = Trust::new();
    let mut der =
        CertificateDer::from_pem_slice(issue(&wanted(ROUTER), &trust.routers).pem.as_bytes()).unwrap().to_vec();
    assert!(read_leaf(&der).is_ok());
    der.push(0);
    assert_eq!(read_leaf(&der), Err(NoIdentity::Unreadable));
}

#[test]
fn a_certificate_that_may_sign_others_is_not_taken_from_an_enrolment() {
    let trust = Trust::new();
    let router: Principal = ROUTER.parse().unwrap();
    let leaf = issue(&super::authority::Wanted { ca: true, ..wanted(ROUTER) }, &trust.routers);
    let request = make_request(&router).unwrap();
    let why = granted(&leaf.pem, &router, &request.request_der).unwrap_err();
    assert!(matches!(why, NotGranted::Issuer | NotGranted::OtherIdentity { .. }), "{why}");
}

#[test]
fn files_and_bundles_of_anchors_have_limits() {
    let trust = Trust::new();
    let own = issue(&wanted(ROUTER), &trust.routers);
    let load = |files| Material::load(&files).map(drop).map_err(|why| why.to_string());
    let padding = "\n".repeat(usize::try_from(FILE_BYTES_MAX).unwrap());
    let why = load(trust.files("large", RoleKind::Router, &format!("{}{padding}", own.pem), &own.key)).unwrap_err();
    assert!(why.contains("the limit is 262144"), "{why}");
    let why = load(trust.files("large", RoleKind::Router, &own.pem, &format!("{}{padding}", own.key))).unwrap_err();
    assert!(why.contains("the limit is 262144"), "{why}");
    trust.write("ca-controllers.pem", &trust.controllers.pem().repeat(ANCHORS_MAX));
    assert_eq!(load(trust.files("many", RoleKind::Router, &own.pem, &own.key)), Ok(()));
    trust.write("ca-controllers.pem", &trust.controllers.pem().repeat(ANCHORS_MAX + 1));
    let why = load(trust.files("many", RoleKind::Router, &own.pem, &own.key)).unwrap_err();
    assert!(why.contains("has 17 certificates, the limit is 16"), "{why}");
}

#[test]
fn a_newcomer_looks_at_so_many_issuers_and_no_more() {
    let trust = Trust::new();
    let known = [Sha256::digest(&trust.controllers.der()[..]).into()];
    let behind = |others: usize| {
        let pem = format!("{}{}", trust.routers.pem().repeat(others), trust.controllers.pem());
        Newcomer::trusting("example.org".parse().unwrap(), &pem, &known).map(drop)
    };
    assert_eq!(behind(ANCHORS_MAX - 1), Ok(()));
    assert_eq!(behind(ANCHORS_MAX), Err(NotTrusted::NoFingerprint { sent: ANCHORS_MAX }));
}

fn material(trust: &Trust, uri: &str, kind: RoleKind) -> Material {
    let by = if kind == RoleKind::Controller { &trust.controllers } else { &trust.routers };
    let issued = issue(&wanted(uri), by);
    Material::load(&trust.files(kind.as_str(), kind, &issued.pem, &issued.key)).unwrap()
}

/// How a second handshake with the same two configurations goes.
async fn second_handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> HandshakeKind {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut kind = None;
    for _ in 0..2 {
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(Arc::clone(&server)).accept(stream).await.unwrap();
            stream.write_all(b"!").await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_u8().await;
        };
        let call = async {
            let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connecting = tokio_rustls::TlsConnector::from(Arc::clone(&client)).connect(name, stream);
            let mut stream = connecting.await.unwrap();
            stream.read_u8().await.unwrap();
            stream.get_ref().1.handshake_kind()
        };
        ((), kind) = tokio::join!(serve, call);
    }
    kind.unwrap()
}

#[tokio::test]
async fn neither_side_alone_resumes_a_session() {
    let trust = Trust::new();
    let (server, client) =
        (material(&trust, CONTROLLER, RoleKind::Controller), material(&trust, ROUTER, RoleKind::Router));
    // A server that would.
    let mut eager = (*server.server(Door::Router)).clone();
    eager.session_storage = ServerSessionMemoryCache::new(8);
    eager.send_tls13_tickets = 2;
    let eager = Arc::new(eager);
    // A client that would.
    let mut keen = (*client.client()).clone();
    keen.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let keen = Arc::new(keen);
    assert_eq!(second_handshake(eager.clone(), keen.clone()).await, HandshakeKind::Resumed, "both would");

    assert_eq!(second_handshake(eager.clone(), client.client()).await, HandshakeKind::Full);
    assert_eq!(second_handshake(eager, Newcomer::credulous().unwrap().0).await, HandshakeKind::Full);
    for door in [Door::Peer, Door::Router, Door::Admin, Door::Http] {
        let config = server.server(door);
        assert_eq!(config.send_tls13_tickets, 0, "{door:?}");
        assert!(!config.session_storage.put(vec![1], vec![1]), "{door:?}");
    }
    assert_eq!(second_handshake(server.server(Door::Router), keen).await, HandshakeKind::Full);
}

/// What is wrong with a `[tls]` table, by its keys.
fn wrong(file: TlsFile) -> Vec<String> {
    let mut problems = Problems::default();
    let meant = file.meant(RoleKind::Router, &mut problems);
    let keys: Vec<_> = problems.into_invalid().problems.into_iter().map(|problem| problem.key).collect();
    assert_eq!(meant.is_none(), !keys.is_empty(), "{keys:?}");
    keys
}

#[test]
fn plain_text_is_asked_for_by_itself_and_for_other_hosts_once_more() {
    let files = || TlsFile { dir: Some("/etc/pilothouse".into()), ..TlsFile::default() };
    assert!(wrong(files()).is_empty() && wrong(TlsFile::plain()).is_empty());
    assert_eq!(wrong(TlsFile { insecure: Some(true), ..files() }), ["tls.insecure"]);
    assert_eq!(wrong(TlsFile { insecure_off_loopback: Some(true), ..files() }), ["tls.insecure_off_loopback"]);
    let alone = TlsFile { insecure_off_loopback: Some(true), ..TlsFile::default() };
    assert_eq!(wrong(alone), ["tls.insecure_off_loopback"]);
}

#[test]
fn an_address_is_written_the_way_it_is_dialled() {
    let plain = TlsConfig::Insecure { off_loopback: true };
    let trust = Trust::new();
    let files = TlsConfig::Files(Box::new(trust.files("a", RoleKind::Router, "", "")));
    for (config, address, fits) in [
        (&plain, "http://10.0.0.1:1", true),
        (&plain, "https://10.0.0.1:1", false),
        (&files, "https://10.0.0.1:1", true),
        (&files, "http://127.0.0.1:1", false),
    ] {
        let mut problems = Problems::default();
        config.check("key", &address.parse().unwrap(), &mut problems);
        assert_eq!(problems.is_empty(), fits, "{address}");
    }
}

/// Runs once more in a network of its own, where this host has an address that is none of the loopback's. Where that is
/// not allowed this test says so and proves nothing, unless `REQUIRE_NAMESPACES` is set, as the gate sets it.
#[tokio::test]
async fn plain_text_leaves_and_enters_this_host_only_where_that_is_asked_for() {
    if std::env::var_os(IN_A_NAMESPACE).is_some() {
        return plain_text_off_loopback().await;
    }
    let network = format!("ip link set lo up && ip address add {NOT_LOOPBACK}/32 dev lo && exec \"$@\"");
    let under = |command: &mut std::process::Command| {
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", &network, "sh"]);
    };
    let mut tried = std::process::Command::new("unshare");
    under(&mut tried);
    if !tried.arg("true").output().is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("REQUIRE_NAMESPACES").is_none(), "namespaces are required here");
        println!("no network can be made here: nothing was proved");
        return;
    }
    let mut again = std::process::Command::new("unshare");
    under(&mut again);
    again.arg(std::env::current_exe().unwrap()).env(IN_A_NAMESPACE, "1");
    let name = "tls::tests::limits::plain_text_leaves_and_enters_this_host_only_where_that_is_asked_for";
    let ended = again.args(["--exact", name]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

async fn plain_text_off_loopback() {
    let listener = TcpListener::bind((NOT_LOOPBACK, 0)).await.unwrap();
    let to: Endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let here = Security::default();
    let anywhere = Security::Plain { off_loopback: true };
    let (refused, taken) = tokio::join!(here.dial(&to), listener.accept());
    assert!(refused.unwrap_err().to_string().contains("plain text to another host is refused"));
    drop(taken);
    for (server, let_in) in [(&here, false), (&anywhere, true)] {
        let (dialed, taken) = tokio::join!(anywhere.dial(&to), listener.accept());
        assert!(dialed.is_ok());
        assert_eq!(server.accept(Door::Router, taken.unwrap().0).await.is_ok(), let_in);
    }
}

#[test]
fn a_routers_issuer_whose_certificates_would_be_refused_is_not_taken() {
    let trust = Trust::new();
    let own = issue(&wanted("spiffe://example.org/controller/1"), &trust.controllers);
    let valid = Validity::starting(SystemTime::now(), Duration::from_secs(60));
    let made = |domain: &str, kind| Issuer::create(&domain.parse().unwrap(), kind, valid).unwrap();
    let load = |issuer: &Issuer, trusted: &str| {
        trust.write("issuer.pem", &issuer.certificate_pem());
        trust.write("issuer-key.pem", issuer.key_pem().pem());
        trust.write("ca-routers.pem", trusted);
        let router_issuer = Some((trust.path("issuer.pem"), trust.path("issuer-key.pem")));
        let files = Files { router_issuer, ..trust.files("a", RoleKind::Controller, &own.pem, &own.key) };
        Material::load(&files)
    };
    let right = made("example.org", RoleKind::Router);
    let material = load(&right, &right.certificate_pem()).unwrap();
    let names: Vec<_> = material.ends().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["certificate", "ca-controllers", "ca-routers", "ca-admins", "router-issuer"]);

    let why = load(&right, &trust.routers.pem()).unwrap_err().to_string();
    assert!(why.contains("issuer.pem is not among ca_routers"), "{why}");
    for wrong in [made("example.net", RoleKind::Router), made("example.org", RoleKind::Admin)] {
        let why = load(&wrong, &wrong.certificate_pem()).unwrap_err().to_string();
        assert!(why.contains("the issuer of routers of example.org is needed"), "{why}");
    }
}
