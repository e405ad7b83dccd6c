//! Join tokens through a real cluster. Who signs is a pretender, and says so: what certificates look like is tested where
//! they are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pilothouse::controller::Parts;
use pilothouse::controller::pacing::FAILED_ENROLMENTS_PER_TOKEN;
use pilothouse::domain::ids::RouterId;
use pilothouse::ops::events::Event;
use pilothouse::proto::admin::CreateTokenRequest;
use pilothouse::proto::enrolment::enrolment_client::EnrolmentClient;
use pilothouse::proto::enrolment::{EnrollRequest, EnrollResponse, TrustRequest};
use pilothouse::raft::Seams;
use pilothouse::rpc::client::ClientError;
use pilothouse::rpc::join_token::JoinToken;
use pilothouse::rpc::status::{hint_of, reason_of, retry_after_of};
use pilothouse::tls::enrol::{Enrolling, RouterIssuer, Trust};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use super::cluster::{Cluster, Seat, eventually};

const HOUR_MS: u64 = 60 * 60 * 1000;

/// Signs nothing: its certificates say that they are none.
struct Pretender;

impl RouterIssuer for Pretender {
    fn sign(&self, request_der: &[u8], router: &RouterId) -> Result<String, String> {
        Ok(format!("no certificate, but one for {router} would be for the request {}", request_der.len()))
    }

    fn key_sha256(&self, request_der: &[u8]) -> Result<[u8; 32], String> {
        if request_der == b"garbage" { Err("it is garbage".into()) } else { Ok(Sha256::digest(request_der).into()) }
    }
}

impl Trust for Pretender {
    fn domain(&self) -> String {
        "example.org".into()
    }

    fn ca_controllers(&self) -> String {
        "no authority".into()
    }

    fn ca_sha256(&self) -> Vec<[u8; 32]> {
        vec![Sha256::digest("no authority").into()]
    }
}

fn parts() -> Parts {
    let enrolling = Enrolling { issuer: Some(Arc::new(Pretender)), trust: Some(Arc::new(Pretender)) };
    Parts { enrolling: Some(enrolling), ..Parts::default() }
}

async fn create(seat: &Seat, router: &str, ttl_ms: u64) -> Result<JoinToken, ClientError> {
    let request = CreateTokenRequest { role: "router".into(), id: router.into(), ttl_ms };
    let made = seat.admin_client().await.create_token(request).await?;
    Ok(made.token.parse().expect("a token that can be read"))
}

fn application(token: &JoinToken, key: &str) -> EnrollRequest {
    EnrollRequest {
        token_id: token.id.to_bytes().into(),
        secret: token.secret.bytes().to_vec(),
        router_id: token.router.to_string(),
        request: key.as_bytes().to_vec(),
    }
}

async fn ask(seat: &Seat, request: EnrollRequest) -> Result<EnrollResponse, Status> {
    let mut client = EnrolmentClient::connect(format!("http://{}", seat.router)).await.unwrap();
    Ok(client.enroll(request).await?.into_inner())
}

async fn enroll(seat: &Seat, token: &JoinToken, key: &str) -> Result<EnrollResponse, Status> {
    ask(seat, application(token, key)).await
}

