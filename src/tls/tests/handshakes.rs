//! Handshakes in both directions.

use std::sync::Arc;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::authority::{Authority, Issued, Trust, Wanted, authority, intermediate, issue, wanted};
use crate::domain::access::Caller;
use crate::domain::endpoint::Endpoint;
use crate::domain::principal::RoleKind;
use crate::tls::{Door, Files, Material, MaterialError, Newcomer, NotTrusted, Security, Store, web};

const CONTROLLER: &str = "spiffe://example.org/controller/1";
const ROUTER: &str = "spiffe://example.org/router/edge-7";
const ADMIN: &str = "spiffe://example.org/admin/alice";

/// What each side made of the other: the server of its caller, the client of what it dialled.
struct Met {
    caller: Result<Caller, String>,
    answered: Result<String, String>,
}

/// Dials a door for real, and sends one byte each way: in TLS 1.3 a client learns only then that it was refused.
async fn meet(server: &Security, door: Door, client: &Security) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = client.scheme().as_str();
    let to: Endpoint = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, caller) = server.accept(door, stream).await.map_err(|error| error.to_string())?;
        stream.write_all(b"!").await.map_err(|error| error.to_string())?;
        let _ = stream.read_u8().await;
        Ok(caller)
    };
    let call = async {
        let mut dialed = client.dial(&to).await.map_err(|error| error.to_string())?;
        dialed.stream.write_all(b"!").await.map_err(|error| error.to_string())?;
        dialed.stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(dialed.principal.map_or_else(String::new, |principal| principal.to_string()))
    };
    let both = async { tokio::join!(serve, call) };
    let (caller, answered) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    Met { caller, answered }
}

fn opened(files: Files) -> Security {
    Security::Tls(Store::open(files).unwrap())
}

fn side(trust: &Trust, name: &str, wanted: &Wanted, by: &Authority) -> Security {
    let Issued { pem, key } = issue(wanted, by);
    let kind = wanted.uris[0].split('/').nth(3).unwrap().parse().unwrap();
    opened(trust.files(name, kind, &pem, &key))
}

fn controller(trust: &Trust) -> Security {
    side(trust, "controller", &wanted(CONTROLLER), &trust.controllers)
}

#[tokio::test]
async fn everybody_is_who_his_leaf_says() {
    let trust = Trust::new();
    let server = controller(&trust);
    for (door, uri, issuer) in [
        (Door::Peer, CONTROLLER, &trust.controllers),
        (Door::Router, ROUTER, &trust.routers),
        (Door::Admin, ADMIN, &trust.admins),
        (Door::Admin, CONTROLLER, &trust.controllers),
        (Door::Http, ADMIN, &trust.admins),
    ] {
        let client = side(&trust, "client", &wanted(uri), issuer);
        let met = meet(&server, door, &client).await;
        // The gRPC client offers h2, which the HTTP door does not speak: the handshake says so.
        if door == Door::Http {
            assert!(met.caller.is_err(), "{uri}");
            continue;
        }
        assert_eq!(met.caller, Ok(Caller::Verified(uri.parse().unwrap())));
        assert_eq!(met.answered, Ok(CONTROLLER.to_owned()));
    }
}

/// A client of these makes, refused with these words.
async fn refused(trust: &Trust, client: &Security, words: &str) {
    let met = meet(&controller(trust), Door::Router, client).await;
    let why = met.caller.unwrap_err();
    assert!(why.contains(words), "{why:?} lacks {words:?}");
    assert!(met.answered.is_err(), "the client noticed nothing");
}

#[tokio::test]
async fn a_client_whose_leaf_is_wrong_in_one_way_is_refused() {
    let trust = Trust::new();
    let by = &trust.routers;
    let make = |change: fn(&mut Wanted)| {
        let mut wanted = wanted(ROUTER);
        change(&mut wanted);
        let Issued { pem, key } = issue(&wanted, by);
        forced(&trust, &pem, &key)
    };
    refused(&trust, &make(|leaf| leaf.ca = true), "is a CA certificate").await;
    refused(&trust, &make(|leaf| leaf.uris.push(ADMIN.into())), "has 2 URI names").await;
    refused(&trust, &make(|leaf| leaf.uris.clear()), "has 0 URI names").await;
    refused(&trust, &make(|leaf| leaf.uris = vec!["https://example.org/router/x".into()]), "not of the form").await;
    refused(&trust, &make(|leaf| (leaf.from_days, leaf.until_days) = (-2, -1)), "expired").await;
    refused(&trust, &make(|leaf| (leaf.from_days, leaf.until_days) = (1, 2)), "not valid yet").await;
    let other = |leaf: &mut Wanted| leaf.uris = vec!["spiffe://example.net/router/edge-7".into()];
    refused(&trust, &make(other), "the trust domain here is example.org").await;
    let server_only = |leaf: &mut Wanted| leaf.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    refused(&trust, &make(server_only), "extended key usage").await;
}

