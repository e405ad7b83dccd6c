//! Alarms against a webhook in memory: taken, hung, down, busy, rejecting.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::others::others_by;
use super::outbox::rfc3339;
use super::*;
use crate::ops::events::{Event, Severity};
use crate::ops::http::Bytes;

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Manner {
    Takes,
    Hangs,
    Down,
    Answers(&'static str),
}

/// A webhook: what it was sent, heads and alerts.
struct Webhook {
    manner: Mutex<Manner>,
    heard: Mutex<Vec<(String, Vec<Value>)>>,
}

impl Webhook {
    fn with(manner: Manner) -> Arc<Self> {
        Arc::new(Self { manner: Mutex::new(manner), heard: Mutex::default() })
    }

    fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn dial(self: &Arc<Self>) -> Dial {
        let webhook = self.clone();
        Arc::new(move || {
            let webhook = webhook.clone();
            Box::pin(async move {
                let manner = *webhook.manner.lock().unwrap();
                if matches!(manner, Manner::Down) {
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                tokio::spawn(async move { webhook.serve(theirs, manner).await });
                Ok(Box::new(ours) as Box<dyn Bytes>)
            })
        })
    }

    async fn serve(&self, mut stream: DuplexStream, manner: Manner) {
        let mut read = Vec::new();
        let (head, body) = loop {
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk).await.unwrap();
            read.extend_from_slice(&chunk[..length]);
            let text = String::from_utf8(read.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                break (head.to_owned(), body.to_owned());
            }
        };
        let status = match manner {
            Manner::Hangs => std::future::pending().await,
            Manner::Answers(status) => status,
            Manner::Takes | Manner::Down => "200 OK",
        };
        self.heard.lock().unwrap().push((head, serde_json::from_str(&body).unwrap()));
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nwhy\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// Waits until an alert came that is as it should be.
    async fn hears(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(|| {
            let heard = self.heard.lock().unwrap();
            heard.iter().flat_map(|(_, alerts)| alerts).find(|alert| is(alert)).cloned()
        });
        found.await.unwrap_or_else(|| panic!("{what} did not come: {:?}", self.heard.lock().unwrap()))
    }
}

async fn wait_for<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return Some(found);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

struct Alarming {
    events: Events,
    teller: Teller,
    registry: Registry,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Alarming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Alarming {
    fn at(webhook: &Arc<Webhook>, change: impl FnOnce(&mut AlertsConfig)) -> Self {
        let mut registry = Registry::default();
        let events = Events::new(&mut registry);
        let mut config = AlertsConfig::to("http://am.example:9093".parse().unwrap());
        change(&mut config);
        let metrics = AlertMetrics::new(&mut registry);
        let (teller, others) = others(metrics.clone(), config.severity);
        let sink = Sink {
            config,
            who: Who { instance: "router edge-7".into(), cluster: Arc::new(|| None) },
            events: events.clone(),
            others: Some(others),
            dial: webhook.dial(),
            metrics,
            random: Arc::new(|| 0),
            within: Duration::from_millis(100),
        };
        Self { events, teller, registry, task: tokio::spawn(sink.run()) }
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

fn set_aside(path: &str) -> Event {
    Event::FileSetAside { path: path.into(), kept_as: "elsewhere".into(), message: "it is empty".into() }
}

fn is(name: &'static str) -> impl Fn(&Value) -> bool {
    move |alert| alert["labels"]["alertname"] == name
}

#[tokio::test]
async fn what_happened_is_told_and_what_begins_to_last() {
    let webhook = Webhook::with(Manner::Takes);
    let alarming = Alarming::at(&webhook, |_| ());
    alarming.events.raise(set_aside("/a"));
    alarming.events.raise(Event::Removed);
    let once = webhook.hears("what happened", is("FileSetAside")).await;
    assert_eq!((&once["labels"]["subject"], &once["labels"]["severity"]), (&"/a".into(), &"warning".into()));
    assert!(once["endsAt"].as_str() > once["startsAt"].as_str(), "{once}");

    alarming.events.raise(Event::NotSaved { message: "full".into() });
    let lasts = webhook.hears("what lasts", is("NotSaved")).await;
    assert!(lasts["endsAt"].as_str() > lasts["startsAt"].as_str(), "{lasts}");
    let heard = webhook.heard.lock().unwrap();
    assert!(heard.iter().all(|(_, alerts)| !alerts.iter().any(is("Removed"))), "a mere fact alarms nobody");
    assert!(heard[0].0.starts_with("POST /api/v2/alerts HTTP/1.1\r\nhost: am.example:9093\r\n"), "{}", heard[0].0);
}

#[tokio::test]
async fn a_webhook_that_hangs_holds_nobody_up_and_is_told_when_it_answers_again() {
    let webhook = Webhook::with(Manner::Hangs);
    let alarming = Alarming::at(&webhook, |_| ());
    alarming.events.raise(Event::NotSaved { message: "full".into() });
    let late = "pilothouse_alerts_posts_failed_total{reason=\"late\"}";
    wait_for(|| alarming.metric(late)).await.expect("it is counted");
    let began = Instant::now();
    for number in 0..1_000 {
        alarming.events.raise(set_aside(&format!("/{number}")));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "raising waits for nobody");
    webhook.becomes(Manner::Takes);
    webhook.hears("what lasts", is("NotSaved")).await;
    webhook.hears("what happened meanwhile", is("FileSetAside")).await;
    let heard = webhook.heard.lock().unwrap();
    assert!(heard.iter().all(|(_, alerts)| alerts.len() <= ALERTS_PER_POST_MAX));
    assert!(alarming.metric("pilothouse_alerts_dropped_total").is_some_and(|dropped| dropped > 0));
}

#[tokio::test]
async fn one_that_is_down_or_busy_is_tried_again_and_one_that_rejects_is_not() {
    let webhook = Webhook::with(Manner::Down);
    let alarming = Alarming::at(&webhook, |_| ());
    let failed =
        |reason: &str| alarming.metric(&format!("pilothouse_alerts_posts_failed_total{{reason=\"{reason}\"}}"));
    alarming.events.raise(set_aside("/a"));
    wait_for(|| failed("unreachable")).await.expect("it is down");
    webhook.becomes(Manner::Answers("503 Service Unavailable"));
    wait_for(|| failed("busy")).await.expect("it is busy");
    webhook.becomes(Manner::Answers("401 Unauthorized"));
    wait_for(|| failed("busy").filter(|count| *count > 1)).await.expect("somebody has to mend it");
    webhook.becomes(Manner::Answers("400 Bad Request"));
    wait_for(|| failed("rejected")).await.expect("it rejects");
    webhook.becomes(Manner::Takes);
    alarming.events.raise(set_aside("/b"));
    webhook.hears("the next one", |alert| alert["labels"]["subject"] == "/b").await;
    let last = webhook.heard.lock().unwrap().last().unwrap().1.len();
    assert_eq!((last, alarming.metric("pilothouse_alerts_posted_total")), (1, Some(1)), "what was rejected stays so");
}

#[tokio::test]
async fn a_prefix_and_credentials_are_used_and_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authorization");
    let webhook = Webhook::with(Manner::Takes);
    let alarming = Alarming::at(&webhook, |config| {
        config.prefix = "/am".into();
        config.authorization_file = Some(file.clone());
    });
    alarming.events.raise(set_aside("/a"));
    let unusable = "pilothouse_alerts_posts_failed_total{reason=\"authorization\"}";
    wait_for(|| alarming.metric(unusable)).await.expect("there is no file");
    std::fs::write(&file, "Bearer secret\n").unwrap();
    webhook.hears("it", is("FileSetAside")).await;
    let head = webhook.heard.lock().unwrap()[0].0.clone();
    assert!(head.starts_with("POST /am/api/v2/alerts ") && head.contains("authorization: Bearer secret"), "{head}");
}

/// What a router tells of a condition, as the controller hears it.
fn told(router: &str, phase: Phase, code: &str) -> Told {
    let event = Event::NotSaved { message: "full".into() };
    let told = Told::of(&Recorded { number: 1, at: now(), phase, event }, 7, router);
    Told { code: code.into(), ..told }
}

#[tokio::test]
async fn what_lasts_on_a_router_is_posted_as_soon_as_it_is_told_and_never_in_the_way_of_what_lasts_here() {
    let webhook = Webhook::with(Manner::Takes);
    let alarming = Alarming::at(&webhook, |_| ());
    alarming.teller.stands("router a", vec![told("router a", Phase::Began, "not_saved")]);
    webhook.hears("it", |alert| alert["labels"]["instance"] == "router a").await;
    // Nothing else wakes whoever posts for a minute.
    alarming.teller.stands("router b", vec![told("router b", Phase::Began, "not_saved")]);
    webhook.hears("it", |alert| alert["labels"]["instance"] == "router b").await;

    webhook.becomes(Manner::Hangs);
    for router in 0..2 * ALERTS_WAITING_MAX {
        let source = format!("router {router}");
        alarming.teller.stands(&source, vec![told(&source, Phase::Began, "not_saved")]);
    }
    let (sources, dropped) = (alarming.teller.sources().len(), alarming.metric("pilothouse_alerts_dropped_total"));
    assert_eq!(dropped.unwrap() as usize, 2 * ALERTS_WAITING_MAX + 2 - sources);
    alarming.events.raise(Event::NotSaved { message: "full".into() });
    alarming.events.raise(set_aside("/a"));
    webhook.becomes(Manner::Takes);
    webhook.hears("what lasts here", |alert| alert["labels"]["instance"] == "router edge-7").await;
    webhook.hears("what happened here", is("FileSetAside")).await;
}

/// A sink whose clock is the test's.
struct Timed {
    sink: Sink,
    teller: Teller,
    outbox: Outbox,
    seen: u64,
    now_ms: Arc<AtomicU64>,
}

impl Timed {
    fn new() -> Self {
        let now_ms = Arc::new(AtomicU64::new(0));
        let (clock, metrics) = (now_ms.clone(), AlertMetrics::default());
        let (teller, others) =
            others_by(metrics.clone(), Severity::Warning, Box::new(move || clock.load(Ordering::Relaxed)));
        let sink = Sink {
            config: AlertsConfig::to("http://am.example:9093".parse().unwrap()),
            who: Who { instance: "controller 1".into(), cluster: Arc::new(|| None) },
            events: Events::default(),
            others: Some(others),
            dial: Webhook::with(Manner::Takes).dial(),
            metrics,
            random: Arc::new(|| 0),
            within: POST_MAX,
        };
        Self { sink, teller, outbox: Outbox::default(), seen: 0, now_ms }
    }

    /// What is posted after so much time: whose alert, and whether it fires on.
    fn posts_after(&mut self, time: Duration) -> Vec<(String, bool)> {
        let now_ms = self.now_ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed) + time.as_millis() as u64;
        self.sink.take_in(&mut self.outbox, &mut self.seen, now_ms);
        // Whatever was over before is over in the real past.
        let wall = now() + Duration::from_secs(1);
        let batch = self.outbox.batch(now_ms, wall);
        self.outbox.taken(&batch, now_ms);
        let second = |at: &str| at[.."2026-01-01T00:00:00".len()].to_owned();
        let fires = |ends_at: &str| second(ends_at) > second(&rfc3339(wall));
        batch.iter().map(|posting| (posting.labels["instance"].clone(), fires(&posting.ends_at))).collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_lasts_on_a_router_is_posted_each_minute_until_it_is_over_there() {
    let mut timed = Timed::new();
    let began = told("router a", Phase::Began, "not_saved");
    timed.teller.tell(began.clone());
    timed.teller.stands("router a", vec![began]);
    let fires = vec![("router a".to_owned(), true)];
    assert_eq!(timed.posts_after(Duration::ZERO), fires);
    // Three times as long as what happened once fires.
    for minute in 0..15 {
        assert_eq!(timed.posts_after(MINUTE), fires, "{minute}");
    }
    timed.teller.tell(told("router a", Phase::Over, "not_saved"));
    timed.teller.stands("router a", vec![]);
    assert_eq!(timed.posts_after(Duration::ZERO), [("router a".to_owned(), false)]);
    assert_eq!((timed.posts_after(10 * MINUTE), timed.outbox.waiting()), (vec![], 0));
}

#[tokio::test]
async fn what_a_router_tells_when_it_is_over_already_fires_for_long_enough_to_be_seen() {
    let mut timed = Timed::new();
    // As it comes when a router reaches a controller again.
    for phase in [Phase::Began, Phase::Over] {
        timed.teller.tell(told("router a", phase, "no_controller_reachable"));
    }
    timed.teller.stands("router a", vec![]);
    let fact = Told { severity: Severity::Info, ..told("router b", Phase::Began, "removed") };
    timed.teller.tell(fact.clone());
    timed.teller.stands("router c", vec![Told { source: "router c".into(), ..fact }]);
    assert_eq!(timed.teller.sources(), ["router a"], "a mere fact takes nobody's place");
    assert_eq!(timed.posts_after(Duration::ZERO), [("router a".to_owned(), true)], "and no mere fact");
    assert_eq!(timed.posts_after(SEEN_FOR - Duration::from_millis(1)), []);
    assert_eq!(timed.posts_after(Duration::from_millis(1)), [("router a".to_owned(), false)]);
    assert_eq!((timed.posts_after(10 * MINUTE), timed.outbox.waiting()), (vec![], 0));
}

#[tokio::test]
async fn a_router_that_is_elsewhere_is_alarmed_of_by_somebody_else_and_no_end_is_told_here() {
    let mut timed = Timed::new();
    for router in ["router a", "router b"] {
        timed.teller.stands(router, vec![told(router, Phase::Began, "not_saved")]);
    }
    assert_eq!(timed.posts_after(Duration::ZERO).len(), 2);
    timed.teller.is_seen("router a", Whereabouts::Elsewhere);
    timed.teller.is_seen("router b", Whereabouts::Away);
    assert_eq!(timed.posts_after(MINUTE), [("router b".to_owned(), true)]);
    timed.teller.is_seen("router b", Whereabouts::Here);
    assert_eq!(timed.posts_after(MINUTE), [("router b".to_owned(), true)]);
    assert_eq!(timed.teller.sources(), ["router b"]);
}
