//! From a request to steps, or to a refusal. Nothing is proposed here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Membership, Refusal, shortfall};
use crate::domain::acceptance;
use crate::domain::controller_list::{
    Applied, CONTROLLERS_MAX, ClusterIdentity, ControllerList, Defect, ENDPOINTS_PER_CONTROLLER_MAX, ListState, Role,
};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, Incarnation};
use crate::domain::state::LogPosition;

/// A learner is caught up, and may be promoted, when it lags behind the leader by at most this many log entries.
pub const CAUGHT_UP_LAG_ENTRIES_MAX: u64 = 128;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Adds a controller as a learner. Its record comes from itself (`Identify`), its id is one that was never used.
    Add(Member),
    /// Makes a caught-up learner a voter.
    Promote(ControllerId),
    /// Makes a voter a learner.
    Demote(ControllerId),
    /// Removes a member for ever: its id is never used again.
    Remove(ControllerId),
    /// Changes a member's addresses. What is `None` stays.
    Readdress {
        /// Whose.
        id: ControllerId,
        /// New peer addresses.
        peer: Option<Vec<Endpoint>>,
        /// New router addresses.
        router: Option<Vec<Endpoint>>,
        /// New admin addresses.
        admin: Option<Vec<Endpoint>>,
    },
}

/// One action of a plan. Each membership that it commits was derived and judged when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Hand leadership to this live, caught-up voter first.
    HandOver {
        /// The next leader.
        to: ControllerId,
    },
    /// Add this learner: one membership entry.
    AddLearner(Member),
    /// Change to these voters: a joint entry, then a uniform one. Members that lose their vote stay as learners.
    SetVoters(BTreeSet<ControllerId>),
    /// Wait, bounded, until this member has applied what was committed so far, if it can be reached at all.
    AwaitApplied(ControllerId),
    /// Replace this member's record: one membership entry.
    ReplaceMember(Member),
    /// Make sure that the member is at every one of these addresses, before those that they replace are dropped. When it
    /// is not, the plan ends here, with old and new addresses in place.
    ConfirmAddresses {
        /// Whose.
        id: ControllerId,
        /// Which formatting of its data directory has to answer.
        incarnation: Incarnation,
        /// Each has to answer as this member.
        peer: Vec<Endpoint>,
        /// Addresses for routers and operators: each has to take a connection.
        services: Vec<Endpoint>,
    },
    /// Remove this learner: one membership entry.
    RemoveLearner(ControllerId),
    /// Tell it that it was removed, if it can be reached.
    TellRemoved(Member),
}

/// What will be done. Never empty; carried out in order, each step only after the one before has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// The membership entry that the first step builds upon. If it is not the last one any more, nothing is proposed.
    pub precondition: LogPosition,
    /// Every membership that the steps commit on their way, joint ones included, in order.
    pub memberships: Vec<Membership>,
}

/// What `plan` needs to know of the cluster as it is now, on the leader.
#[derive(Debug, Clone)]
pub struct Current<'a> {
    /// Last membership, which must be committed and applied.
    pub membership: &'a Membership,
    /// Its place in the log.
    pub position: LogPosition,
    /// The applied cluster identity.
    pub identity: &'a ClusterIdentity,
    /// Every id that was ever committed.
    pub used_ids: &'a BTreeSet<ControllerId>,
    /// The leader, who plans.
    pub leader: ControllerId,
    /// Members that the leader heard from lately, itself included.
    pub live: &'a BTreeSet<ControllerId>,
    /// How many entries each member lags behind the leader; absent when not known.
    pub lag_entries: &'a BTreeMap<ControllerId, u64>,
}

/// How a list that a plan would publish is judged: encoded in every protocol, decoded again, and put before
/// [`acceptance::decide`]. Given by the caller, since encodings are not known here.
pub type Judge<'a> = dyn Fn(&ControllerList) -> Result<(), acceptance::Refusal> + 'a;

/// Plans a change, or refuses it with its reason. Nothing is proposed here.
///
/// # Errors
/// [`Refusal`]: what would lose quorum, shrink the list to nothing, reuse an id, duplicate an endpoint or a name, pass
/// a limit, or make a list that routers refuse.
pub fn plan(current: &Current<'_>, request: &Request, judge: &Judge<'_>) -> Result<Plan, Refusal> {
    if current.membership.is_joint() {
        return Err(Refusal::ChangeInProgress);
    }
    let (steps, memberships) = match request {
        Request::Add(member) => add(current, member)?,
        Request::Promote(id) => promote(current, *id)?,
        Request::Demote(id) => demote(current, *id)?,
        Request::Remove(id) => remove(current, *id)?,
        Request::Readdress { id, peer, router, admin } => {
            readdress(current, *id, [peer.as_ref(), router.as_ref(), admin.as_ref()])?
        }
    };
    for (nth, membership) in (1..).zip(&memberships) {
        vet(current, membership, nth, judge)?;
    }
    Ok(Plan { steps, precondition: current.position, memberships })
}