/// A client that presents a chain which the product's own loader would refuse: only the other side may stop it.
fn forced(trust: &Trust, chain: &str, key: &str) -> Security {
    let good = issue(&wanted(ROUTER), &trust.routers);
    let store = Store::open(trust.files("forced", RoleKind::Router, &good.pem, &good.key)).unwrap();
    store.present(chain, key);
    Security::Tls(store)
}

#[tokio::test]
async fn a_chain_that_verifies_somewhere_does_not_carry_its_leaf() {
    let trust = Trust::new();
    let (foreign, ours) = (authority("foreign"), intermediate("ours", &trust.routers));
    let leaf = issue(&wanted(ROUTER), &foreign);
    let padded = issue(&wanted(ROUTER), &trust.routers);
    // A valid foreign chain, padded with ours.
    let chain = format!("{}{}{}{}", leaf.pem, foreign.pem(), ours.pem(), trust.routers.pem());
    refused(&trust, &forced(&trust, &chain, &leaf.key), "UnknownIssuer").await;
    // A leaf of ours somewhere in the chain, whose key is not at hand.
    let chain = format!("{}{}", leaf.pem, padded.pem);
    refused(&trust, &forced(&trust, &chain, &leaf.key), "UnknownIssuer").await;
    // A leaf that signs another leaf.
    let signer = intermediate("leaf", &trust.routers);
    let below = issue(&wanted(ROUTER), &signer);
    let mut not_ca = wanted("spiffe://example.org/router/signer");
    not_ca.uris.truncate(1);
    let middle = issue(&not_ca, &trust.routers);
    let chain = format!("{}{}", below.pem, middle.pem);
    refused(&trust, &forced(&trust, &chain, &below.key), "UnknownIssuer").await;
    // More than anybody needs.
    let chain = format!("{}{}", padded.pem, ours.pem().repeat(5));
    refused(&trust, &forced(&trust, &chain, &padded.key), "comes with 5 others").await;
}

#[tokio::test]
async fn an_intermediate_of_the_right_issuer_carries_its_leaf() {
    let trust = Trust::new();
    let middle = intermediate("middle", &trust.routers);
    let leaf = issue(&wanted(ROUTER), &middle);
    let client = opened(trust.files("client", RoleKind::Router, &format!("{}{}", leaf.pem, middle.pem()), &leaf.key));
    assert!(meet(&controller(&trust), Door::Router, &client).await.caller.is_ok());
}

#[tokio::test]
async fn the_issuer_of_one_role_makes_no_other() {
    let trust = Trust::new();
    for (uri, issuer) in [(CONTROLLER, &trust.routers), (ADMIN, &trust.routers), (ROUTER, &trust.admins)] {
        let Issued { pem, key } = issue(&wanted(uri), issuer);
        refused(&trust, &forced(&trust, &pem, &key), "UnknownIssuer").await;
    }
    // Nor a server that routers believe.
    let Issued { pem, key } = issue(&wanted(CONTROLLER), &trust.routers);
    let server = opened(trust.files("server", RoleKind::Controller, &pem, &key));
    let client = side(&trust, "client", &wanted(ROUTER), &trust.routers);
    assert!(meet(&server, Door::Router, &client).await.answered.unwrap_err().contains("UnknownIssuer"));
}

#[tokio::test]
async fn a_server_that_is_no_controller_of_ours_is_refused_by_its_client() {
    let trust = Trust::new();
    let client = side(&trust, "client", &wanted(ROUTER), &trust.routers);
    let answered = async |wanted: &Wanted, by: &Authority| {
        let Issued { pem, key } = issue(wanted, by);
        let good = issue(&self::wanted(CONTROLLER), &trust.controllers);
        let store = Store::open(trust.files("server", RoleKind::Controller, &good.pem, &good.key)).unwrap();
        store.present(&pem, &key);
        meet(&Security::Tls(store), Door::Router, &client).await.answered.unwrap_err()
    };
    let words = answered(&wanted(ROUTER), &trust.routers).await;
    assert!(words.contains("one of the role controller is needed"), "{words}");
    let words = answered(&wanted(ROUTER), &trust.controllers).await;
    assert!(words.contains("one of the role controller is needed"), "{words}");
    let words = answered(&wanted("spiffe://example.net/controller/1"), &trust.controllers).await;
    assert!(words.contains("the trust domain here"), "{words}");
    let words = answered(&wanted(CONTROLLER), &authority("foreign")).await;
    assert!(words.contains("UnknownIssuer"), "{words}");
    let words = answered(&Wanted { from_days: -2, until_days: -1, ..wanted(CONTROLLER) }, &trust.controllers).await;
    assert!(words.contains("expired"), "{words}");
    let client_only = Wanted { usages: vec![ExtendedKeyUsagePurpose::ClientAuth], ..wanted(CONTROLLER) };
    assert!(answered(&client_only, &trust.controllers).await.contains("extended key usage"));
}

