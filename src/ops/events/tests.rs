//! Events: what lasts, what is kept, what is said of each.

use prometheus_client::encoding::text::encode;

use super::ledger::Ledger;
use super::*;
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;

fn superseded(router: usize) -> Event {
    Event::SessionSuperseded { router: format!("edge-{router}") }
}

fn not_saved(message: &str) -> Event {
    Event::NotSaved { message: message.to_owned() }
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One of each kind, in the order of `Kind::ALL`.
pub(in crate::ops) fn one_of_each() -> Vec<Event> {
    let text = str::to_owned;
    vec![
        Event::OfferRefused {
            from: Subject::Controller("2".into()),
            at: text("http://10.0.0.2:7002"),
            reason: "stale",
            message: text("older"),
            hint: text("look at it"),
            late: false,
        },
        Event::FellBack { to: "reserve", message: text("nobody answers") },
        Event::RunningOnSeeds { first: false, message: text("nobody answers") },
        Event::NoControllerReachable { after: at(30), known: 3, held: None },
        Event::FileSetAside { path: text("/a/list"), kept_as: text("/a/list.rejected-1"), message: text("empty") },
        not_saved("full"),
        Event::PublicationWithheld { reason: "empty", message: text("empty") },
        Event::RouterRefused { router: text("edge-1"), reason: text("stale"), message: text("older"), late: false },
        superseded(1),
        Event::EnrolmentRefused { router: text("edge-1"), reason: "used", message: text("used"), hint: "make another" },
        Event::StateDiffers { controller: ControllerId::new(3).unwrap(), index: 9 },
        Event::UpgradeBlocked { level: FeatureLevel::ONE, message: text("3 is away"), hint: "start it" },
        Event::Removed,
        Event::CertificateReplaced { principal: text("spiffe://x/router/edge-1") },
        Event::CertificateUnusable { message: text("no key") },
        Event::CertificateExpires { certificate: "certificate", within: "within a day", over: false },
    ]
}

#[test]
fn every_kind_has_its_event_a_name_of_its_own_words_and_bounded_facts() {
    let events = one_of_each();
    assert_eq!(events.iter().map(Event::kind).collect::<Vec<_>>(), Kind::ALL);
    let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Kind::ALL.len());
    for event in events {
        assert!(!event.hint().is_empty() && !event.to_string().is_empty(), "{event:?}");
        assert!(!event.subject().to_string().is_empty(), "{event:?}");
        assert!(event.facts().len() <= FACTS_MAX, "{event:?}");
    }
}

#[test]
fn a_refusal_alarms_unless_it_was_only_late_and_a_disagreement_more_than_any() {
    let refused = |reason, late| {
        let (from, at) = (Subject::Controller("2".into()), "http://10.0.0.2:7002".into());
        Event::OfferRefused { from, at, reason, message: String::new(), hint: "look".into(), late }
    };
    assert_eq!(refused("stale", true).severity(), Severity::Info);
    assert_eq!(refused("stale", false).severity(), Severity::Warning);
    assert_eq!(refused("conflict", false).severity(), Severity::Error);
    assert_eq!(refused("stale", false).hint(), "look");
    assert!(refused("stale", true).hint().starts_with("nothing"));
    let told = |reason: &str, late| Event::RouterRefused {
        router: "edge-1".into(),
        reason: reason.into(),
        message: String::new(),
        late,
    };
    assert_eq!(told("stale", true).severity(), Severity::Info);
    assert_eq!(told("stale", false).severity(), Severity::Warning);
    assert_eq!(told("recovery_conflict", false).severity(), Severity::Error);
}

#[test]
fn a_condition_is_kept_when_it_begins_when_it_changes_and_once_when_it_is_over() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.raise(not_saved("full"), at(1)), Some(1));
    assert_eq!(ledger.raise(not_saved("full"), at(2)), None);
    assert_eq!(ledger.raise(not_saved("read only"), at(3)), Some(2));
    let lasting = ledger.lasting();
    assert_eq!((lasting.len(), lasting[0].at, &lasting[0].event), (1, at(1), &not_saved("read only")));
    assert_eq!(ledger.lasting_of(Kind::NotSaved), 1);

    assert_eq!(ledger.resolve(Kind::FellBack, &Subject::Itself, at(4)), None);
    assert_eq!(ledger.resolve(Kind::NotSaved, &Subject::Router("edge-1".into()), at(4)), None);
    assert_eq!(ledger.resolve(Kind::NotSaved, &Subject::Itself, at(4)).unwrap().number, 3);
    assert_eq!(ledger.resolve(Kind::NotSaved, &Subject::Itself, at(5)), None);
    assert!(ledger.lasting().is_empty());
    let phases: Vec<_> = ledger.after(0).events.iter().map(|kept| kept.phase).collect();
    assert_eq!(phases, [Phase::Began, Phase::Began, Phase::Over]);
    // It may begin again.
    assert_eq!(ledger.raise(not_saved("read only"), at(6)), Some(4));
    assert_eq!(ledger.lasting()[0].at, at(6));
}

