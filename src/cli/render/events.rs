//! `events`. Field names of the JSON are stable.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::table::Table;
use crate::cli::console::{Tone, paint};
use crate::ops::events::{Phase, Severity};
use crate::proto::admin;

/// What happened, as `events -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// In order of time.
    pub events: Vec<Happening>,
    /// Controllers whose events are not known.
    pub not_asked: Vec<NotAsked>,
    /// How many were not kept long enough to be shown.
    pub dropped: u64,
}

/// A controller whose events are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotAsked {
    /// Which.
    pub controller: u64,
    /// Why.
    pub why: String,
}

/// An event, as `events --follow -o json` prints it on a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// RFC 3339, by the clock of who raised it.
    pub time: String,
    /// The same, milliseconds since 1970.
    pub at_ms: u64,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// `once`, `began` or `over`.
    pub phase: String,
    /// Stable name.
    pub code: String,
    /// Who raised it.
    pub source: String,
    /// Whom or what it is about.
    pub subject: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Names and values.
    pub facts: BTreeMap<String, String>,
    /// The controller that told it.
    pub reported_by: u64,
    /// Which start of its process, and its number there: together with the source its name.
    pub instance: String,
    /// From 1, rising.
    pub number: u64,
}

impl Happening {
    fn of(event: admin::Event) -> Option<Self> {
        let told = event.told?;
        Some(Self {
            time: rfc3339(told.at_ms),
            at_ms: told.at_ms,
            severity: told.severity,
            phase: told.phase,
            code: told.code,
            source: event.source,
            subject: told.subject,
            message: told.message,
            hint: told.hint,
            facts: told.facts.into_iter().map(|fact| (fact.name, fact.value)).collect(),
            reported_by: event.reported_by,
            instance: format!("{:016x}", event.instance),
            number: told.number,
        })
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Over.as_str()
    }

    fn tone(&self) -> Tone {
        match Severity::from_name(&self.severity) {
            _ if self.is_over() => Tone::Plain,
            Some(Severity::Error) => Tone::Bad,
            Some(Severity::Warning) => Tone::Doubtful,
            _ => Tone::Plain,
        }
    }

    /// A controller that tells its own events need not be named twice.
    fn who(&self) -> String {
        let own = self.source == format!("controller {}", self.reported_by);
        if own { self.source.clone() } else { format!("{} (told by {})", self.source, self.reported_by) }
    }

    fn what(&self) -> String {
        if self.is_over() { format!("over: {}", self.message) } else { self.message.clone() }
    }
}

/// Everything that matters at least so much, in order of time.
#[must_use]
pub fn gathered(told: Vec<admin::EventsResponse>, least: Severity) -> Happened {
    let mut happened = Happened { events: Vec::new(), not_asked: Vec::new(), dropped: 0 };
    for told in told {
        let matters = |event: &Happening| Severity::from_name(&event.severity).is_none_or(|severity| severity >= least);
        happened.events.extend(told.events.into_iter().filter_map(Happening::of).filter(matters));
        let gaps = told.not_asked.into_iter().map(|gap| NotAsked { controller: gap.controller, why: gap.why });
        happened.not_asked = gaps.collect();
        happened.dropped += told.dropped;
    }
    happened.events.sort_by_key(|event| event.at_ms);
    happened
}

/// A line an event, with a header.
#[must_use]
pub fn table(events: &[Happening], colour: bool) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["TIME", "SEVERITY", "WHO", "WHAT", "HINT"]);
    for event in events {
        let cells = [event.time.clone(), event.severity.clone(), event.who(), event.what(), event.hint.clone()];
        table.row(event.tone(), cells.into());
    }
    table.render(colour)
}

/// An event as it comes: how wide the columns of later ones are nobody knows.
#[must_use]
pub fn line(event: &Happening, colour: bool) -> String {
    let text = format!("{}  {:7}  {}  {}", event.time, event.severity, event.who(), event.what());
    let hint = if event.is_over() { String::new() } else { format!("  (hint: {})", event.hint) };
    paint(colour, event.tone(), &(text + &hint).replace(char::is_control, " ")) + "\n"
}

fn rfc3339(at_ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::{golden, json, json_line};
    use crate::proto::router::{Fact, ReportedEvent};

    fn event(at_ms: u64, severity: &str, phase: &str, source: &str) -> admin::Event {
        let told = ReportedEvent {
            number: at_ms,
            at_ms: 1_700_000_000_000 + at_ms,
            phase: phase.into(),
            severity: severity.into(),
            code: "not_saved".into(),
            subject: source.into(),
            message: "adopted a list in memory only: the disk\nis full".into(),
            hint: "free space".into(),
            facts: vec![Fact { name: "disk".into(), value: "full".into() }],
        };
        admin::Event { instance: 0xab, source: source.into(), reported_by: 2, told: Some(told) }
    }

    fn told() -> Vec<admin::EventsResponse> {
        let gap = admin::NotAsked { controller: 3, why: "its build is older and tells no events".into() };
        let (late, early) =
            (event(9_000, "error", "over", "router edge-1"), event(1_000, "error", "began", "router edge-1"));
        let first = admin::EventsResponse { events: vec![late], not_asked: vec![gap.clone()], dropped: 4 };
        let own = event(2_000, "info", "once", "controller 2");
        vec![first, admin::EventsResponse { events: vec![own, early], not_asked: vec![gap], dropped: 0 }]
    }

    #[test]
    fn what_happened_is_shown_in_order_of_time() {
        let happened = gathered(told(), Severity::Info);
        golden("events.txt", &table(&happened.events, false));
        golden("events.json", &json(&happened));
        assert_eq!(table(&[], false), "");
    }

    #[test]
    fn what_matters_less_is_left_out() {
        let sources =
            |least| gathered(told(), least).events.iter().map(|event| event.at_ms % 10_000).collect::<Vec<_>>();
        assert_eq!(sources(Severity::Info), [1_000, 2_000, 9_000]);
        assert_eq!(sources(Severity::Warning), [1_000, 9_000]);
    }

    #[test]
    fn an_event_that_is_followed_is_one_line_whatever_it_says() {
        let happened = gathered(told(), Severity::Info);
        for event in &happened.events {
            assert_eq!(line(event, false).matches('\n').count(), 1);
            assert_eq!(json_line(event).matches('\n').count(), 1);
        }
        assert_eq!(
            line(&happened.events[0], false),
            "2023-11-14T22:13:21Z  error    router edge-1 (told by 2)  adopted a list in memory only: the disk is full  \
             (hint: free space)\n"
        );
    }
}
