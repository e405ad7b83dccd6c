//! What came of a run, and the same as JUnit XML. Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// What came of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The router did what it has to do.
    Pass,
    /// It did something else.
    Fail,
    /// It could not be tried.
    Skipped,
    /// It cannot be asked of such a router.
    NotApplicable,
}

impl Outcome {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// A case, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the case; `good-list` for the list that comes before all cases.
    pub case: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What a router has to do.
    pub expected: &'static str,
    /// What this one did, or why it was not tried.
    pub seen: String,
    /// How long it took.
    pub took: Duration,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The router's id.
    pub router: String,
    /// As it says itself.
    pub software: String,
    /// How it speaks.
    pub speaks: &'static str,
    /// In the order in which they were played.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether no case failed.
    #[must_use]
    pub fn conforms(&self) -> bool {
        self.count(Outcome::Fail) == 0
    }

    /// How many cases ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// As JUnit XML, for CI systems.
    #[must_use]
    pub fn junit(&self) -> String {
        let skipped = self.count(Outcome::Skipped) + self.count(Outcome::NotApplicable);
        let took: Duration = self.findings.iter().map(|finding| finding.took).sum();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"pilothouse conformance router {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\">\n",
            escaped(&self.router),
            self.findings.len(),
            self.count(Outcome::Fail),
            took.as_secs_f64(),
        );
        for finding in &self.findings {
            let (seen, expected) = (escaped(&finding.seen), escaped(finding.expected));
            let within = match finding.outcome {
                Outcome::Pass => format!("<system-out>{seen}</system-out>"),
                Outcome::Fail => format!("<failure message=\"{seen}\">expected: {expected}; seen: {seen}</failure>"),
                Outcome::Skipped => format!("<skipped message=\"{seen}\"/>"),
                Outcome::NotApplicable => format!("<skipped message=\"not applicable: {seen}\"/>"),
            };
            let seconds = finding.took.as_secs_f64();
            // Writing to a string does not fail.
            let _ = writeln!(
                xml,
                "  <testcase classname=\"conformance.router\" name=\"{}\" time=\"{seconds:.3}\">{within}</testcase>",
                finding.case
            );
        }
        xml + "</testsuite>\n"
    }
}

/// Text as it may stand in elements and attributes. What XML cannot say at all becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_router_says_cannot_break_the_file() {
        let finding = Finding {
            case: "empty-list",
            outcome: Outcome::Fail,
            expected: "refuses",
            seen: "Ack \"<&'>\" \u{0}".to_owned(),
            took: Duration::from_millis(1_500),
        };
        let passed = Finding { case: "silence", outcome: Outcome::Pass, ..finding.clone() };
        let report = Report {
            router: "<r>".to_owned(),
            software: String::new(),
            speaks: "protocol 2",
            findings: vec![finding, passed],
        };
        let xml = report.junit();
        assert!(!report.conforms());
        assert!(xml.contains("name=\"pilothouse conformance router &lt;r&gt;\" tests=\"2\" failures=\"1\""), "{xml}");
        assert!(
            xml.contains(
                "name=\"empty-list\" time=\"1.500\"><failure message=\"Ack &quot;&lt;&amp;&apos;&gt;&quot; ?\">"
            ),
            "{xml}"
        );
        assert_eq!(xml.matches('<').count(), xml.matches('>').count());
    }
}