#[test]
fn what_happens_once_is_kept_each_time_and_never_lasts() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.raise(superseded(1), at(1)), Some(1));
    assert_eq!(ledger.raise(superseded(1), at(2)), Some(2));
    assert!(ledger.lasting().is_empty());
    assert_eq!(ledger.resolve(Kind::SessionSuperseded, &Subject::Router("edge-1".into()), at(3)), None);
    assert!(ledger.after(0).events.iter().all(|kept| kept.phase == Phase::Once));
}

#[test]
fn what_happens_often_pushes_out_nothing_but_itself() {
    let mut ledger = Ledger::default();
    let at = Duration::from_secs(1);
    ledger.raise(Event::SessionSuperseded { router: "edge-1".into() }, at);
    let guessed = |number: usize| Event::EnrolmentRefused {
        router: format!("edge-{number}"),
        reason: "token_unknown",
        message: "nobody made it".into(),
        hint: "ask for one",
    };
    for number in 0..2 * EVENTS_KEPT_MAX {
        ledger.raise(guessed(number), at);
    }
    let all = ledger.after(0);
    assert_eq!((all.events.len(), all.dropped as usize), (EVENTS_KEPT_MAX, EVENTS_KEPT_MAX + 1));
    assert!(matches!(all.events[0].event, Event::SessionSuperseded { .. }));
    let newest = 2 * EVENTS_KEPT_MAX as u64 + 1;
    assert_eq!(all.events.last().map(|kept| kept.number), Some(newest), "the oldest of its own went");
    assert_eq!(ledger.after(newest - 1).dropped, 0);
}

#[test]
fn the_ring_keeps_the_newest_and_says_how_many_are_gone() {
    let mut ledger = Ledger::default();
    for number in 0..EVENTS_KEPT_MAX + 3 {
        ledger.raise(superseded(number), at(1));
    }
    let all = ledger.after(0);
    assert_eq!((all.events.len(), all.dropped, all.events[0].number), (EVENTS_KEPT_MAX, 3, 4));
    let some = ledger.after(2);
    assert_eq!((some.events.len(), some.dropped), (EVENTS_KEPT_MAX, 1));
    let rest = ledger.after(EVENTS_KEPT_MAX as u64 + 1);
    assert_eq!((rest.events.len(), rest.dropped), (2, 0));
    // A number of an earlier start of the process, which had come further.
    assert_eq!(ledger.after(1_000_000), Page::default());
}

#[test]
fn only_so_many_conditions_last_and_all_are_kept() {
    let mut ledger = Ledger::default();
    let expires = |certificate, within| Event::CertificateExpires { certificate, within, over: false };
    for number in 0..=LASTING_MAX {
        let name: &'static str = format!("certificate-{number}").leak();
        assert!(ledger.raise(expires(name, "soon"), at(1)).is_some());
    }
    assert_eq!(ledger.lasting().len(), LASTING_MAX);
    assert_eq!(ledger.after(0).events.len(), LASTING_MAX + 1);
    // Those that last can still change and be over.
    assert!(ledger.raise(expires("certificate-0", "now"), at(2)).is_some());
    assert_eq!(ledger.lasting().len(), LASTING_MAX);
    assert!(ledger.resolve(Kind::CertificateExpires, &Subject::Certificate("certificate-0".into()), at(3)).is_some());
}

#[test]
fn events_are_counted_and_whoever_follows_hears_of_each() {
    let mut registry = Registry::default();
    let events = Events::new(&mut registry);
    let newest = events.newest();
    assert_eq!((*newest.borrow(), events.instance() == Events::default().instance()), (0, false));
    events.raise(not_saved("full"));
    events.raise(not_saved("full"));
    assert_eq!(*newest.borrow(), 1);
    let metrics = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    assert!(metrics().contains("pilothouse_events_total{kind=\"not_saved\"} 2"), "{}", metrics());
    assert!(metrics().contains("pilothouse_events_lasting{kind=\"not_saved\"} 1"), "{}", metrics());
    events.resolve(Kind::NotSaved, &Subject::Itself);
    events.resolve(Kind::NotSaved, &Subject::Itself);
    assert_eq!(*newest.borrow(), 2);
    assert!(metrics().contains("pilothouse_events_lasting{kind=\"not_saved\"} 0"), "{}", metrics());
    assert_eq!((events.kept().len(), events.after(1).events.len(), events.lasting().len()), (2, 1, 0));
}
