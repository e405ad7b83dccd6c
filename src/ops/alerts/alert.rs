//! What is alarmed, and how it looks at the Alertmanager. Pure.
//!
//! Labels are the name of an alert there: whatever changes while it lasts stands in the annotations. The severity is a
//! label, since people route by it; a condition that gets worse is another alert, and the milder one is over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::AlertsConfig;
use crate::ops::events::Told;

/// Longest value of a label or annotation, in characters: hostile words of others end up here.
const TEXT_CHARS_MAX: usize = 400;

/// Whose events are alarmed.
#[derive(Clone)]
pub struct Who {
    /// As in `router edge-7`.
    pub instance: String,
    /// The cluster, once it is known.
    pub cluster: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Who").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// An alert. What it says of its end is added when it is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub labels: BTreeMap<String, String>,
    /// What people read.
    pub annotations: BTreeMap<String, String>,
    /// When it happened or began, since 1970.
    pub starts_at: Duration,
}

/// The alert of an event, whoever told it, if anybody has to know.
#[must_use]
pub(super) fn alert(told: &Told, who: &Who, config: &AlertsConfig) -> Option<Alert> {
    if told.severity < config.severity {
        return None;
    }
    let mut labels = config.labels.clone();
    labels.extend(
        [
            ("alertname", camel_case(&told.code)),
            ("severity", told.severity.as_str().to_owned()),
            ("subject", told.subject.clone()),
            ("instance", told.source.clone()),
            ("cluster", (who.cluster)().unwrap_or_else(|| "unknown".to_owned())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let facts = told.facts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let mut annotations: BTreeMap<String, String> = [
        ("summary", format!("{}: {}", told.source, told.message)),
        ("description", told.message.clone()),
        ("hint", told.hint.clone()),
        ("facts", facts.join(" ")),
    ]
    .map(|(name, value)| (name.to_owned(), bounded(&value)))
    .into();
    annotations.retain(|_, value| !value.is_empty());
    Some(Alert { labels, annotations, starts_at: told.at })
}

/// `offer_refused` as `OfferRefused`: as alerts are called there. A router may say anything.
fn camel_case(code: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars().filter(char::is_ascii_alphanumeric);
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + &String::from_iter(letters))
    };
    let name: String = code.split('_').map(capital).collect();
    if name.is_empty() { "Event".to_owned() } else { name }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::events::{Event, Phase, Recorded, Severity, Subject};

    fn of(event: Event) -> Option<Alert> {
        let who = Who { instance: "router edge-7".into(), cluster: Arc::new(|| Some("c".into())) };
        let mut config = AlertsConfig::to("http://127.0.0.1:9093".parse().unwrap());
        config.labels = [("team".to_owned(), "edge".to_owned())].into();
        let recorded = Recorded { number: 1, at: Duration::from_secs(9), phase: Phase::Once, event };
        alert(&Told::of(&recorded, 7, &who.instance), &who, &config)
    }

    #[test]
    fn an_alert_says_who_what_and_what_to_do() {
        let alert = of(Event::NotSaved { message: "the disk\nis full".into() }).unwrap();
        let labels: Vec<_> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            labels,
            [
                "alertname=NotSaved",
                "cluster=c",
                "instance=router edge-7",
                "severity=error",
                "subject=router edge-7",
                "team=edge"
            ]
        );
        assert_eq!(alert.annotations["summary"], "router edge-7: adopted a list in memory only: the disk is full");
        assert!(alert.annotations["hint"].starts_with("free space"));
        assert_eq!(alert.starts_at, Duration::from_secs(9));
    }

    #[test]
    fn what_matters_less_than_is_asked_for_alarms_nobody() {
        assert!(of(Event::Removed).is_none());
        assert_eq!(Event::Removed.severity(), Severity::Info);
        let refused = |late| Event::OfferRefused {
            from: Subject::Controller("2".into()),
            at: "http://10.0.0.2:7002".into(),
            reason: "stale",
            message: "older".into(),
            hint: "look".into(),
            late,
        };
        assert!(of(refused(true)).is_none());
        let alert = of(refused(false)).unwrap();
        assert_eq!((&*alert.labels["subject"], &*alert.labels["severity"]), ("controller 2", "warning"));
        assert_eq!(alert.annotations["facts"], "from=controller 2 at=http://10.0.0.2:7002 reason=stale late=false");
    }

    #[test]
    fn whatever_a_router_calls_its_event_becomes_a_name() {
        let names = ["offer_refused", "", "__", "é_ü", "ärger_mit_x", "a\"b{c}"].map(camel_case);
        assert_eq!(names, ["OfferRefused", "Event", "Event", "Event", "RgerMitX", "Abc"]);
    }

    #[test]
    fn the_words_of_others_are_bounded() {
        let alert = of(Event::NotSaved { message: "é".repeat(100_000) }).unwrap();
        assert!(alert.annotations.values().all(|value| value.chars().count() <= TEXT_CHARS_MAX));
    }
}
