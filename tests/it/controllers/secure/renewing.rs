//! Routers whose certificates controllers renew: who gets one, and what takes the place of the present one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilothouse::controller::pacing::RENEWALS_PER_ROUTER;
use pilothouse::domain::ids::RouterId;
use pilothouse::proto::enrolment::RenewRequest;
use pilothouse::proto::enrolment::enrolment_client::EnrolmentClient;
use pilothouse::router::config::RouterFile;
use pilothouse::router::status::{AgentStatus, SessionState};
use pilothouse::router::{Agent, Parts};
use pilothouse::rpc::status::{hint_of, reason_of, retry_after_of};
use pilothouse::tls::TlsFile;
use pilothouse::tls::authority::{describe, granted, make_request};
use tempfile::TempDir;
use tonic::{Code, Status};

use super::super::cluster::{Cluster, eventually};
use super::channel;
use crate::support::pki::{Pki, principal};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Of its ten days, more than half are over.
const AGE: Duration = Duration::from_secs(6 * 24 * 60 * 60);

fn pki(cluster: &Cluster) -> &Pki {
    cluster.pki.as_ref().unwrap()
}

/// A router whose certificate is due.
fn aged(cluster: &Cluster, id: &str, data: &TempDir) -> (RouterFile, PathBuf) {
    let role = format!("router/{id}");
    let dir = pki(cluster).directory(&role);
    pki(cluster).issue_aged(&role, AGE, 10 * DAY);
    let file = RouterFile {
        id: Some(id.to_owned()),
        data_dir: Some(data.path().join(id)),
        seeds: cluster.seats.iter().map(|seat| cluster.at(seat.router).to_string()).collect(),
        renew_certificate: Some(true),
        tls: TlsFile { dir: Some(dir.clone()), ..TlsFile::default() },
        ..RouterFile::default()
    };
    (file, dir)
}

/// Asks the controllers in the order of the list.
async fn start(file: &RouterFile) -> Agent {
    let parts = Parts { random: Arc::new(|| 0), ..Parts::default() };
    Agent::start(file.clone().validate().unwrap(), parts).await.unwrap()
}

fn open(status: &AgentStatus) -> usize {
    status.sessions.iter().filter(|session| session.state != SessionState::Connecting).count()
}

/// How many attempts ended like this.
fn renewals(agent: &Agent, effect: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &agent.surface().registry).unwrap();
    let name = format!("pilothouse_router_certificate_renewals_total{{effect=\"{effect}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_past_half_of_its_life_is_renewed_for_the_same_key_while_sessions_go_on() {
    let cluster = Cluster::secure(3).await;
    let data = TempDir::new().unwrap();
    let (file, dir) = aged(&cluster, "edge-1", &data);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let (key, before) = (read("key.pem"), read("certificate.pem"));
    let agent = start(&file).await;
    eventually("the router has two sessions", async || (open(&agent.status().borrow()) == 2).then_some(())).await;
    let after = eventually("the certificate is replaced", async || {
        Some(read("certificate.pem")).filter(|text| *text != before)
    })
    .await;
    let [before, after] = [before, after].map(|text| describe(&text).unwrap().remove(0));
    assert_eq!(after.principal, Some(principal("router/edge-1")));
    assert!(after.not_after > before.not_after);
    assert_eq!(read("key.pem"), key);
    eventually("it is in use", async || {
        let kept = agent.events().kept();
        kept.iter().any(|kept| kept.event.code() == "certificate_replaced").then_some(())
    })
    .await;
    assert_eq!(open(&agent.status().borrow()), 2);
    assert_eq!((renewals(&agent, "renewed"), renewals(&agent, "failed")), (1, 0));
    agent.stop().await;

    // It starts with it, and is served with it; that it is not due is seen by nothing happening.
    let renewed = read("certificate.pem");
    let agent = start(&file).await;
    eventually("the router has two sessions again", async || (open(&agent.status().borrow()) == 2).then_some(())).await;
    assert_eq!((renewals(&agent, "renewed"), read("certificate.pem")), (0, renewed));
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_another_controller_refuses_takes_nobodys_place() {
    let cluster = Cluster::secure(3).await;
    let data = TempDir::new().unwrap();
    let (file, dir) = aged(&cluster, "edge-1", &data);
    let read = || fs::read_to_string(dir.join("certificate.pem")).unwrap();
    let before = read();
    pki(&cluster).estrange("controller/1");
    let events = cluster.seats[0].running().events().clone();
    eventually("controller 1 signs with its own issuer", async || {
        events.kept().iter().any(|kept| kept.event.code() == "certificate_replaced").then_some(())
    })
    .await;
    let agent = start(&file).await;
    eventually("it was tried", async || (renewals(&agent, "failed") == 1).then_some(())).await;
    assert_eq!(read(), before);
    assert_eq!(
        fs::read_dir(&dir)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() == ".certificate.pem.new")
            .count(),
        0
    );
    agent.stop().await;

    // Put right, the next attempt succeeds.
    pki(&cluster).trust(&pki(&cluster).directory("controller/1"));
    pki(&cluster).issue("controller/1");
    eventually("controller 1 signs with the issuer of all", async || {
        let replaced = |kept: &&pilothouse::ops::events::Recorded| kept.event.code() == "certificate_replaced";
        (events.kept().iter().filter(replaced).count() >= 2).then_some(())
    })
    .await;
    let agent = start(&file).await;
    eventually("it is replaced", async || (read() != before).then_some(())).await;
    agent.stop().await;
}

