//! What issuers sign, what they refuse, and that a TLS library believes the result.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::described::certificates;
use super::*;
use crate::domain::principal::{Principal, TrustDomain};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn domain(text: &str) -> TrustDomain {
    TrustDomain::new(text).unwrap()
}

fn issuer(kind: RoleKind) -> Issuer {
    Issuer::create(&domain("example.org"), kind, Validity::starting(SystemTime::now(), 10 * DAY)).unwrap()
}

fn leaf(principal: &str) -> Leaf {
    let valid = Validity::starting(SystemTime::now(), DAY);
    Leaf { principal: principal.parse().unwrap(), dns: Vec::new(), ips: Vec::new(), valid }
}

fn request(principal: &str) -> Request {
    let made = make_request(&principal.parse::<Principal>().unwrap()).unwrap();
    let request = Request::from_pem(&made.request_pem).unwrap();
    assert_eq!(request.public_key_sha256(), Request::from_der(&made.request_der).unwrap().public_key_sha256());
    request
}

fn roots(issuer: &Issuer) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates(&issuer.certificate_pem()).unwrap().remove(0)).unwrap();
    Arc::new(roots)
}

fn believed_as_client(chain: &str, trusted: &Issuer) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(trusted), provider).build().unwrap();
    let chain = certificates(chain).unwrap();
    verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).is_ok()
}

fn believed_as_server(chain: &str, trusted: &Issuer, name: &str) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(trusted), provider).build().unwrap();
    let chain = certificates(chain).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).is_ok()
}

#[test]
fn an_issuer_says_what_it_is_for_and_opens_again() {
    for kind in RoleKind::ALL {
        let made = issuer(kind);
        let opened = Issuer::open(&made.certificate_pem(), &made.key_pem()).unwrap();
        assert_eq!((opened.kind(), opened.trust_domain()), (kind, &domain("example.org")));
        assert_eq!(issuer_is_for(&made.certificate_pem()), Ok((domain("example.org"), kind)));
        let described = describe(&made.certificate_pem()).unwrap().remove(0);
        assert!(described.is_ca && described.principal.is_none());
        assert_eq!(described.issuer, format!("Pilothouse {kind}s of example.org"));
        assert_eq!(described.sha256.len(), 64);
    }
    let long = domain(&"x".repeat(255));
    let made = Issuer::create(&long, RoleKind::Admin, Validity::starting(SystemTime::now(), DAY)).unwrap();
    assert_eq!(made.trust_domain(), &long);
}

#[test]
fn an_issuer_opens_only_with_its_own_key_and_only_when_it_is_one() {
    let (one, other) = (issuer(RoleKind::Router), issuer(RoleKind::Router));
    let refused = |certificate: &str, key: &PrivateKey| Issuer::open(certificate, key).unwrap_err();
    assert_eq!(refused(&one.certificate_pem(), &other.key_pem()), IssuerError::Mismatch);
    let bundle = joined(&[&one.certificate_pem(), &other.certificate_pem(), &one.certificate_pem()]).unwrap();
    assert!(matches!(refused(&bundle, &one.key_pem()), IssuerError::NotOne { found: 2 }));
    assert_eq!(refused("", &one.key_pem()), IssuerError::NotOne { found: 0 });
    assert_eq!(refused(&one.certificate_pem(), &PrivateKey::from_pem("secret".into())), IssuerError::Key);

    let router: Principal = "spiffe://example.org/router/edge-1".parse().unwrap();
    let made = make_request(&router).unwrap();
    let chain = one.sign(&Request::from_der(&made.request_der).unwrap(), &leaf(&router.to_string())).unwrap();
    let own = certificate_text(&certificates(&chain).unwrap()[0]);
    assert!(matches!(refused(&own, &made.key), IssuerError::NotAnIssuer { .. }), "a leaf signs nobody");
}

