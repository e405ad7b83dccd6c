//! What holds for every input: never empty, never older, judging twice changes nothing, no plan loses quorum or takes a
//! used id, and a joint change publishes the union.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::fixtures::{Draft, flat_offer, id, identity, ids, member, membership, offer, offered};
use crate::domain::acceptance::{Content, Held, HeldList, Offer, Offerer, Verdict, decide};
use crate::domain::controller_list::{Applied, ControllerList, Digest, DigestScheme, ListState, OfferedList, Role};
use crate::domain::ids::ControllerId;
use crate::domain::membership::{Current, Member, Membership, Plan, Refusal, Request, Step, plan};
use crate::domain::retry::{self, Backoff};
use crate::domain::state::LogPosition;

/// Lists of one cluster or another, joint and uniform, good and damaged, under digests that are right and wrong.
fn any_offer() -> impl Strategy<Value = Offer> {
    let members = (
        btree_set(1..9_u64, 1..5),
        proptest::option::weighted(0.2, btree_set(1..9_u64, 1..5)),
        btree_set(1..12_u64, 0..3),
        btree_set(1..14_u64, 0..3),
    );
    let identity = (1..4_u32, 2..12_u64, 1..4_u128, 0..3_u128);
    let sender = (0..14_u8, 0..14_u64, 0..8_u8);
    prop_oneof![
        1 => (vec(0..3_u8, 0..4), 0..14_u64).prop_map(|(hosts, from)| {
            let addresses: Vec<_> = hosts.iter().map(|host| format!("http://h{host}:1")).collect();
            let flat = flat_offer(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
            Offer { from: offerer(from), ..flat }
        }),
        6 => (members, identity, sender).prop_map(|(members, (epoch, index, cluster, recovery), (damage, from, digest))| {
            let mut draft = draft(members).version(epoch, index).cluster(if cluster == 3 { 9 } else { 0xa });
            if recovery > 0 {
                draft = draft.recovery(recovery);
            }
            restated(offer(damaged(offered(&draft.list()), damage), offerer(from)), digest)
        }),
    ]
}

type Numbers = BTreeSet<u64>;

fn draft((voters, next, learners, retired): (Numbers, Option<Numbers>, Numbers, Numbers)) -> Draft {
    let sets: Vec<Vec<u64>> = [Some(voters), next].into_iter().flatten().map(|set| set.into_iter().collect()).collect();
    let voters: Numbers = sets.iter().flatten().copied().collect();
    let learners: Vec<_> = learners.difference(&voters).copied().collect();
    let retired: Vec<_> = retired.into_iter().filter(|id| !voters.contains(id) && !learners.contains(id)).collect();
    Draft::new(&sets.iter().map(Vec::as_slice).collect::<Vec<_>>(), &learners).retired(&retired)
}

fn offerer(number: u64) -> Offerer {
    if number == 0 { Offerer::Unidentified } else { Offerer::Controller(id(number)) }
}

/// What the sender says of the digest: wrong, nothing, of a scheme that nobody knows, or what it is.
fn restated(mut offer: Offer, how: u8) -> Offer {
    if let Content::Structured { stated, computed, .. } = &mut offer.content {
        *stated = match how {
            0 => Some(Digest { bytes: [0; 32], ..*computed }),
            1 => None,
            2 => Some(Digest { scheme: DigestScheme(9), bytes: [0; 32] }),
            _ => Some(*computed),
        };
    }
    offer
}

/// What becomes of a router's files between two offers.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Nothing,
    Floor,
    Newest,
}

fn any_loss() -> impl Strategy<Value = Loss> {
    prop_oneof![6 => Just(Loss::Nothing), 1 => Just(Loss::Floor), 1 => Just(Loss::Newest)]
}

fn damaged(mut list: OfferedList, damage: u8) -> OfferedList {
    match damage {
        0 => list.controllers.clear(),
        1 => list.controllers[0].endpoints.clear(),
        2 => list.controllers.push(list.controllers[0].clone()),
        3 => list.version = None,
        4 => list.controllers[0].id = 0,
        _ => {}
    }
    list
}

