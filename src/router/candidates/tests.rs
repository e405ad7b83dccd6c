//! The order in which controllers are tried, and who is left out.

use super::*;
use crate::router::samples::{CLUSTER, id, list_of};

fn known() -> Known {
    Known {
        cluster: Some(crate::domain::ids::ClusterId::from_u128(CLUSTER)),
        list: Some(Arc::new(list_of(CLUSTER, 9, &[2, 4]))),
        reserve: vec![Reserved { id: id(1), endpoints: vec![endpoint("http://10.0.0.1:7002")] }],
        previous: Some(Arc::new(list_of(CLUSTER, 5, &[1, 2, 3]))),
        hints: [endpoint("http://192.0.2.9:7002")].into(),
        seeds: vec![endpoint("http://192.0.2.1:7002"), endpoint("http://10.0.0.2:7002")],
        retired: BTreeSet::new(),
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn order(known: &Known, now: &Circumstances) -> Vec<String> {
    let candidates = known.candidates(now, || 0);
    candidates.iter().map(|candidate| format!("{} {}", candidate.tier, candidate.endpoint)).collect()
}

#[test]
fn held_then_reserve_then_previous_then_hints_and_seeds_last_and_no_endpoint_twice() {
    let mut tried = order(&known(), &Circumstances::default());
    tried[..2].sort();
    assert_eq!(
        tried,
        [
            "held http://10.0.0.2:7002",
            "held http://10.0.0.4:7002",
            "reserve http://10.0.0.1:7002",
            "previous http://10.0.0.3:7002",
            "hints http://192.0.2.9:7002",
            "seeds http://192.0.2.1:7002",
        ]
    );
}

#[test]
fn retired_controllers_are_not_tried_but_seeds_always_are() {
    let mut known = known();
    known.retired = [id(1), id(3)].into();
    known.seeds.push(endpoint("http://10.0.0.1:7002"));
    let tried = order(&known, &Circumstances::default());
    assert!(!tried.iter().any(|tried| tried.starts_with("reserve") || tried.starts_with("previous")), "{tried:?}");
    assert!(tried.contains(&"seeds http://10.0.0.1:7002".to_owned()), "{tried:?}");
}

#[test]
fn a_controller_that_another_session_is_on_is_left_out_under_every_name() {
    let now = Circumstances {
        busy: [id(2)].into(),
        aliases: [(endpoint("http://192.0.2.1:7002"), id(2))].into(),
        ..Circumstances::default()
    };
    let tried = order(&known(), &now);
    assert!(!tried.iter().any(|tried| tried.contains("10.0.0.2") || tried.contains("192.0.2.1")), "{tried:?}");
    assert!(tried.contains(&"held http://10.0.0.4:7002".to_owned()));
}

#[test]
fn what_failed_comes_later_within_its_tier_and_never_drops_out() {
    let now = Circumstances { failures: [(endpoint("http://10.0.0.2:7002"), 40)].into(), ..Circumstances::default() };
    let tried = order(&known(), &now);
    assert_eq!(tried[..2], ["held http://10.0.0.4:7002", "held http://10.0.0.2:7002"]);
}

#[test]
fn without_any_list_the_seeds_are_tried() {
    let known = Known { seeds: known().seeds, ..Known::default() };
    assert_eq!(known.candidates(&Circumstances::default(), || 0).len(), 2);
}
