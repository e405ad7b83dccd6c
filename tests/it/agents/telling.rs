//! A router tells its events to whoever takes them, each once, and to nobody else.

use pilothouse::ops::events::{Event, Kind, Subject};
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::proto::router::{ReportedEvent, RouterHeartbeat};

use super::scripted::{CLUSTER, Controller, Manner, offer};
use super::{agent, becomes, open};
use crate::support::{SOON, eventually, expect};

/// What a controller was told, in the order in which it came.
fn told(controller: &Controller) -> Vec<ReportedEvent> {
    controller.all(|heard| match heard {
        FromRouter::Events(report) => report.events.clone(),
        _ => Vec::new(),
    })
}

async fn hears_heartbeats(controller: &Controller) {
    let beats = || controller.count(|heard| matches!(heard, FromRouter::Heartbeat(_)));
    let enough = beats() + 5;
    eventually("several heartbeats", SOON, || async { expect(beats() >= enough, || beats().to_string()) }).await;
}

#[tokio::test]
async fn events_are_told_once_to_whoever_takes_them_and_never_to_a_controller_that_would_not_know_them() {
    let dir = tempfile::tempdir().unwrap();
    let older = Controller::start(1, Manner::Proper).await;
    let curious = Controller::start(2, Manner::Curious).await;
    let list = offer(1, CLUSTER, 5, &[(1, &older.endpoint), (2, &curious.endpoint)]);
    older.offers(list.clone()).await;
    let agent = agent(dir.path(), &[&older.endpoint, &curious.endpoint], 2).await;
    becomes(&agent, "it is on both", |status| open(status).len() == 2).await;
    for number in 0..40 {
        agent.events().raise(Event::SessionSuperseded { router: format!("edge-{number}") });
    }
    let raised = agent.events().kept().len();
    eventually("everything is told", SOON, || async {
        expect(told(&curious).len() >= raised, || format!("{} of {raised}", told(&curious).len()))
    })
    .await;
    // Nothing is told again by later heartbeats.
    hears_heartbeats(&curious).await;
    hears_heartbeats(&older).await;
    let numbers: Vec<_> = told(&curious).iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=agent.events().kept().len() as u64).collect::<Vec<_>>());
    assert_eq!(told(&older), [], "it did not say that it takes any");
}

/// What a controller was told of what lasts, each time it was told.
fn lasting(controller: &Controller) -> Vec<Vec<String>> {
    controller.all(|heard| match heard {
        FromRouter::Heartbeat(RouterHeartbeat { conditions: Some(conditions), .. }) => {
            vec![conditions.events.iter().map(|event| event.code.clone()).collect()]
        }
        _ => Vec::new(),
    })
}

async fn hears_that_lasts(controller: &Controller, codes: &[&str]) {
    let last = || lasting(controller).last().cloned();
    eventually("it is told what lasts", SOON, || async {
        expect(last().is_some_and(|last| last == codes), || format!("{:?}", lasting(controller)))
    })
    .await;
}

#[tokio::test]
async fn what_lasts_is_told_to_every_controller_that_knows_events_after_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let older = Controller::start(1, Manner::Proper).await;
    let (one, other) = (Controller::start(2, Manner::Curious).await, Controller::start(3, Manner::Curious).await);
    let members = [(1, &older.endpoint), (2, &one.endpoint), (3, &other.endpoint)];
    for controller in [&older, &one, &other] {
        controller.offers(offer(1, CLUSTER, 5, &members)).await;
    }
    let agent = agent(dir.path(), &[&older.endpoint, &one.endpoint, &other.endpoint], 3).await;
    becomes(&agent, "it is on all", |status| open(status).len() == 3).await;
    hears_that_lasts(&one, &[]).await;
    agent.events().raise(Event::CertificateUnusable { message: "no key".into() });
    hears_that_lasts(&one, &["certificate_unusable"]).await;
    hears_that_lasts(&other, &["certificate_unusable"]).await;
    // A new session is told it again.
    let before = lasting(&one).len();
    one.closes();
    eventually("it is told again", SOON, || async { expect(lasting(&one).len() > before, || before.to_string()) })
        .await;
    hears_that_lasts(&one, &["certificate_unusable"]).await;
    agent.events().resolve(Kind::CertificateUnusable, &Subject::Itself);
    hears_that_lasts(&one, &[]).await;
    hears_that_lasts(&other, &[]).await;
    let said = lasting(&other).len();
    hears_heartbeats(&other).await;
    assert_eq!((lasting(&other).len(), lasting(&older).len()), (said, 0), "nothing new, and nothing that is not known");
}
