//! `conformance router`: what a router did, a line a case.

use super::table::{Table, facts};
use crate::cli::console::Tone;
use crate::conformance::{Outcome, Report};

/// A report for people.
#[must_use]
pub fn table(report: &Report, colour: bool) -> String {
    let mut findings = Table::new(&["CASE", "OUTCOME", "EXPECTED", "SEEN"]);
    for finding in &report.findings {
        let tone = match finding.outcome {
            Outcome::Fail => Tone::Bad,
            Outcome::Skipped => Tone::Doubtful,
            Outcome::Pass | Outcome::NotApplicable => Tone::Plain,
        };
        let cells = [finding.case, finding.outcome.words(), finding.expected, &finding.seen];
        findings.row(tone, cells.map(str::to_owned).into());
    }
    let counted = [Outcome::Pass, Outcome::Fail, Outcome::Skipped, Outcome::NotApplicable]
        .map(|outcome| format!("{} {}", report.count(outcome), outcome.words().to_lowercase()));
    let head = facts(&[
        ("router", format!("{} ({})", report.router, report.software)),
        ("speaks", report.speaks.to_owned()),
        ("cases", counted.join(", ")),
    ]);
    format!("{head}\n{}", findings.render(colour))
}
