//! Each limit is pushed: the last value that fits, and the first that does not.

use super::fixtures::{Draft, held, member, offer, offered};
use crate::domain::acceptance::{Held, Offerer, Verdict, decide};
use crate::domain::command::{Change, Command, CommandRefusal, Outcome};
use crate::domain::controller_list::{
    CONTROLLERS_MAX, Defect, ENDPOINTS_PER_CONTROLLER_MAX, LIST_BYTES_MAX, OfferedList,
};
use crate::domain::endpoint::{Endpoint, HOST_BYTES_MAX};
use crate::domain::ids::{NAME_BYTES_MAX, RouterId};
use crate::domain::membership::Membership;
use crate::domain::principal::Role;
use crate::domain::state::{BANNED_ROUTERS_MAX, ClusterState, LogPosition};

fn code(list: OfferedList) -> String {
    match decide(&Held::default(), &offer(list, Offerer::Unidentified)) {
        Verdict::Refuse(refusal) => refusal.code().to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn a_list_has_at_most_64_controllers() {
    let all: Vec<u64> = (1..=CONTROLLERS_MAX as u64 + 1).collect();
    let (most, too_many) = (Draft::new(&[&all[..CONTROLLERS_MAX]], &[]), Draft::new(&[&all], &[]));
    assert!(code(offered(&most.list())).starts_with("adopt"));
    assert!(matches!(too_many.derive(), Err(Defect::TooManyControllers { count: 65 })));
}

#[test]
fn a_controller_has_at_most_8_endpoints() {
    let with = |count: u16| {
        let mut crowded = member(1);
        crowded.router = (1..=count).map(|port| format!("http://10.0.1.1:{port}").parse().unwrap()).collect();
        let mut draft = Draft::new(&[&[1]], &[]);
        draft.membership = Membership::new(draft.membership.voter_sets().to_vec(), [crowded]);
        draft.derive()
    };
    let most = u16::try_from(ENDPOINTS_PER_CONTROLLER_MAX).unwrap();
    assert!(with(most).is_ok());
    assert!(matches!(with(most + 1), Err(Defect::TooManyEndpoints { count: 9, .. })));
}

#[test]
fn an_encoded_list_has_at_most_192_kib() {
    let list = Draft::new(&[&[1]], &[]).list();
    let of = |encoded_bytes| {
        let offer = crate::domain::acceptance::Offer { encoded_bytes, ..offer(offered(&list), Offerer::Unidentified) };
        decide(&Held::default(), &offer)
    };
    assert!(matches!(of(LIST_BYTES_MAX), Verdict::Adopt(_)));
    assert!(matches!(of(LIST_BYTES_MAX + 1), Verdict::Refuse(refusal) if refusal.code() == "oversized"));
    assert_eq!(held(&list).list.controllers().len(), 1);
}

#[test]
fn a_host_name_has_at_most_255_bytes() {
    let parse = |bytes: usize| {
        let labels: String = "abcdefg.".chars().cycle().take(bytes - 1).chain(['z']).collect();
        format!("http://{labels}:1").parse::<Endpoint>()
    };
    assert!(parse(HOST_BYTES_MAX).is_ok());
    assert!(parse(HOST_BYTES_MAX + 1).is_err());
}

#[test]
fn a_name_has_1_to_63_bytes_of_the_allowed_characters() {
    assert!(RouterId::new("a".repeat(NAME_BYTES_MAX)).is_ok());
    assert!(RouterId::new("a".repeat(NAME_BYTES_MAX + 1)).is_err());
    assert!(RouterId::new("").is_err());
    for bad in ["a b", "a/b", "ä", "a\n", "a\0"] {
        assert!(RouterId::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_cluster_bans_at_most_100_000_routers() {
    let mut state = ClusterState::default();
    let router = |n: usize| RouterId::new(format!("edge-{n}")).unwrap();
    state.banned.extend((1..BANNED_ROUTERS_MAX).map(router));
    let mut apply = |change| state.apply(LogPosition { term: 1, index: 1 }, &Command { time_ms: 0, change });
    assert_eq!(apply(Change::Ban(router(0))), Outcome::Banned { existed: false });
    let full = Outcome::Refused(CommandRefusal::BansFull);
    assert_eq!(apply(Change::Ban(router(BANNED_ROUTERS_MAX))), full);
    assert_eq!(apply(Change::Ban(router(7))), Outcome::Banned { existed: false }, "it is banned already");
    assert_eq!(apply(Change::Allow(router(7))), Outcome::Allowed { existed: true });
    assert_eq!(apply(Change::Ban(router(BANNED_ROUTERS_MAX))), Outcome::Banned { existed: false });
}

#[test]
fn the_state_speaks_against_banned_routers_and_retired_controllers_only() {
    let mut state = ClusterState::default();
    let position = LogPosition { term: 1, index: 1 };
    state.apply_membership(position, super::fixtures::membership(&[&[1, 2, 3]], &[]));
    state.apply_membership(position, super::fixtures::membership(&[&[1, 3]], &[]));
    let edge = RouterId::new("edge-1").unwrap();
    state.apply(position, &Command { time_ms: 0, change: Change::Ban(edge.clone()) });
    let standing = |role: Role| {
        let standing = state.standing(&role);
        (standing.retired, standing.banned)
    };
    assert_eq!(standing(Role::Controller(super::fixtures::id(1))), (false, false));
    assert_eq!(standing(Role::Controller(super::fixtures::id(2))), (true, false));
    assert_eq!(standing(Role::Controller(super::fixtures::id(9))), (false, false), "it may be newer than this state");
    assert_eq!(standing(Role::Router(edge)), (false, true));
    assert_eq!(standing(Role::Router(RouterId::new("edge-2").unwrap())), (false, false));
}