/// The reason that whoever asked is told.
async fn refused(seat: &Seat, request: EnrollRequest) -> String {
    let status = ask(seat, request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(hint_of(&status).is_some_and(|hint| !hint.is_empty()), "{status}");
    reason_of(&status).unwrap().to_owned()
}

/// The real reasons that a controller told its operator.
fn told(seat: &Seat) -> Vec<&'static str> {
    let kept = seat.running().events().kept();
    let reason = |event: &Event| match event {
        Event::EnrolmentRefused { reason, .. } => Some(*reason),
        _ => None,
    };
    kept.iter().filter_map(|recorded| reason(&recorded.event)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_and_redeemed_on_any_controller_by_one_key_only() {
    let cluster = Cluster::with(3, parts()).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for (makes, redeems) in [(follower, leader), (leader, follower), (follower, follower)] {
        let token = create(&cluster.seats[makes], "edge-7", HOUR_MS).await.unwrap();
        assert_eq!((token.router.as_str(), token.trust_domain.as_str()), ("edge-7", "example.org"));
        assert_eq!(token.ca_sha256, Pretender.ca_sha256());
        let routers: Vec<_> = cluster.seats.iter().map(|seat| format!("http://{}", seat.router)).collect();
        assert_eq!(token.controllers.iter().map(ToString::to_string).collect::<Vec<_>>(), routers);

        let answer = enroll(&cluster.seats[redeems], &token, "key one").await.unwrap();
        assert!(answer.certificate.contains("for edge-7"), "{answer:?}");
        assert_eq!((answer.ca_controllers.as_str(), answer.controllers), ("no authority", routers));
        // The answer may have been lost: the same key asks again, of whomever.
        for seat in &cluster.seats {
            enroll(seat, &token, "key one").await.unwrap();
            assert_eq!(refused(seat, application(&token, "key two")).await, "token_used");
        }
    }
    for seat in &cluster.seats {
        assert_eq!(told(seat), ["token_used"; 3]);
    }
    let mut client = EnrolmentClient::connect(format!("http://{}", cluster.seats[0].router)).await.unwrap();
    let trust = client.trust(TrustRequest {}).await.unwrap().into_inner();
    assert_eq!((trust.ca_controllers.as_str(), trust.trust_domain.as_str()), ("no authority", "example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_worth_nothing_is_refused_without_a_log_entry_and_the_real_reason_is_for_the_operator() {
    let ahead_ms = Arc::new(AtomicU64::new(0));
    let clock = {
        let (ahead_ms, system) = (ahead_ms.clone(), Seams::default().clock);
        Arc::new(move || system() + ahead_ms.load(Ordering::Relaxed))
    };
    let parts = parts();
    let cluster = Cluster::with(3, Parts { raft: Seams { clock, ..parts.raft.clone() }, ..parts }).await;
    let seat = &cluster.seats[cluster.follower().await];
    let token = create(seat, "edge-7", HOUR_MS).await.unwrap();
    // A follower applies what its leader has acknowledged a moment later.
    let looked = |seat: &Seat| seat.running().backend().node().read(|state| (state.applied, state.announcements.len()));
    let settled = async || {
        let first = looked(&cluster.seats[0]);
        (first.1 == 3 && cluster.seats.iter().all(|seat| looked(seat) == first)).then_some(())
    };
    eventually("all have announced themselves, and have applied the same", settled).await;
    let node = seat.running().backend().node().clone();
    let before = node.read(|state| state.applied.unwrap());

    let sound = || application(&token, "key one");
    let mut guessed = sound();
    guessed.secret[31] ^= 1;
    assert_eq!(refused(seat, guessed).await, "token_refused");
    assert_eq!(refused(seat, EnrollRequest { token_id: vec![7; 16], ..sound() }).await, "token_refused");
    assert_eq!(refused(seat, EnrollRequest { router_id: "edge-8".into(), ..sound() }).await, "token_wrong_subject");
    ahead_ms.store(HOUR_MS, Ordering::Relaxed);
    assert_eq!(refused(seat, sound()).await, "token_expired");
    let after = node.read(|state| state.applied.unwrap());
    assert!(after == before || after.term > before.term, "a refusal wrote a log entry: {before:?} {after:?}");
    assert_eq!(told(seat), ["token_wrong_secret", "token_unknown", "token_wrong_subject", "token_expired"]);

    ahead_ms.store(0, Ordering::Relaxed);
    for unusable in [
        EnrollRequest { token_id: vec![7; 15], ..sound() },
        EnrollRequest { secret: Vec::new(), ..sound() },
        EnrollRequest { router_id: "a b".into(), ..sound() },
        EnrollRequest { request: b"garbage".to_vec(), ..sound() },
        EnrollRequest { request: vec![0; 9_000], ..sound() },
    ] {
        let status = ask(seat, unusable).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::InvalidArgument, Some("invalid")), "{status}");
    }
    enroll(seat, &token, "key one").await.expect("none of it cost the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_is_held_up_and_told_for_how_long() {
    let cluster = Cluster::with(1, parts()).await;
    let seat = &cluster.seats[0];
    let [guessed, other] =
        [create(seat, "edge-7", HOUR_MS).await.unwrap(), create(seat, "edge-8", HOUR_MS).await.unwrap()];
    for n in 0..FAILED_ENROLMENTS_PER_TOKEN.burst {
        let secret = vec![u8::try_from(n).unwrap(); 32];
        assert_eq!(refused(seat, EnrollRequest { secret, ..application(&guessed, "key") }).await, "token_refused");
    }
    // The right one too: whether a guess is right is not to be found out faster.
    let status = enroll(seat, &guessed, "key").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some("too_fast")), "{status}");
    let retry_after = retry_after_of(&status).unwrap();
    assert!(retry_after.as_millis() > 0 && retry_after.as_millis() <= FAILED_ENROLMENTS_PER_TOKEN.every_ms.into());
    enroll(seat, &other, "key").await.expect("nobody else is held up");
    assert_eq!(told(seat).len(), FAILED_ENROLMENTS_PER_TOKEN.burst as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_takes_the_tokens_of_its_router_and_none_is_made_for_it() {
    let cluster = Cluster::with(1, parts()).await;
    let seat = &cluster.seats[0];
    let token = create(seat, "edge-7", HOUR_MS).await.unwrap();
    seat.admin_client().await.ban(&token.router).await.unwrap();
    assert_eq!(refused(seat, application(&token, "key")).await, "token_refused");
    let told = |refused: ClientError| match refused {
        ClientError::Refused { reason, hint, .. } => (reason, hint.unwrap_or_default()),
        other => panic!("{other}"),
    };
    let (reason, hint) = told(create(seat, "edge-7", HOUR_MS).await.unwrap_err());
    assert!(reason == "banned" && hint.contains("pilothouse routers allow"), "{reason} {hint}");
    assert_eq!(told(create(seat, "edge-8", 1_000).await.unwrap_err()).0, "token_lifetime");
    let admin = CreateTokenRequest { role: "admin".into(), id: "alice".into(), ttl_ms: HOUR_MS };
    let (reason, hint) = told(seat.admin_client().await.create_token(admin).await.err().unwrap());
    assert!(reason == "token_wrong_role" && hint.contains("pilothouse pki"), "{reason} {hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_who_used_it_outlive_a_restart() {
    let mut cluster = Cluster::with(1, parts()).await;
    let used = create(&cluster.seats[0], "edge-7", HOUR_MS).await.unwrap();
    let fresh = create(&cluster.seats[0], "edge-8", HOUR_MS).await.unwrap();
    enroll(&cluster.seats[0], &used, "key one").await.unwrap();
    cluster.restart(0).await;
    cluster.serves(0).await;
    let seat = &cluster.seats[0];
    assert_eq!(refused(seat, application(&used, "key two")).await, "token_used");
    enroll(seat, &used, "key one").await.unwrap();
    enroll(seat, &fresh, "key two").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_without_an_issuer_or_certificates_says_what_it_lacks() {
    let enrolling = Enrolling { trust: Some(Arc::new(Pretender)), issuer: None };
    let cluster = Cluster::with(1, Parts { enrolling: Some(enrolling), ..Parts::default() }).await;
    let token = create(&cluster.seats[0], "edge-7", HOUR_MS).await.unwrap();
    let status = enroll(&cluster.seats[0], &token, "key").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::FailedPrecondition, Some("no_issuer")), "{status}");
    assert!(status.message().contains("tls.router_issuer"), "{status}");

    let plain = Cluster::of(1).await;
    match create(&plain.seats[0], "edge-7", HOUR_MS).await.unwrap_err() {
        ClientError::Refused { reason, .. } => assert_eq!(reason, "no_trust"),
        other => panic!("{other}"),
    }
    let mut client = EnrolmentClient::connect(format!("http://{}", plain.seats[0].router)).await.unwrap();
    assert_eq!(reason_of(&client.trust(TrustRequest {}).await.unwrap_err()), Some("no_trust"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_keys_at_once_a_token_belongs_to_exactly_one() {
    let cluster = Cluster::with(3, parts()).await;
    let token = create(&cluster.seats[0], "edge-7", HOUR_MS).await.unwrap();
    let keys: Vec<_> = (0..6).map(|n| format!("key {n}")).collect();
    let asking = keys.iter().zip(cluster.seats.iter().cycle()).map(|(key, seat)| enroll(seat, &token, key));
    let answers = futures::future::join_all(asking).await;
    let (gave, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(gave.len(), 1);
    assert!(refused.into_iter().all(|answer| reason_of(&answer.unwrap_err()) == Some("token_used")));
}