proptest! {
    #[test]
    fn no_sequence_of_offers_empties_a_router_or_takes_it_back(
        events in vec((any_offer(), any::<bool>(), any_loss()), 1..40),
    ) {
        let (mut held, mut previous) = (Held::default(), None);
        for (offer, member_answers, loss) in events {
            match loss {
                Loss::Nothing => {}
                Loss::Floor if held.list.is_some() => held.floor = None,
                Loss::Newest if held.floor.is_some() => held.list = previous.take(),
                Loss::Floor | Loss::Newest => {}
            }
            held.member_answers = member_answers && held.list.is_some();
            let before = held.clone();
            let verdict = decide(&held, &offer);
            prop_assert_eq!(&verdict, &decide(&held, &offer), "the same question has the same answer");
            match verdict {
                Verdict::Adopt(list) => {
                    may_be_adopted(&before, &offer, &list)?;
                    previous = held.list.take();
                    held = Held { member_answers, ..Held::of(list) };
                    prop_assert_eq!(decide(&held, &offer), Verdict::Unchanged, "adopting twice changes nothing");
                }
                Verdict::Merge(hints) => {
                    prop_assert!(before.hints.is_subset(&hints), "protocol 1 removes nothing");
                    held.hints = hints;
                    prop_assert_eq!(decide(&held, &offer), Verdict::Unchanged, "merging twice changes nothing");
                }
                Verdict::Unchanged => {}
                Verdict::Refuse(refusal) => prop_assert!(!refusal.hint().is_empty()),
            }
        }
    }

    #[test]
    fn no_plan_loses_quorum_takes_a_used_id_or_drops_a_member_on_its_way(scene in scenes()) {
        let Scene { membership, used, live, lag, leader, request } = scene;
        let identity = identity();
        let current = Current {
            membership: &membership, position: LogPosition { term: 3, index: 20 }, identity: &identity,
            used_ids: &used, leader, live: &live, lag_entries: &lag,
        };
        match plan(&current, &request, &|_| Ok(())) {
            Ok(made) => holds(&current, &request, &made)?,
            Err(Refusal::RefusedList(_)) => prop_assert!(false, "nobody refused a list"),
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }

    #[test]
    fn a_joint_change_publishes_the_union(before in btree_set(1..9_u64, 1..5), after in btree_set(1..9_u64, 1..5)) {
        let sets = [before, after].map(|set| set.into_iter().collect::<Vec<_>>());
        let list = Draft::new(&[&sets[0], &sets[1]], &[]).list();
        let listed: BTreeSet<_> = list.controllers().iter().map(|controller| controller.id).collect();
        prop_assert_eq!(listed, ids(&sets.concat()));
        prop_assert!(list.controllers().iter().all(|controller| controller.role == Role::Voter));
    }

    #[test]
    fn a_pause_is_never_longer_than_its_cap(base_ms in 1..5_000_u64, cap_ms in 1..60_000_u64, attempt: u32, draw: u32) {
        let (base, cap) = (std::time::Duration::from_millis(base_ms), std::time::Duration::from_millis(cap_ms));
        let backoff = Backoff { base, cap };
        let pause = retry::delay(backoff, attempt, draw);
        prop_assert!(pause <= cap && pause >= (base / 4).min(cap), "{:?}", pause);
    }
}

/// A cluster and what is asked of it.
#[derive(Debug, Clone)]
struct Scene {
    membership: Membership,
    used: BTreeSet<ControllerId>,
    live: BTreeSet<ControllerId>,
    lag: BTreeMap<crate::domain::ids::ControllerId, u64>,
    leader: ControllerId,
    request: Request,
}

fn scenes() -> impl Strategy<Value = Scene> {
    (
        btree_set(1..8_u64, 1..6),
        btree_set(1..10_u64, 0..3),
        btree_set(1..12_u64, 0..4),
        btree_set(1..10_u64, 0..4),
        vec(proptest::option::weighted(0.8, 0..200_u64), 12),
        (0..5_u8, 1..12_u64, 1..16_u64),
    )
        .prop_map(|(voters, learners, used, dead, lags, asked)| {
            let leader = *voters.iter().next().unwrap();
            let voters: Vec<_> = voters.into_iter().collect();
            let learners: Vec<_> = learners.into_iter().filter(|learner| !voters.contains(learner)).collect();
            let membership = membership(&[&voters], &learners);
            let everyone: BTreeSet<_> = membership.members().map(|member| member.id).collect();
            let used = everyone.iter().copied().chain(used.into_iter().map(id)).collect();
            let live: BTreeSet<_> =
                everyone.iter().copied().filter(|one| one.get() == leader || !dead.contains(&one.get())).collect();
            let lag = (1..).zip(lags).filter_map(|(number, lag)| Some((id(number), lag?))).collect();
            Scene { membership, used, live, lag, leader: id(leader), request: request(asked) }
        })
}

fn request((kind, about, directory): (u8, u64, u64)) -> Request {
    match kind {
        0 => Request::Add(Member { incarnation: member(directory).incarnation, ..member(about) }),
        1 => Request::Promote(id(about)),
        2 => Request::Demote(id(about)),
        3 => Request::Remove(id(about)),
        _ => Request::Readdress {
            id: id(about),
            peer: directory.is_multiple_of(2).then(|| vec![format!("http://peer-{about}:1").parse().unwrap()]),
            router: Some(vec![format!("http://new-{about}:1").parse().unwrap()]),
            admin: None,
        },
    }
}

fn holds(current: &Current<'_>, request: &Request, made: &Plan) -> Result<(), TestCaseError> {
    let before = current.membership;
    if let Request::Add(newcomer) = request {
        prop_assert!(!current.used_ids.contains(&newcomer.id), "an id is never used again");
        prop_assert!(
            before.members().all(|member| member.incarnation != newcomer.incarnation),
            "nobody is there twice"
        );
    }
    if let Request::Readdress { .. } = request {
        confirmed_before_dropped(&made.steps)?;
    }
    let leaving = match request {
        Request::Remove(id) => Some(*id),
        _ => None,
    };
    for (place, membership) in made.memberships.iter().enumerate() {
        for set in membership.voter_sets() {
            let is_new = !before.voter_sets().contains(set);
            let counts = |id: &&ControllerId| current.live.contains(id) && (!is_new || is_caught_up(current, **id));
            prop_assert!(2 * set.iter().filter(counts).count() > set.len(), "step {place} loses quorum");
        }
        for member in before.members().filter(|member| Some(member.id) != leaving) {
            prop_assert!(membership.member(member.id).is_some(), "controller {} is missing at step {place}", member.id);
        }
        let used_ids = current.used_ids.iter().copied().chain(membership.members().map(|member| member.id)).collect();
        let applied = Applied {
            identity: Some(&identity()),
            term: 3,
            log_index: 21,
            used_ids: &used_ids,
            previous_log_index: None,
        };
        let derived = ControllerList::derive(membership, applied);
        prop_assert!(matches!(derived, Ok(ListState::Known(_))), "step {place} has no list: {:?}", derived);
    }
    Ok(())
}

fn is_caught_up(current: &Current<'_>, id: ControllerId) -> bool {
    id == current.leader || current.lag_entries.get(&id).is_some_and(|lag| *lag <= 128)
}

fn confirmed_before_dropped(steps: &[Step]) -> Result<(), TestCaseError> {
    let [.., Step::ConfirmAddresses { peer, services, .. }, Step::ReplaceMember(last)] = steps else {
        return Err(TestCaseError::fail("an address is dropped without having been confirmed"));
    };
    prop_assert!(last.router.iter().all(|at| services.contains(at)));
    prop_assert!(peer.is_empty() || *peer == last.peer);
    prop_assert!(!peer.is_empty() || last.peer == member(last.id.get()).peer, "peers change only when confirmed");
    Ok(())
}

fn may_be_adopted(before: &Held, offer: &Offer, adopted: &HeldList) -> Result<(), TestCaseError> {
    let (list, identity) = (&adopted.list, adopted.list.identity());
    prop_assert!(!list.controllers().is_empty());
    prop_assert!(list.controllers().iter().all(|controller| !controller.endpoints.is_empty()));
    prop_assert!(list.controllers().iter().all(|controller| !list.retired().contains(&controller.id)));
    if let Content::Structured { computed, stated: Some(stated), .. } = &offer.content {
        prop_assert!(stated.scheme != computed.scheme || stated.bytes == computed.bytes, "never under a wrong digest");
    }
    let own = before.list.as_ref().map(HeldList::floor);
    for floor in before.floor.into_iter().chain(own) {
        prop_assert!(list.version() >= floor.version, "never older");
        let same_epoch = list.version().epoch == floor.version.epoch;
        prop_assert!(!same_epoch || identity.recovery == floor.recovery, "never of another recovery");
    }
    if let Some(cluster) = before.cluster {
        prop_assert_eq!(identity.cluster, cluster, "never foreign");
    }
    if let (Some(held), Offerer::Controller(from)) = (&before.list, offer.from) {
        prop_assert!(!held.list.retired().contains(&from), "never from whom was removed");
    }
    Ok(())
}