#[test]
fn a_controllers_certificate_is_good_for_both_sides_under_its_names() {
    let issuer = issuer(RoleKind::Controller);
    let principal = "spiffe://example.org/controller/1";
    let mut wanted = leaf(principal);
    wanted.dns = vec!["c1.example.org".into(), "localhost".into()];
    wanted.ips = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let chain = issuer.sign(&request(principal), &wanted).unwrap();
    assert!(believed_as_client(&chain, &issuer));
    for name in ["c1.example.org", "localhost", "127.0.0.1", "::1"] {
        assert!(believed_as_server(&chain, &issuer, name), "{name}");
    }
    assert!(!believed_as_server(&chain, &issuer, "c2.example.org"));

    let described = describe(&chain).unwrap();
    assert_eq!(described.len(), 2, "the leaf and its issuer");
    assert_eq!(described[0].principal.as_ref().unwrap().to_string(), principal);
    assert_eq!((&described[0].dns, &described[0].ips), (&wanted.dns, &wanted.ips));
    assert!(!described[0].is_ca && described[1].is_ca);
    assert_eq!(leaf_issued_by(&chain, &issuer.certificate_pem()).unwrap(), described[0]);
}

#[test]
fn routers_and_admins_are_clients_of_their_own_issuer_alone() {
    let controllers = issuer(RoleKind::Controller);
    for (kind, principal) in [
        (RoleKind::Router, "spiffe://example.org/router/edge-1"),
        (RoleKind::Admin, "spiffe://example.org/admin/alice"),
    ] {
        let issuer = issuer(kind);
        let chain = issuer.sign(&request(principal), &leaf(principal)).unwrap();
        assert!(believed_as_client(&chain, &issuer));
        assert!(!believed_as_client(&chain, &controllers));
        assert!(!believed_as_server(&chain, &issuer, "localhost"));
        assert_eq!(leaf_issued_by(&chain, &controllers.certificate_pem()), Err(CertificateError::Stranger));
    }
}

#[test]
fn an_issuer_refuses_another_role_another_domain_and_names_that_are_none() {
    let issuer = issuer(RoleKind::Router);
    let router = "spiffe://example.org/router/edge-1";
    let request = request(router);
    let refused = |leaf: &Leaf| issuer.sign(&request, leaf).unwrap_err();
    for other in ["spiffe://example.org/controller/1", "spiffe://example.org/admin/alice"] {
        assert!(matches!(refused(&leaf(other)), SignError::Role { .. }), "{other}");
    }
    assert!(matches!(refused(&leaf("spiffe://example.com/router/edge-1")), SignError::Domain { .. }));
    assert!(matches!(refused(&Leaf { dns: vec!["x".into()], ..leaf(router) }), SignError::Names { .. }));
    assert!(matches!(refused(&Leaf { ips: vec!["::1".parse().unwrap()], ..leaf(router) }), SignError::Names { .. }));

    let controllers = self::issuer(RoleKind::Controller);
    for name in ["", "*.example.org", "a..b", "a b", "-a", "a_b", "10.0.0.1", "ä.org", &"x".repeat(64)] {
        let named = Leaf { dns: vec![name.into()], ..leaf("spiffe://example.org/controller/1") };
        let refused = controllers.sign(&request, &named).unwrap_err();
        assert!(matches!(refused, SignError::HostName { .. }), "{name}");
    }
}

#[test]
fn a_certificate_is_back_dated_and_does_not_outlive_its_issuer() {
    let (issuer, router) = (issuer(RoleKind::Router), "spiffe://example.org/router/edge-1");
    let now = SystemTime::now();
    let signed = |lasting: Duration| {
        let leaf = Leaf { valid: Validity::starting(now, lasting), ..leaf(router) };
        describe(&issuer.sign(&request(router), &leaf).unwrap()).unwrap().remove(0)
    };
    let seconds = |at: SystemTime| OffsetDateTime::from(at).unix_timestamp();
    let day = signed(DAY);
    assert_eq!(day.not_before.unix_timestamp(), seconds(now - CLOCK_SKEW));
    assert_eq!(day.not_after.unix_timestamp(), seconds(now + DAY));
    assert_eq!(signed(Duration::MAX).not_after, issuer.not_after());

    let later = Leaf { valid: Validity::starting(now + 11 * DAY, DAY), ..leaf(router) };
    assert!(matches!(issuer.sign(&request(router), &later), Err(SignError::Ended { .. })));
}

