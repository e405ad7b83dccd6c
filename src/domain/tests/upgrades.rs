//! Raising the feature level: what the log refuses, what the moment forbids, and what it does to routers.

use std::collections::BTreeMap;

use super::fixtures::{id, identity, member, membership};
use crate::domain::agreement::Agreement;
use crate::domain::command::{Change, Command, CommandRefusal, Outcome};
use crate::domain::feature::{Announcement, FeatureLevel};
use crate::domain::ids::ControllerId;
use crate::domain::membership::Membership;
use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
use crate::domain::state::{ClusterState, LogPosition};
use crate::domain::upgrade::{Blocker, Misfit, RouterEffect, Sight, blockers, newest, router_effect};

fn build(n: u64, level_max: FeatureLevel) -> Announcement {
    Announcement {
        controller: id(n),
        incarnation: member(n).incarnation,
        software_version: format!("0.{level_max}.0"),
        level_min: FeatureLevel::ONE,
        level_max,
        protocols: ProtocolRange::SUPPORTED,
    }
}

fn apply(state: &mut ClusterState, change: Change) -> Outcome {
    let index = state.applied.map_or(0, |applied| applied.index + 1);
    state.apply(LogPosition { term: 1, index }, &Command { time_ms: 1, change })
}

/// A founded cluster whose members have announced builds of these levels; 0: not yet.
fn cluster(membership: Membership, announced: &[(u64, u32)]) -> ClusterState {
    let mut state = ClusterState::default();
    state.apply_membership(LogPosition { term: 1, index: 0 }, membership);
    apply(&mut state, Change::Found { identity: identity(), level: FeatureLevel::ONE });
    for (n, level) in announced {
        if let Some(level) = FeatureLevel::new(*level) {
            assert_eq!(apply(&mut state, Change::Announce(build(*n, level))), Outcome::Done);
        }
    }
    state
}

fn three(levels: [u32; 3]) -> ClusterState {
    cluster(membership(&[&[1, 2, 3]], &[]), &[(1, levels[0]), (2, levels[1]), (3, levels[2])])
}

/// All members answer with what they announced, and agree.
fn all_well(state: &ClusterState) -> BTreeMap<ControllerId, Sight> {
    let sight = |build: &Announcement| Sight { runs: Some(build.clone()), agreement: Agreement::Equal { index: 5 } };
    state.announcements.iter().map(|(id, build)| (*id, sight(build))).collect()
}

#[test]
fn a_level_is_raised_once_every_member_has_announced_a_build_that_reads_it() {
    let mut state = three([3, 3, 2]);
    let refused = CommandRefusal::CannotRead { controller: id(3), level: FeatureLevel::THREE };
    assert_eq!(apply(&mut state, Change::Raise(FeatureLevel::THREE)), Outcome::Refused(refused));
    assert_eq!(state.level, Some(FeatureLevel::ONE));

    apply(&mut state, Change::Announce(build(3, FeatureLevel::THREE)));
    assert_eq!(apply(&mut state, Change::Raise(FeatureLevel::THREE)), Outcome::Raised(FeatureLevel::THREE));
    assert_eq!(state.level, Some(FeatureLevel::THREE));
    assert_eq!(apply(&mut state, Change::Raise(FeatureLevel::TWO)), Outcome::Raised(FeatureLevel::THREE), "never back");
    assert_eq!(state.level, Some(FeatureLevel::THREE));
}

#[test]
fn a_member_that_has_said_nothing_may_run_anything() {
    let with_learner = |level| cluster(membership(&[&[1, 2, 3]], &[4]), &[(1, 3), (2, 3), (3, 3), (4, level)]);
    let refused = CommandRefusal::CannotRead { controller: id(4), level: FeatureLevel::THREE };
    assert_eq!(with_learner(0).judge_raise(FeatureLevel::THREE), Err(refused));
    assert_eq!(with_learner(2).judge_raise(FeatureLevel::THREE), Err(refused), "learners read as well");
    assert_eq!(with_learner(3).judge_raise(FeatureLevel::THREE), Ok(FeatureLevel::THREE));
}

#[test]
fn both_sides_of_a_joint_change_count() {
    let joint = cluster(membership(&[&[1, 2], &[2, 3]], &[]), &[(1, 2), (2, 3), (3, 3)]);
    assert!(matches!(joint.judge_raise(FeatureLevel::THREE), Err(CommandRefusal::CannotRead { .. })));
}

