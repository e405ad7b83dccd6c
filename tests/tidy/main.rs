//! House rules as a test: what a reviewer would otherwise have to look for in every change.
//!
//! One rule, one function in [`rules`]; what is excused stands in [`exceptions`] by name, with its reason. The rules
//! are tested themselves, on small bad samples.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod exceptions;
mod readme;
mod rules;
mod samples;
mod scripts;
mod source;
mod wire;

use exceptions::EXCEPTIONS;
use rules::{Finding, RULES};

#[test]
fn the_house_rules_hold() {
    let sources = source::all();
    let findings: Vec<Finding> = RULES.iter().flat_map(|(_, rule)| sources.iter().flat_map(rule)).collect();
    let excused =
        |finding: &&Finding| EXCEPTIONS.iter().any(|(rule, path, _)| finding.rule == *rule && finding.path == *path);
    let broken: Vec<String> = findings
        .iter()
        .filter(|finding| !excused(finding))
        .map(|finding| format!("{}:{}: [{}] {}", finding.path, finding.line, finding.rule, finding.message))
        .collect();
    assert!(broken.is_empty(), "{} house rules are broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = source::all();
    for (name, path, reason) in EXCEPTIONS {
        let (_, rule) = RULES.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no rule {name}"));
        let source = sources.iter().find(|source| source.path == *path).unwrap_or_else(|| panic!("no file {path}"));
        assert!(!rule(source).is_empty(), "{path} does not break {name} any more: strike the exception ({reason})");
        assert!(reason.len() > 20, "say why {path} is excused from {name}");
    }
}