/// Asks one controller for the next certificate of whoever `role` is, with a request for `asked`.
async fn renew(cluster: &Cluster, seat: usize, role: &str, asked: &str) -> Result<(String, Vec<u8>), Status> {
    let request = make_request(&principal(asked)).unwrap().request_der;
    let open = channel(cluster, pki(cluster).security(role), cluster.seats[seat].router).await.unwrap();
    let answer = EnrolmentClient::new(open).renew(RenewRequest { request: request.clone() }).await?;
    Ok((answer.into_inner().certificate, request))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_certificate_is_for_whoever_shows_the_present_one_and_for_nobody_that_is_banned() {
    let cluster = Cluster::secure(3).await;
    // Whatever the request says.
    let (chain, request) = renew(&cluster, 0, "router/edge-1", "router/edge-2").await.unwrap();
    assert!(granted(&chain, &principal("router/edge-1"), &request).is_ok());
    let open = channel(&cluster, pki(&cluster).security("router/edge-1"), cluster.seats[0].router).await.unwrap();
    let unusable = EnrolmentClient::new(open).renew(RenewRequest { request: b"garbage".to_vec() }).await.unwrap_err();
    assert_eq!((unusable.code(), reason_of(&unusable)), (Code::InvalidArgument, Some("invalid")), "{unusable}");

    let banned = RouterId::new("edge-1").unwrap();
    cluster.admin_of(0).await.ban(&banned).await.unwrap();
    for seat in 0..3 {
        eventually("the ban is known", async || {
            let refused = renew(&cluster, seat, "router/edge-1", "router/edge-1").await.err()?;
            (reason_of(&refused) == Some("banned")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_renews_too_often_is_told_when_to_come_again() {
    let cluster = Cluster::secure(1).await;
    for _ in 0..RENEWALS_PER_ROUTER.burst {
        renew(&cluster, 0, "router/edge-1", "router/edge-1").await.unwrap();
    }
    let refused = renew(&cluster, 0, "router/edge-1", "router/edge-1").await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::ResourceExhausted, Some("too_fast")), "{refused}");
    assert!(retry_after_of(&refused).is_some_and(|after| after <= Duration::from_secs(60)), "{refused}");
    assert!(renew(&cluster, 0, "router/edge-2", "router/edge-2").await.is_ok());
}

/// It may have missed a ban.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_hears_no_leader_renews_nothing() {
    let mut cluster = Cluster::secure(3).await;
    renew(&cluster, 0, "router/edge-1", "router/edge-1").await.unwrap();
    for seat in [1, 2] {
        cluster.stop(seat).await;
    }
    let node = cluster.seats[0].running().backend().node().clone();
    eventually("controller 1 hears no leader", async || node.hears().is_none().then_some(())).await;
    let refused = renew(&cluster, 0, "router/edge-1", "router/edge-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_plain_text_nobody_has_a_certificate_to_renew() {
    let cluster = Cluster::of(1).await;
    let mut client = EnrolmentClient::connect(format!("http://{}", cluster.seats[0].router)).await.unwrap();
    let request = make_request(&principal("router/edge-1")).unwrap().request_der;
    let refused = client.renew(RenewRequest { request }).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::FailedPrecondition, Some("no_trust")), "{refused}");
    assert!(hint_of(&refused).is_some_and(|hint| !hint.is_empty()));
}