#[tokio::test]
async fn no_session_can_be_resumed_since_nobody_would_be_verified_again() {
    let trust = Trust::new();
    let server = controller(&trust);
    let client = side(&trust, "client", &wanted(ROUTER), &trust.routers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: Endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serve = async {
        let (mut stream, _) = server.accept(Door::Router, listener.accept().await.unwrap().0).await.unwrap();
        stream.write_all(b"!").await.unwrap();
    };
    let (dialed, ()) = tokio::join!(client.dial(&to), serve);
    let mut dialed = dialed.unwrap();
    dialed.stream.read_u8().await.unwrap();
    let crate::tls::Stream::Tls(stream) = dialed.stream else { panic!("it is encrypted") };
    let tokio_rustls::TlsStream::Client(stream) = *stream else { panic!("it dialled") };
    assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn doors_differ_in_whom_they_let_in() {
    let trust = Trust::new();
    let server = controller(&trust);
    let router = side(&trust, "router", &wanted(ROUTER), &trust.routers);
    let met = meet(&server, Door::Peer, &router).await;
    assert!(met.caller.unwrap_err().contains("one of the role controller is needed"));

    let nobody = newcomer(&trust, &[fingerprint(&trust.controllers.der()[..])]).unwrap();
    assert_eq!(meet(&server, Door::Router, &nobody).await.caller, Ok(Caller::Anonymous));
    for door in [Door::Peer, Door::Admin] {
        let met = meet(&server, door, &nobody).await;
        assert!(met.caller.unwrap_err().contains("peer sent no certificates") && met.answered.is_err(), "{door:?}");
    }
}

fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

fn newcomer(trust: &Trust, fingerprints: &[[u8; 32]]) -> Result<Security, NotTrusted> {
    let pem = format!("{}{}", trust.routers.pem(), trust.controllers.pem());
    let (newcomer, issuers) = Newcomer::trusting("example.org".parse().unwrap(), &pem, fingerprints)?;
    assert_eq!(issuers.matches("BEGIN CERTIFICATE").count(), fingerprints.len());
    Ok(Security::Newcomer(newcomer))
}

#[tokio::test]
async fn a_newcomer_trusts_only_what_has_the_tokens_fingerprint() {
    let trust = Trust::new();
    let server = controller(&trust);
    assert_eq!(newcomer(&trust, &[[7; 32]]).unwrap_err(), NotTrusted::NoFingerprint { sent: 2 });
    let right = newcomer(&trust, &[fingerprint(&trust.controllers.der()[..])]).unwrap();
    assert_eq!(meet(&server, Door::Router, &right).await.answered, Ok(CONTROLLER.to_owned()));
    // An issuer that the other side added to the bundle gains nothing.
    let other = newcomer(&trust, &[fingerprint(&trust.routers.der()[..])]).unwrap();
    assert!(meet(&server, Door::Router, &other).await.answered.unwrap_err().contains("UnknownIssuer"));
    let credulous = Security::Newcomer(Newcomer::credulous().unwrap());
    assert!(meet(&server, Door::Router, &credulous).await.answered.is_ok());
}

/// What a scraper does: it knows a CA and a host name, and speaks HTTP/1.1.
async fn scrape(server: &Security, trust: &Trust, name: &str, own: Option<&Issued>) -> Result<Caller, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trust.controllers.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some(Issued { pem, key }) => {
            let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap();
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let (called, accepted) =
        tokio::join!(connector.connect(name, stream), server.accept(Door::Http, listener.accept().await.unwrap().0));
    called.map_err(|error| error.to_string())?;
    accepted.map(|(_, caller)| caller).map_err(|error| error.to_string())
}

#[tokio::test]
async fn probes_verify_the_host_name_and_need_no_certificate() {
    let trust = Trust::new();
    let named = Wanted { dns: vec!["localhost".into()], ..wanted(CONTROLLER) };
    let server = side(&trust, "controller", &named, &trust.controllers);
    assert_eq!(scrape(&server, &trust, "localhost", None).await, Ok(Caller::Anonymous));
    assert!(scrape(&server, &trust, "elsewhere", None).await.is_err());
    let admin = issue(&wanted(ADMIN), &trust.admins);
    let known = scrape(&server, &trust, "localhost", Some(&admin)).await;
    assert_eq!(known, Ok(Caller::Verified(ADMIN.parse().unwrap())));
    let router = issue(&wanted(ROUTER), &trust.routers);
    let refused = scrape(&server, &trust, "localhost", Some(&router)).await.unwrap_err();
    assert!(refused.contains("one of the role admin is needed"), "{refused}");
}

#[tokio::test]
async fn where_alarms_go_is_verified_by_its_name_and_by_the_issuers_of_a_file_alone() {
    let trust = Trust::new();
    let named = Wanted { dns: vec!["localhost".into()], ..wanted(CONTROLLER) };
    let server = side(&trust, "controller", &named, &trust.controllers);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let right = file("right.pem", &trust.controllers.pem());
    let wrong = file("wrong.pem", &trust.routers.pem());
    let none = file("none.pem", "nothing");
    let reach = async |host: &str, ca: Option<std::path::PathBuf>| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("https://{host}:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok((mut stream, _)) = server.accept(Door::Http, stream).await {
                let _ = stream.write_all(b"!").await;
                let _ = stream.read_u8().await;
            }
        };
        let call = async {
            let mut stream = web::dial(&to, ca).await.map_err(|error| error.to_string())?;
            stream.read_u8().await.map_err(|error| error.to_string())
        };
        tokio::select! {
            answered = call => answered,
            // Whoever refuses ends first, and says why a moment later.
            () = async { serve.await; std::future::pending::<()>().await } => unreachable!("it never ends"),
        }
    };
    assert_eq!(reach("localhost", Some(right.clone())).await, Ok(b'!'));
    assert!(reach("127.0.0.1", Some(right)).await.is_err(), "its certificate does not name the address");
    assert!(reach("localhost", Some(wrong)).await.is_err(), "somebody else signed it");
    assert!(reach("localhost", Some(none)).await.unwrap_err().contains("no certificate in it"));
    assert!(reach("localhost", None).await.unwrap_err().contains("issuers to trust"));
}

