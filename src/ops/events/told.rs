//! An event as it is passed on: plain, bounded texts that say who it is from. Pure.

use std::time::Duration;

use super::event::{FACTS_MAX, Subject};
use super::kind::Severity;
use super::ledger::{Phase, Recorded};

/// Longest sentence or hint of an event that is passed on, in characters.
pub const TEXT_CHARS_MAX: usize = 400;
/// Longest name or value of a fact, code or subject, in characters.
pub const NAME_CHARS_MAX: usize = 120;

/// An event that somebody tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which start of its process.
    pub instance: u64,
    /// Its number there.
    pub number: u64,
    /// Since 1970, by its clock.
    pub at: Duration,
    /// Whether it happened, began or is over.
    pub phase: Phase,
    /// How much it matters.
    pub severity: Severity,
    /// Stable name of its kind; one of a newer build may not be known here.
    pub code: String,
    /// Who raised it, as in `router edge-7`.
    pub source: String,
    /// Whom it is about.
    pub subject: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Names and values.
    pub facts: Vec<(String, String)>,
}

impl Told {
    /// Of an event of this process.
    #[must_use]
    pub fn of(recorded: &Recorded, instance: u64, source: &str) -> Self {
        let event = &recorded.event;
        let subject = match event.subject() {
            Subject::Itself => source.to_owned(),
            other => other.to_string(),
        };
        let facts = event.facts().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let told = Self {
            instance,
            number: recorded.number,
            at: recorded.at,
            phase: recorded.phase,
            severity: event.severity(),
            code: event.code().to_owned(),
            source: source.to_owned(),
            subject,
            message: event.to_string(),
            hint: event.hint().to_owned(),
            facts,
        };
        told.bounded()
    }

    /// The same within the limits: whatever others say, a page of events fits into a message.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for text in [&mut self.message, &mut self.hint] {
            *text = excerpt(text, TEXT_CHARS_MAX);
        }
        for name in [&mut self.code, &mut self.source, &mut self.subject] {
            *name = excerpt(name, NAME_CHARS_MAX);
        }
        self.facts.truncate(FACTS_MAX);
        for (name, value) in &mut self.facts {
            (*name, *value) = (excerpt(name, NAME_CHARS_MAX), excerpt(value, NAME_CHARS_MAX));
        }
        self
    }
}

/// The beginning, on one line.
fn excerpt(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