type Steps = (Vec<Step>, Vec<Membership>);

fn add(current: &Current<'_>, member: &Member) -> Result<Steps, Refusal> {
    let same_directory = |known: &&Member| known.incarnation == member.incarnation;
    if let Some(known) = current.membership.members().find(same_directory) {
        return Err(Refusal::AlreadyMember { id: known.id });
    }
    if current.used_ids.contains(&member.id) || current.membership.member(member.id).is_some() {
        return Err(Refusal::IdUsed { id: member.id });
    }
    if current.membership.members().count() >= CONTROLLERS_MAX {
        return Err(Refusal::TooManyControllers);
    }
    check_record(current.membership, member)?;
    Ok((vec![Step::AddLearner(member.clone())], vec![current.membership.with_member(member.clone())]))
}

fn promote(current: &Current<'_>, id: ControllerId) -> Result<Steps, Refusal> {
    let mut voters = voters_of(current, id)?;
    if !voters.insert(id) {
        return Err(Refusal::AlreadyVoter { id });
    }
    let lag_entries = current.lag_entries.get(&id).copied();
    if !current.live.contains(&id) || lag_entries.is_none_or(|lag| lag > CAUGHT_UP_LAG_ENTRIES_MAX) {
        return Err(Refusal::NotCaughtUp { id, lag_entries });
    }
    let memberships = change_voters(current, &voters);
    Ok((vec![Step::SetVoters(voters)], memberships))
}

fn demote(current: &Current<'_>, id: ControllerId) -> Result<Steps, Refusal> {
    let mut voters = voters_of(current, id)?;
    if !voters.remove(&id) {
        return Err(Refusal::AlreadyLearner { id });
    }
    if voters.is_empty() {
        return Err(Refusal::LastVoter { id });
    }
    let mut steps = Vec::new();
    if current.leader == id {
        steps.push(Step::HandOver { to: successor(current, id)? });
    }
    let memberships = change_voters(current, &voters);
    steps.push(Step::SetVoters(voters));
    Ok((steps, memberships))
}

/// Leadership away first, then a learner, then wait until it has applied that, then out, then tell it.
fn remove(current: &Current<'_>, id: ControllerId) -> Result<Steps, Refusal> {
    let member = current.membership.member(id).ok_or(Refusal::NotAMember { id })?.clone();
    let (mut steps, mut memberships) = match current.membership.role(id) {
        Role::Voter => demote(current, id)?,
        Role::Learner => Steps::default(),
    };
    steps.extend([Step::AwaitApplied(id), Step::RemoveLearner(id), Step::TellRemoved(member)]);
    memberships.push(memberships.last().unwrap_or(current.membership).without_member(id));
    Ok((steps, memberships))
}

fn readdress(current: &Current<'_>, id: ControllerId, kinds: [Option<&Vec<Endpoint>>; 3]) -> Result<Steps, Refusal> {
    let known = current.membership.member(id).ok_or(Refusal::NotAMember { id })?;
    let mut target = known.clone();
    for (held, asked) in [&mut target.peer, &mut target.router, &mut target.admin].into_iter().zip(kinds) {
        if let Some(asked) = asked {
            held.clone_from(asked);
        }
    }
    if target == *known {
        return Err(Refusal::NothingToChange { id });
    }
    let both = beside(known, &target);
    check_record(current.membership, &target)?;
    check_record(current.membership, &both)?;
    let (mut steps, mut memberships) = Steps::default();
    let mut replace = |member: Member, steps: &mut Vec<Step>| {
        memberships.push(current.membership.with_member(member.clone()));
        steps.push(Step::ReplaceMember(member));
    };
    if let Some(confirmed) = confirm(known, &target) {
        // The same command after one that stopped half-way finds both in place already.
        if both != *known {
            replace(both, &mut steps);
        }
        steps.extend([Step::AwaitApplied(id), confirmed]);
    }
    replace(target, &mut steps);
    Ok((steps, memberships))
}

/// New beside old, so that whoever still knows only the old addresses can follow. The new ones come last: nobody has
/// confirmed yet that they lead to the member.
fn beside(known: &Member, target: &Member) -> Member {
    let mut both = known.clone();
    for (both, target) in
        [(&mut both.peer, &target.peer), (&mut both.router, &target.router), (&mut both.admin, &target.admin)]
    {
        let new = target.iter().filter(|endpoint| !both.contains(endpoint)).cloned().collect::<Vec<_>>();
        both.extend(new);
    }
    both
}