#[tokio::test]
async fn plain_text_and_tls_do_not_understand_each_other_and_say_what_to_do() {
    let trust = Trust::new();
    let (tls, plain) = (controller(&trust), Security::default());
    let met = meet(&tls, Door::Router, &plain).await;
    assert!(met.caller.is_err());
    let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
    let refused = plain.dial(&endpoint("https://127.0.0.1:1")).await.unwrap_err().to_string();
    assert!(refused.contains("tls.certificate"), "{refused}");
    let refused = tls.dial(&endpoint("http://127.0.0.1:1")).await.unwrap_err().to_string();
    assert!(refused.contains("tls.insecure"), "{refused}");
    assert_eq!(meet(&plain, Door::Router, &plain).await.caller, Ok(Caller::Plain));
}

#[test]
fn material_that_does_not_fit_together_names_its_file() {
    let trust = Trust::new();
    let (one, two) = (issue(&wanted(ROUTER), &trust.routers), issue(&wanted(ROUTER), &trust.routers));
    let load = |files: &Files| Material::load(files).unwrap_err();
    let files = trust.files("a", RoleKind::Router, &one.pem, &two.key);
    assert!(matches!(load(&files), MaterialError::Mismatch { .. }));
    let files = trust.files("a", RoleKind::Admin, &one.pem, &one.key);
    assert!(load(&files).to_string().contains("where admin is needed"));
    let files = trust.files("a", RoleKind::Router, &trust.routers.pem(), &one.key);
    assert!(load(&files).to_string().contains("is a CA certificate"));
    let files = trust.files("a", RoleKind::Router, "nothing", &one.key);
    assert!(load(&files).to_string().contains("has no certificate in it"));
    let files = trust.files("a", RoleKind::Router, &one.pem, "nothing");
    assert!(load(&files).to_string().contains("has no private key in it"));
    let files = Files {
        trust_domain: Some("example.net".parse().unwrap()),
        ..trust.files("a", RoleKind::Router, &one.pem, &one.key)
    };
    assert!(load(&files).to_string().contains("where router of example.net is needed"));
    let own = issue(&wanted(CONTROLLER), &trust.controllers);
    trust.write("issuer-key.pem", &trust.routers.key().serialize_pem());
    let router_issuer = Some((trust.path("ca-routers.pem"), trust.path("issuer-key.pem")));
    let files = Files { router_issuer, ..trust.files("a", RoleKind::Controller, &own.pem, &own.key) };
    assert!(load(&files).to_string().contains("ca-routers.pem is no issuer that can be used"));
    let files = trust.files("a", RoleKind::Router, &one.pem, &one.key);
    std::fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    assert!(load(&files).to_string().contains("chmod 600"));
    std::fs::remove_file(&files.key).unwrap();
    assert!(load(&files).to_string().contains("a-key.pem"));
}
