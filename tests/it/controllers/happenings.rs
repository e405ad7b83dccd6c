//! Events of the whole cluster: reported by routers, gathered by whichever controller is asked.

use pilothouse::ops::events::{EVENTS_KEPT_MAX, Event, REPORTED_OF_ONE_MAX};
use pilothouse::proto::admin::{self, EventsResponse};
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::proto::router::{EventReport, Hello, ReportedEvent};

use super::cluster::{Cluster, Seat, eventually};
use super::router::{Session, hello};

const INSTANCE: u64 = 7;

fn report(numbers: impl IntoIterator<Item = u64>) -> Says {
    let event = |number| ReportedEvent {
        number,
        at_ms: number,
        phase: "once".into(),
        severity: "warning".into(),
        code: "file_set_aside".into(),
        message: format!("number {number}"),
        ..ReportedEvent::default()
    };
    Says::Events(EventReport { instance: INSTANCE, dropped: 0, events: numbers.into_iter().map(event).collect() })
}

async fn router_of(seat: &Seat, id: &str) -> Session {
    let hello = Hello { capabilities: vec!["events".into()], ..hello(id, 1) };
    let (session, welcome) = Session::welcomed(seat.router, hello).await;
    assert_eq!(welcome.capabilities, ["events"], "without it no router may send any");
    session
}

/// Everything that a controller shows.
async fn shown(seat: &Seat) -> EventsResponse {
    let mut stream = seat.admin_client().await.events(false).await.unwrap();
    let mut all = EventsResponse::default();
    while let Some(told) = stream.next().await.unwrap() {
        all.events.extend(told.events);
        all.not_asked = told.not_asked;
    }
    all
}

fn of<'a>(all: &'a [admin::Event], source: &str) -> Vec<&'a admin::Event> {
    all.iter().filter(|event| event.source == source).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_asked_shows_what_happened_on_every_controller_and_router() {
    let mut cluster = Cluster::of(3).await;
    let mut session = router_of(&cluster.seats[0], "edge-1").await;
    session.say(report([1, 2])).await;
    let taken = session.taken().await;
    assert_eq!((taken.instance, taken.number), (INSTANCE, 2));
    cluster.seats[1].running().events().raise(Event::SessionSuperseded { router: "edge-9".into() });
    let id = |seat: usize| cluster.seats[seat].id().unwrap().get();
    let ids = [id(0), id(1), id(2)];

    for seat in &cluster.seats {
        let all = shown(seat).await;
        let reported = of(&all.events, "router edge-1");
        let numbers: Vec<_> = reported.iter().map(|event| event.told.as_ref().unwrap().number).collect();
        assert_eq!((numbers, reported[0].reported_by, reported[0].instance), (vec![1, 2], ids[0], INSTANCE));
        let own = of(&all.events, &format!("controller {}", ids[1]));
        assert_eq!((own.len(), own[0].reported_by), (1, ids[1]));
        assert_eq!(own[0].told.as_ref().unwrap().subject, "router edge-9");
        assert_eq!(all.not_asked, [], "everybody answered");
    }

    // Whoever follows hears what comes, from wherever it comes.
    let mut stream = cluster.seats[2].admin_client().await.events(true).await.unwrap();
    session.say(report([3])).await;
    session.taken().await;
    let news = eventually("the third is told", async || {
        let told = stream.next().await.unwrap().expect("it goes on");
        told.events.into_iter().find(|event| event.told.as_ref().unwrap().message == "number 3")
    });
    assert_eq!(news.await.source, "router edge-1");

    cluster.stop(1).await;
    let all = shown(&cluster.seats[0]).await;
    assert_eq!(all.not_asked.iter().map(|gap| gap.controller).collect::<Vec<_>>(), [ids[1]], "it is named");
    assert_eq!(of(&all.events, "router edge-1").len(), 3, "and disturbs nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_reports_without_end_pushes_out_nobody_elses_events() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    let own = Event::SessionSuperseded { router: "edge-9".into() };
    seat.running().events().raise(own.clone());
    let mut quiet = router_of(seat, "quiet").await;
    quiet.say(report([1])).await;
    quiet.taken().await;
    let mut loud = router_of(seat, "loud").await;
    for round in 0..40 {
        loud.say(report((1..=16).map(|number| round * 16 + number))).await;
    }
    loud.taken().await;
    // Another session of the same router has no room of its own.
    eventually("its share is full", async || {
        let all = shown(seat).await;
        let count = of(&all.events, "router loud").len();
        assert!(count <= REPORTED_OF_ONE_MAX, "{count}");
        (count == REPORTED_OF_ONE_MAX).then_some(())
    })
    .await;
    let all = shown(seat).await;
    assert_eq!(of(&all.events, "router quiet").len(), 1);
    assert!(seat.running().events().kept().iter().any(|kept| kept.event == own));
    assert!(all.events.len() < EVENTS_KEPT_MAX + REPORTED_OF_ONE_MAX);
    // The list goes on as ever.
    quiet.say(report([2])).await;
    quiet.taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_operators_follow_on_one_controller_and_the_next_is_sent_elsewhere() {
    const FOLLOWERS_MAX: usize = 16;
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    let mut following = Vec::new();
    for _ in 0..FOLLOWERS_MAX {
        following.push(seat.admin_client().await.events(true).await.unwrap());
    }
    let refused = seat.admin_client().await.events(true).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("ask another controller"), "{refused}");
    following.pop();
    eventually("a place is free again", async || seat.admin_client().await.events(true).await.ok()).await;
}
