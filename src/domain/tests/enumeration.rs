//! Every refusal there is: a stable code of its own, a hint, and a place in the transcripts.

use std::collections::BTreeSet;

use crate::domain::command::RegistrationRefusal;
use crate::domain::{acceptance, membership, samples};

const OFFERS: &str = include_str!("../../../tests/data/transcripts/offers.txt");
const PLANS: &str = include_str!("../../../tests/data/transcripts/plans.txt");
const REGISTRATIONS: &str = include_str!("../../../tests/data/transcripts/registrations.txt");

fn codes_are_names(codes: &[&str]) {
    let distinct: BTreeSet<_> = codes.iter().collect();
    assert_eq!(distinct.len(), codes.len(), "two refusals share a code: {codes:?}");
    for code in codes {
        assert!(!code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()));
    }
}

/// Which codes this transcript does not show: each enum has its own, since they share names.
fn unseen(codes: &[&str], transcript: &str) -> Vec<String> {
    let seen = |code: &str| {
        let answers = [format!("refuse ({code}): "), format!("refused ({code}): ")];
        answers.iter().any(|answer| transcript.contains(answer))
    };
    codes.iter().filter(|code| !seen(code)).map(ToString::to_string).collect()
}

/// Says what to do: a sentence, not a word.
fn is_actionable(hint: &str) -> bool {
    hint.split_whitespace().count() >= 3
}

#[test]
fn every_refusal_of_an_offer_has_a_code_a_hint_and_a_transcript() {
    let refusals = acceptance::samples();
    let codes: Vec<_> = refusals.iter().map(acceptance::Refusal::code).collect();
    codes_are_names(&codes);
    assert!(refusals.iter().all(|refusal| is_actionable(&refusal.hint()) && !refusal.to_string().is_empty()));
    assert_eq!(unseen(&codes, OFFERS), Vec::<String>::new());
}

#[test]
fn every_refusal_of_a_change_has_a_code_a_hint_and_a_transcript() {
    let refusals = samples::plan_refusals();
    let codes: Vec<_> = refusals.iter().map(membership::Refusal::code).collect();
    codes_are_names(&codes);
    assert!(refusals.iter().all(|refusal| is_actionable(refusal.hint()) && !refusal.to_string().is_empty()));
    assert_eq!(unseen(&codes, PLANS), Vec::<String>::new());
}

#[test]
fn every_refusal_of_a_registration_has_a_code_and_a_transcript() {
    let refusals = samples::registration_refusals();
    let codes: Vec<_> = refusals.iter().map(RegistrationRefusal::code).collect();
    codes_are_names(&codes);
    assert_eq!(unseen(&codes, REGISTRATIONS), Vec::<String>::new());
}