#[test]
fn what_is_not_founded_has_no_level() {
    let mut state = ClusterState::default();
    state.apply_membership(LogPosition { term: 1, index: 0 }, membership(&[&[1]], &[]));
    let refused = CommandRefusal::NoLevel { level: FeatureLevel::THREE };
    assert_eq!(apply(&mut state, Change::Raise(FeatureLevel::THREE)), Outcome::Refused(refused));
}

#[test]
fn from_level_3_on_a_build_that_cannot_read_it_is_not_announced_and_before_it_is() {
    let older = || Change::Announce(build(2, FeatureLevel::TWO));
    let mut state = three([3, 3, 3]);
    assert_eq!(apply(&mut state, older()), Outcome::Done, "until it is finalized the older build may come back");
    apply(&mut state, Change::Announce(build(2, FeatureLevel::THREE)));
    apply(&mut state, Change::Raise(FeatureLevel::THREE));
    let (min, max, level) = (FeatureLevel::ONE, FeatureLevel::TWO, FeatureLevel::THREE);
    assert_eq!(apply(&mut state, older()), Outcome::Refused(CommandRefusal::OutsideLevel { min, max, level }));

    let too_new = Announcement { level_min: FeatureLevel::new(4).unwrap(), ..build(2, FeatureLevel::new(5).unwrap()) };
    assert!(matches!(apply(&mut state, Change::Announce(too_new)), Outcome::Refused(_)));
}

#[test]
fn nobody_is_raised_by_an_entry_that_a_member_cannot_read() {
    let state = three([3, 2, 3]);
    let refused = CommandRefusal::CannotRead { controller: id(2), level: FeatureLevel::THREE };
    assert_eq!(state.judge_raise(FeatureLevel::TWO), Err(refused), "it reads level 2, and no raises");
    let blocked = blockers(&state, FeatureLevel::TWO, &all_well(&state));
    assert!(matches!(blocked[..], [Blocker::CannotRead { .. }]), "{blocked:?}");
}

#[test]
fn an_entry_that_raises_needs_a_build_that_knows_raises() {
    assert_eq!(Change::Raise(FeatureLevel::TWO).level(), FeatureLevel::THREE);
    let later = FeatureLevel::new(7).unwrap();
    assert_eq!(Change::Raise(later).level(), later);
}

#[test]
fn nothing_is_in_the_way_when_all_answer_with_what_they_announced_and_agree() {
    let state = three([3, 3, 3]);
    assert_eq!(blockers(&state, FeatureLevel::THREE, &all_well(&state)), []);
}

#[test]
fn each_thing_in_the_way_is_named_once_for_each_member() {
    let state = three([3, 3, 3]);
    let with = |n: u64, sight: Option<Sight>| {
        let mut seen = all_well(&state);
        seen.remove(&id(n));
        seen.extend(sight.map(|sight| (id(n), sight)));
        blockers(&state, FeatureLevel::THREE, &seen)
    };
    let equal = Agreement::Equal { index: 5 };
    let runs = |build: Announcement, agreement| Some(Sight { runs: Some(build), agreement });
    let (controller, version) = (id(2), "0.2.0".to_owned());
    assert_eq!(with(2, None), [Blocker::Down { controller }]);
    assert_eq!(with(2, Some(Sight { runs: None, agreement: equal })), [Blocker::Down { controller }]);
    // The older build came back after the newer one had announced itself.
    let (min, max) = (FeatureLevel::ONE, FeatureLevel::TWO);
    let expected = [Blocker::CannotRead { controller, version, min, max }];
    assert_eq!(with(2, runs(build(2, FeatureLevel::TWO), equal)), expected);
    let newer = Announcement { software_version: "0.9.0".into(), ..build(2, FeatureLevel::THREE) };
    let expected = [Blocker::NotAnnounced { controller, version: "0.9.0".into() }];
    assert_eq!(with(2, runs(newer, equal)), expected);
    let differs = Agreement::Differs { index: 9 };
    let expected = [Blocker::StateDiffers { controller, index: 9 }];
    assert_eq!(with(2, runs(build(2, FeatureLevel::THREE), differs)), expected);
    let unknown = runs(build(2, FeatureLevel::THREE), Agreement::Unknown);
    assert_eq!(with(2, unknown), [Blocker::NotCompared { controller }]);
    assert_eq!(blockers(&state, FeatureLevel::THREE, &BTreeMap::new()).len(), 3);
}

