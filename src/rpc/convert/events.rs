//! Events as routers report them and controllers pass them on, between wire and what is kept.

use std::time::Duration;

use crate::ops::events::{Page, Phase, Recorded, Severity, Told};
use crate::proto::admin;
use crate::proto::router as wire;

/// The capability of taking a router's events: without it nobody is sent a message that he would not know.
pub const CAPABILITY: &str = "events";
/// Most events in one report: with the longest texts it stays within 256 KiB.
pub const EVENTS_PER_REPORT_MAX: usize = 16;

/// A router's report of what comes first; `None` when there is nothing to tell.
#[must_use]
pub fn report(page: &Page, instance: u64, source: &str) -> Option<wire::EventReport> {
    let first = page.events.iter().take(EVENTS_PER_REPORT_MAX);
    let events: Vec<_> = first.map(|recorded| to_wire(Told::of(recorded, instance, source))).collect();
    let told = !events.is_empty() || page.dropped > 0;
    told.then_some(wire::EventReport { instance, dropped: page.dropped, events })
}

/// What a router reported, in the name of its session and of nobody else.
#[must_use]
pub fn reported(report: wire::EventReport, source: &str) -> Vec<Told> {
    let instance = report.instance;
    let first = report.events.into_iter().take(EVENTS_PER_REPORT_MAX);
    first.filter_map(|event| from_wire(event, instance, source)).collect()
}

/// All that lasts on a router, as its heartbeat tells it. A router has fewer conditions than a report has room for.
#[must_use]
pub fn conditions(lasting: &[Recorded], instance: u64, source: &str) -> wire::Conditions {
    let first = lasting.iter().take(EVENTS_PER_REPORT_MAX);
    let events = first.map(|recorded| to_wire(Told::of(recorded, instance, source))).collect();
    wire::Conditions { instance, events }
}

/// What a router says of what lasts there, in the name of its session and of nobody else.
#[must_use]
pub fn standing(conditions: wire::Conditions, source: &str) -> Vec<Told> {
    let wire::Conditions { instance, events } = conditions;
    reported(wire::EventReport { instance, dropped: 0, events }, source)
}

/// An event with who reported it.
#[must_use]
pub fn to_admin(told: Told, reported_by: u64) -> admin::Event {
    let (instance, source) = (told.instance, told.source.clone());
    admin::Event { instance, source, reported_by, told: Some(to_wire(told)) }
}

fn to_wire(told: Told) -> wire::ReportedEvent {
    wire::ReportedEvent {
        number: told.number,
        at_ms: u64::try_from(told.at.as_millis()).unwrap_or(u64::MAX),
        phase: told.phase.as_str().to_owned(),
        severity: told.severity.as_str().to_owned(),
        code: told.code,
        subject: told.subject,
        message: told.message,
        hint: told.hint,
        facts: told.facts.into_iter().map(|(name, value)| wire::Fact { name, value }).collect(),
    }
}

/// `None`: it says nothing that could be shown.
fn from_wire(event: wire::ReportedEvent, instance: u64, source: &str) -> Option<Told> {
    let told = Told {
        instance,
        number: Some(event.number).filter(|number| *number > 0)?,
        at: Duration::from_millis(event.at_ms),
        // Words of a newer build: that something happened is worth more than nothing.
        phase: Phase::from_name(&event.phase).unwrap_or(Phase::Once),
        severity: Severity::from_name(&event.severity).unwrap_or(Severity::Warning),
        code: Some(event.code).filter(|code| !code.is_empty())?,
        source: source.to_owned(),
        subject: event.subject,
        message: event.message,
        hint: event.hint,
        facts: event.facts.into_iter().map(|fact| (fact.name, fact.value)).collect(),
    };
    Some(told.bounded())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::ops::events::{Event, Recorded};

    fn page(count: u64, message: &str) -> Page {
        let event = Event::FileSetAside { path: message.into(), kept_as: message.into(), message: message.into() };
        let at = Duration::from_secs(9);
        let recorded = |number| Recorded { number, at, phase: Phase::Once, event: event.clone() };
        Page { events: (1..=count).map(recorded).collect(), dropped: 0 }
    }

    #[test]
    fn what_is_reported_is_what_was_raised() {
        let page = page(2, "empty");
        let report = report(&page, 7, "router edge-1").unwrap();
        let told = reported(report, "router edge-1");
        assert_eq!(told, page.events.iter().map(|one| Told::of(one, 7, "router edge-1")).collect::<Vec<_>>());
        assert_eq!(super::report(&Page::default(), 7, "router edge-1"), None);
        assert!(super::report(&Page { dropped: 1, ..Page::default() }, 7, "router edge-1").is_some());
    }

    #[test]
    fn a_report_is_bounded_whatever_it_tells() {
        let report = report(&page(100, &"é".repeat(100_000)), 7, "router edge-1").unwrap();
        assert_eq!(report.events.len(), EVENTS_PER_REPORT_MAX);
        assert!(report.encoded_len() < 256 * 1024, "{}", report.encoded_len());
    }

    #[test]
    fn what_lasts_is_told_as_it_began_and_bounded() {
        let lasting = Recorded { phase: Phase::Began, ..page(1, "full").events[0].clone() };
        let told = standing(conditions(std::slice::from_ref(&lasting), 7, "router edge-1"), "router edge-1");
        assert_eq!(told, [Told::of(&lasting, 7, "router edge-1")]);
        let many = conditions(&page(100, &"é".repeat(100_000)).events, 7, "router edge-1");
        assert_eq!(many.events.len(), EVENTS_PER_REPORT_MAX);
        assert!(many.encoded_len() < 200 * 1024, "{}: the heartbeat around it has room, too", many.encoded_len());
    }

    #[test]
    fn what_a_router_says_is_its_own_and_bounded() {
        let fact = wire::Fact { name: "x".repeat(9_999), value: "y".repeat(9_999) };
        let event = wire::ReportedEvent {
            number: 1,
            code: "of_a_newer_build".into(),
            severity: "catastrophic".into(),
            message: "z".repeat(9_999),
            facts: vec![fact; 99],
            ..wire::ReportedEvent::default()
        };
        let nothing = wire::ReportedEvent::default();
        let events = vec![event, nothing];
        let told = reported(wire::EventReport { instance: 7, dropped: 0, events }, "router edge-1");
        assert_eq!((told.len(), told[0].source.as_str(), told[0].severity), (1, "router edge-1", Severity::Warning));
        assert!(told[0].message.len() == 400 && told[0].facts.len() == 8 && told[0].facts[0].1.len() == 120);
    }
}
