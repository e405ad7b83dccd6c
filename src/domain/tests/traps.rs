//! Traps of the system that this one answers, as far as they lie in decisions. The others are tested where they lie:
//! files in `router::generations`, sending in `controller::hub`, mixed versions and restarts in the integration tests.

use std::collections::{BTreeMap, BTreeSet};

use super::fixtures::{Draft, flat_offer, held, id, identity, ids, member, membership, offer, offered};
use crate::domain::acceptance::{Held, Offerer, Verdict, decide};
use crate::domain::controller_list::{ListState, ListVersion};
use crate::domain::membership::{Current, Request, plan};
use crate::domain::state::{ClusterState, LogPosition};

fn refused_as(held: &Held, offer: &crate::domain::acceptance::Offer) -> &'static str {
    match decide(held, offer) {
        Verdict::Refuse(refusal) => refusal.code(),
        other => panic!("{other}"),
    }
}

/// 1. The list's version was kept in memory only: after a restart a router took the first list from anyone.
#[test]
fn a_router_that_lost_its_list_but_not_its_floor_takes_nothing_older() {
    let list = Draft::new(&[&[1, 2, 3]], &[]).version(1, 9).list();
    let after_the_loss = Held { list: None, ..Held::of(held(&list)) };
    let older = Draft::new(&[&[1, 2, 3]], &[]).version(1, 8).list();
    assert_eq!(refused_as(&after_the_loss, &offer(offered(&older), Offerer::Controller(id(1)))), "stale");
    assert!(matches!(decide(&after_the_loss, &offer(offered(&list), Offerer::Controller(id(1)))), Verdict::Adopt(_)));
}

/// 2. "A follower may only add controllers" became a no-op. Here it does not matter who sends: only what was committed.
#[test]
fn whoever_sends_it_the_same_committed_list_is_judged_the_same() {
    let before = Held::of(held(&Draft::new(&[&[1, 2, 3]], &[]).version(1, 5).list()));
    let smaller = offered(&Draft::new(&[&[1, 2]], &[]).version(1, 6).retired(&[3]).list());
    for sender in [Offerer::Controller(id(1)), Offerer::Controller(id(2)), Offerer::Unidentified] {
        assert!(matches!(decide(&before, &offer(smaller.clone(), sender)), Verdict::Adopt(_)), "{sender}");
    }
}

/// 5. A list whose controllers had no endpoints passed the emptiness check.
#[test]
fn a_list_that_names_controllers_nobody_can_reach_is_refused() {
    let mut unreachable = offered(&Draft::new(&[&[1, 2, 3]], &[]).list());
    unreachable.controllers.iter_mut().for_each(|controller| controller.endpoints.clear());
    assert_eq!(refused_as(&Held::default(), &offer(unreachable, Offerer::Unidentified)), "no_endpoints");
}

/// 7. The list came from Raft's latest configuration, which may not be committed: here from applied entries only.
#[test]
fn before_membership_and_identity_are_applied_the_list_is_unknown_which_is_not_empty() {
    let mut state = ClusterState::default();
    assert_eq!(state.list(), Ok(ListState::Unknown));
    state.apply_membership(LogPosition { term: 1, index: 1 }, membership(&[&[1, 2, 3]], &[]));
    assert_eq!(state.list(), Ok(ListState::Unknown), "no identity yet");
    state.identity = Some(identity());
    assert!(matches!(state.list(), Ok(ListState::Known(list)) if list.controllers().len() == 3));
}

/// 8. A sender that filled only the old `addresses` field counted as sending an empty list.
#[test]
fn an_old_senders_addresses_count_and_take_nothing_away() {
    let before = Held::of(held(&Draft::new(&[&[1, 2, 3]], &[]).list()));
    match decide(&before, &flat_offer(&["http://10.0.9.1:7002"])) {
        Verdict::Merge(hints) => assert_eq!(hints.len(), 1),
        other => panic!("{other}"),
    }
    assert_eq!(refused_as(&before, &flat_offer(&[])), "empty");
}

/// 9. Leader announcements carried index 0, so an old leader's late message won.
#[test]
fn a_version_with_a_zero_in_it_is_none() {
    assert_eq!(ListVersion::from_wire(1, 0), None);
    assert_eq!(ListVersion::from_wire(0, 1), None);
    let mut unversioned = offered(&Draft::new(&[&[1]], &[]).list());
    unversioned.version = None;
    assert_eq!(refused_as(&Held::default(), &offer(unversioned, Offerer::Unidentified)), "no_version");
}

/// 10. Two controllers' messages interleaved and the older one won. In whichever order they come, the newer one stays.
#[test]
fn whichever_of_two_lists_comes_last_the_newer_one_stays() {
    let lists = [5, 9].map(|index| Draft::new(&[&[1, 2, 3]], &[]).version(1, index).list());
    for order in [[0, 1], [1, 0]] {
        let mut router = Held::default();
        for place in order {
            let offer = offer(offered(&lists[place]), Offerer::Controller(id(1)));
            if let Verdict::Adopt(adopted) = decide(&router, &offer) {
                router = Held::of(adopted);
            }
        }
        assert_eq!(router.list.map(|held| held.list.version()), Some(lists[1].version()), "{order:?}");
    }
}

/// 11. Promoting a non-voter removed and re-added it: for a moment the list lacked it.
#[test]
fn a_promotion_never_leaves_the_learner_out_of_the_list() {
    let before = membership(&[&[1, 2, 3]], &[4]);
    let everyone: BTreeSet<_> = ids(&[1, 2, 3, 4]);
    let lag: BTreeMap<_, _> = everyone.iter().map(|id| (*id, 0)).collect();
    let identity = identity();
    let current = Current {
        membership: &before,
        position: LogPosition { term: 1, index: 9 },
        identity: &identity,
        used_ids: &everyone,
        leader: id(1),
        live: &everyone,
        lag_entries: &lag,
    };
    let made = plan(&current, &Request::Promote(id(4)), &|_| Ok(())).unwrap();
    assert!(!made.memberships.is_empty());
    assert!(made.memberships.iter().all(|membership| membership.member(id(4)) == Some(&member(4))));
}

/// 12. After a restore to an older state routers kept refusing the lower index. A restore begins a new epoch.
#[test]
fn a_lower_index_in_a_newer_epoch_is_newer() {
    let before = Held::of(held(&Draft::new(&[&[1, 2, 3]], &[]).version(1, 900).list()));
    let restored = Draft::new(&[&[1, 2, 3]], &[]).version(2, 7).recovery(1).list();
    assert!(matches!(decide(&before, &offer(offered(&restored), Offerer::Controller(id(1)))), Verdict::Adopt(_)));
    let older = Draft::new(&[&[1, 2, 3]], &[]).version(1, 901).list();
    let after = Held::of(held(&restored));
    assert_eq!(refused_as(&after, &offer(offered(&older), Offerer::Controller(id(1)))), "stale");
}