#[test]
fn a_change_that_is_half_done_is_in_the_way() {
    let joint = cluster(membership(&[&[1, 2], &[2, 3]], &[]), &[(1, 3), (2, 3), (3, 3)]);
    assert_eq!(blockers(&joint, FeatureLevel::THREE, &all_well(&joint)), [Blocker::JointChange]);
}

#[test]
fn an_upgrade_leads_to_the_newest_level_that_anybody_writes() {
    let state = three([2, 3, 0]);
    assert_eq!(newest(&state, &BTreeMap::new()), FeatureLevel::THREE);
    let four = FeatureLevel::new(4).unwrap();
    let seen = BTreeMap::from([(id(3), Sight { runs: Some(build(3, four)), agreement: Agreement::Unknown })]);
    assert_eq!(newest(&state, &seen), four);
    assert_eq!(newest(&ClusterState::default(), &BTreeMap::new()), FeatureLevel::ONE);
}

#[test]
fn a_router_keeps_its_dialect_changes_it_or_is_refused() {
    let range = |min, max| ProtocolRange::new(version(min), version(max)).unwrap();
    fn version(number: u32) -> ProtocolVersion {
        ProtocolVersion::new(number).unwrap()
    }
    let dialect = |from, to| Some(RouterEffect::Dialect { from: version(from), to: version(to) });
    // speaks, now, then
    let table = [
        (range(1, 2), range(1, 2), range(1, 2), None),
        (range(1, 2), range(1, 2), range(1, 3), None),
        (range(1, 3), range(1, 2), range(1, 3), dialect(2, 3)),
        (range(1, 2), range(1, 2), range(1, 1), dialect(2, 1)),
        (range(1, 1), range(1, 2), range(2, 3), Some(RouterEffect::Refused)),
        (range(3, 3), range(1, 2), range(1, 3), None),
        (range(3, 3), range(1, 2), range(1, 2), Some(RouterEffect::Refused)),
    ];
    for (speaks, now, then, expected) in table {
        assert_eq!(router_effect(speaks, now, then), expected, "speaks {speaks}, now {now}, then {then}");
    }
}

#[test]
fn the_protocols_of_a_level_are_those_of_its_builds() {
    let flat = ProtocolRange::new(ProtocolVersion::FLAT, ProtocolVersion::FLAT).unwrap();
    let mut state = three([3, 3, 2]);
    state.announcements.get_mut(&id(3)).unwrap().protocols = flat;
    assert_eq!((state.protocols(), state.protocols_at(FeatureLevel::THREE)), (flat, ProtocolRange::SUPPORTED));
    state.announcements.get_mut(&id(2)).unwrap().protocols = flat;
    assert_eq!(state.protocols_at(FeatureLevel::THREE), flat);
}

#[test]
fn a_build_that_is_too_old_or_too_new_is_not_taken_in_and_both_ranges_are_named() {
    let mut state = three([3, 3, 3]);
    let older = build(4, FeatureLevel::TWO);
    assert_eq!(state.judge_build(&older), Ok(()), "nothing is written yet that it could not read");
    apply(&mut state, Change::Raise(FeatureLevel::THREE));
    let refused = state.judge_build(&older).unwrap_err();
    assert!(matches!(refused, Misfit::Level { .. }), "{refused:?}");
    let words = refused.to_string();
    assert!(words.contains("0.2.0, reads feature levels 1 to 2; this cluster writes level 3"), "{words}");
    assert!(words.ends_with("its controllers read 1 to 3"), "{words}");
    assert_eq!(refused.hint(), "install a version that reads level 3");

    let [four, five] = [4, 5].map(|level| FeatureLevel::new(level).unwrap());
    let newer = Announcement { level_min: four, ..build(4, five) };
    assert!(matches!(state.judge_build(&newer), Err(Misfit::Level { .. })), "it no longer reads level 3");
    assert_eq!(state.judge_build(&build(4, five)), Ok(()), "it writes no more than the cluster may");

    let flat = ProtocolRange::new(ProtocolVersion::FLAT, ProtocolVersion::FLAT).unwrap();
    let narrow = Announcement { protocols: flat, ..build(4, FeatureLevel::THREE) };
    let refused = state.judge_build(&narrow).unwrap_err();
    assert!(refused.to_string().contains("serves router protocols 1; this cluster serves 1 to 2"), "{refused}");
}