#[test]
fn serial_numbers_do_not_repeat() {
    let (issuer, router) = (issuer(RoleKind::Router), "spiffe://example.org/router/edge-1");
    let chain = || issuer.sign(&request(router), &leaf(router)).unwrap();
    let serial = |chain: &str| {
        let der = certificates(chain).unwrap().remove(0);
        described::parsed(&der).unwrap().raw_serial().to_vec()
    };
    let (one, other) = (serial(&chain()), serial(&chain()));
    assert_ne!(one, other);
    assert!(one.len() >= 12, "{one:?}");
}

#[test]
fn a_request_that_does_not_hold_its_key_is_refused() {
    let made = make_request(&"spiffe://example.org/router/edge-1".parse().unwrap()).unwrap();
    // The last byte is the signature's; one of the identity is in the middle.
    let identity = made.request_der.windows(6).position(|bytes| bytes == b"edge-1").unwrap();
    for at in [made.request_der.len() - 1, identity] {
        let mut broken = made.request_der.clone();
        broken[at] ^= 1;
        assert_eq!(Request::from_der(&broken).unwrap_err(), RequestError::Signature);
    }
    let mut longer = made.request_der.clone();
    longer.push(0);
    assert!(matches!(Request::from_der(&longer), Err(RequestError::Unreadable { .. })));
    assert!(matches!(Request::from_der(&vec![0; REQUEST_BYTES_MAX + 1]), Err(RequestError::TooLarge { .. })));
    assert!(matches!(Request::from_pem(&"x".repeat(1 << 20)), Err(RequestError::TooLarge { .. })));
    assert!(matches!(Request::from_pem(made.key.pem()), Err(RequestError::Unreadable { .. })));
}

#[test]
fn a_request_shows_for_whom_it_was_made_and_decides_nothing() {
    let request = request("spiffe://example.org/router/edge-1");
    assert_eq!(request.uris(), ["spiffe://example.org/router/edge-1"]);
    assert_eq!(request.asks_for_another_than(&"spiffe://example.org/router/edge-1".parse().unwrap()), None);
    let other: Principal = "spiffe://example.org/router/edge-2".parse().unwrap();
    assert_eq!(request.asks_for_another_than(&other), Some("spiffe://example.org/router/edge-1"));
    let chain = issuer(RoleKind::Router).sign(&request, &leaf(&other.to_string())).unwrap();
    assert_eq!(describe(&chain).unwrap()[0].principal, Some(other));
}

#[test]
fn keys_are_never_printed() {
    let issuer = issuer(RoleKind::Router);
    let made = make_request(&"spiffe://example.org/router/edge-1".parse().unwrap()).unwrap();
    let secret = |key: &PrivateKey| key.pem().lines().nth(1).unwrap()[8..40].to_owned();
    let shown = format!("{issuer:?} {:?} {made:?}", issuer.key_pem());
    for key in [issuer.key_pem(), made.key] {
        assert!(key.pem().contains("PRIVATE KEY"));
        assert!(!shown.contains("PRIVATE KEY") && !shown.contains(&secret(&key)), "{shown}");
        // A key file in place of a certificate is not quoted either.
        let error = Issuer::open(key.pem(), &key).unwrap_err();
        assert!(!format!("{error:?} {error}").contains(&secret(&key)));
        assert_eq!(describe(key.pem()).unwrap(), []);
    }
}
