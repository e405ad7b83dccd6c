//! Who is in the cluster, and how that may change: [`plan`] turns a request into steps, or refuses it with its reason.
//!
//! `plan` derives the list of every membership that a step commits on its way (the joint one too) and has it judged
//! before anything is proposed. It does not know Raft's library, the network, or how a step is carried out.

mod founding;
mod planning;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::founding::{Unfoundable, found};
pub use self::planning::{CAUGHT_UP_LAG_ENTRIES_MAX, Current, Judge, Plan, Request, Step, plan};
pub use self::refusal::Refusal;
use super::controller_list::{ListedController, PublicKey, Role};
use super::endpoint::Endpoint;
use super::ids::{ControllerId, ControllerName, Incarnation};

/// A controller as membership entries hold it: all that peers, operators and routers need to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Raft node id.
    pub id: ControllerId,
    /// Name for people; unique in the cluster.
    pub name: ControllerName,
    /// Which formatting of its data directory.
    pub incarnation: Incarnation,
    /// Where other controllers reach it, in order of preference. During a change of address the old one stays first
    /// until the new one is confirmed.
    pub peer: Vec<Endpoint>,
    /// Where routers reach it.
    pub router: Vec<Endpoint>,
    /// Where operators reach it.
    pub admin: Vec<Endpoint>,
    /// Room for endorsed lists.
    #[serde(skip)]
    pub keys: Vec<PublicKey>,
}

impl Member {
    pub(super) fn listed(&self, role: Role) -> ListedController {
        ListedController {
            id: self.id,
            name: self.name.clone(),
            role,
            endpoints: self.router.clone(),
            incarnation: self.incarnation,
            keys: self.keys.clone(),
        }
    }

    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.peer.iter().chain(&self.router).chain(&self.admin)
    }
}

/// Raft's membership: one voter set, or two while a change is joint, and every member's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    voter_sets: Vec<BTreeSet<ControllerId>>,
    members: BTreeMap<ControllerId, Member>,
}

impl Membership {
    /// From Raft's own parts.
    #[must_use]
    pub fn new(voter_sets: Vec<BTreeSet<ControllerId>>, members: impl IntoIterator<Item = Member>) -> Self {
        Self { voter_sets, members: members.into_iter().map(|member| (member.id, member)).collect() }
    }

    /// Whether this is the membership from before the first entry: unknown, which is not empty.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a change is under way that needs both voter sets.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.voter_sets.len() > 1
    }

    /// All members, ordered by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: ControllerId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// One voter set, or two while a change is joint.
    #[must_use]
    pub fn voter_sets(&self) -> &[BTreeSet<ControllerId>] {
        &self.voter_sets
    }

    /// Every id that votes in any of the sets.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<ControllerId> {
        self.voter_sets.iter().flatten().copied().collect()
    }

    /// A member's role. In a joint change, whoever votes in either set is a voter.
    #[must_use]
    pub fn role(&self, id: ControllerId) -> Role {
        if self.voter_sets.iter().any(|set| set.contains(&id)) { Role::Voter } else { Role::Learner }
    }

    /// How many more voters may fail before writes stop, when these live: the smallest number over the voter sets.
    #[must_use]
    pub fn failure_tolerance(&self, live: &BTreeSet<ControllerId>) -> usize {
        let spare = |set: &BTreeSet<_>| set.intersection(live).count().saturating_sub(majority(set.len()));
        self.voter_sets.iter().map(spare).min().unwrap_or(0)
    }

    fn with_member(&self, member: Member) -> Self {
        let mut next = self.clone();
        next.members.insert(member.id, member);
        next
    }

    fn without_member(&self, id: ControllerId) -> Self {
        let mut next = self.clone();
        next.members.remove(&id);
        next
    }

    fn with_voter_sets(&self, voter_sets: Vec<BTreeSet<ControllerId>>) -> Self {
        Self { voter_sets, members: self.members.clone() }
    }
}

/// How many voters a set lacks for a majority of its own, when only these count: needed and found.
fn shortfall(set: &BTreeSet<ControllerId>, counted: &BTreeSet<ControllerId>) -> Option<(usize, usize)> {
    let (needed, found) = (majority(set.len()), set.intersection(counted).count());
    (found < needed).then_some((needed, found))
}

/// More than half.
const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_tolerance_counts_those_that_are_down_already() {
        let ids = |ids: &[u64]| ids.iter().filter_map(|id| ControllerId::new(*id)).collect::<BTreeSet<_>>();
        let of = |sets: &[&[u64]], live: &[u64]| {
            Membership::new(sets.iter().map(|set| ids(set)).collect(), []).failure_tolerance(&ids(live))
        };
        assert_eq!(of(&[&[1, 2, 3]], &[1, 2, 3]), 1);
        assert_eq!(of(&[&[1, 2, 3]], &[1, 2]), 0);
        assert_eq!(of(&[&[1, 2, 3]], &[1]), 0);
        assert_eq!(of(&[&[1, 2, 3, 4, 5]], &[1, 2, 3, 4, 5]), 2);
        assert_eq!(of(&[&[1, 2, 3], &[1, 2]], &[1, 2, 3]), 0, "a joint change needs both sets");
        assert_eq!(of(&[&[1]], &[1, 9]), 0, "learners do not count");
        assert_eq!(of(&[], &[]), 0);
    }
}