/// Of every kind that loses an address, all that stay: a mistyped one would cut the member off. `None` when nothing is
/// dropped.
fn confirm(known: &Member, target: &Member) -> Option<Step> {
    let stay = |known: &[Endpoint], target: &[Endpoint]| {
        let drops = known.iter().any(|endpoint| !target.contains(endpoint));
        if drops { target.to_vec() } else { Vec::new() }
    };
    let peer = stay(&known.peer, &target.peer);
    let services = [stay(&known.router, &target.router), stay(&known.admin, &target.admin)].concat();
    let Member { id, incarnation, .. } = *target;
    let nothing = peer.is_empty() && services.is_empty();
    (!nothing).then_some(Step::ConfirmAddresses { id, incarnation, peer, services })
}

fn voters_of(current: &Current<'_>, id: ControllerId) -> Result<BTreeSet<ControllerId>, Refusal> {
    current.membership.member(id).ok_or(Refusal::NotAMember { id })?;
    Ok(current.membership.voters())
}

fn change_voters(current: &Current<'_>, voters: &BTreeSet<ControllerId>) -> Vec<Membership> {
    let joint = vec![current.membership.voters(), voters.clone()];
    [joint, vec![voters.clone()]].map(|sets| current.membership.with_voter_sets(sets)).into()
}

fn successor(current: &Current<'_>, leaving: ControllerId) -> Result<ControllerId, Refusal> {
    let lag = |id: &ControllerId| current.lag_entries.get(id).copied().unwrap_or(u64::MAX);
    let fit = |id: &ControllerId| *id != leaving && current.live.contains(id) && lag(id) <= CAUGHT_UP_LAG_ENTRIES_MAX;
    current.membership.voters().into_iter().filter(fit).min_by_key(lag).ok_or(Refusal::NoSuccessor { id: leaving })
}

pub(super) fn check_record(beside: &Membership, member: &Member) -> Result<(), Refusal> {
    let id = member.id;
    let others = || beside.members().filter(|other| other.id != id);
    if let Some(other) = others().find(|other| other.name == member.name) {
        return Err(Refusal::NameTaken { name: member.name.clone(), by: other.id });
    }
    for (kind, endpoints) in [("peer", &member.peer), ("router", &member.router), ("admin", &member.admin)] {
        if endpoints.is_empty() {
            return Err(Refusal::NoEndpoint { id, kind });
        }
        if endpoints.len() > ENDPOINTS_PER_CONTROLLER_MAX {
            return Err(Refusal::TooManyEndpoints { id, kind, count: endpoints.len() });
        }
    }
    let mut own = BTreeSet::new();
    for endpoint in member.endpoints() {
        let by = others()
            .find(|other| other.endpoints().any(|theirs| theirs.place() == endpoint.place()))
            .map(|other| other.id);
        if let Some(by) = by.or_else(|| (!own.insert(endpoint.place())).then_some(id)) {
            return Err(Refusal::EndpointTaken { endpoint: endpoint.clone(), by });
        }
    }
    Ok(())
}

/// Members that live and lag by no more than a promotion allows.
fn caught_up(current: &Current<'_>) -> BTreeSet<ControllerId> {
    let lag = |id: &ControllerId| current.lag_entries.get(id).copied().unwrap_or(u64::MAX);
    let fit = |id: &&ControllerId| **id == current.leader || lag(id) <= CAUGHT_UP_LAG_ENTRIES_MAX;
    current.live.iter().filter(fit).copied().collect()
}

/// Quorum, derivation and judgement of one membership that the plan would commit as its `nth` entry.
fn vet(current: &Current<'_>, membership: &Membership, nth: u64, judge: &Judge<'_>) -> Result<(), Refusal> {
    for set in membership.voter_sets() {
        // A set that is new has the say from its first entry on: whoever lags could not confirm it in time.
        let is_new = !current.membership.voter_sets().contains(set);
        let counted = if is_new { caught_up(current) } else { current.live.clone() };
        if let Some((needed, live)) = shortfall(set, &counted) {
            return Err(Refusal::LosesQuorum { needed, live });
        }
    }
    let used_ids = current.used_ids.iter().copied().chain(membership.members().map(|m| m.id)).collect();
    let applied = Applied {
        identity: Some(current.identity),
        term: current.position.term,
        log_index: current.position.index.saturating_add(nth),
        used_ids: &used_ids,
        previous_log_index: Some(current.position.index.saturating_add(nth - 1)),
    };
    judged(membership, applied, judge)
}

/// Whether the list of this membership is one that routers take.
pub(super) fn judged(membership: &Membership, applied: Applied<'_>, judge: &Judge<'_>) -> Result<(), Refusal> {
    match ControllerList::derive(membership, applied)? {
        ListState::Known(list) => judge(&list).map_err(Refusal::RefusedList),
        ListState::Unknown => Err(Defect::Empty.into()),
    }
}
