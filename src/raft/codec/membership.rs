//! Memberships and member records: domain <-> disk, and domain <-> Raft's own form.

use std::collections::{BTreeMap, BTreeSet};

use super::super::types::TypeConfig;
use super::CodecError;
use crate::domain::controller_list::PublicKey;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, ControllerName, Incarnation};
use crate::domain::membership::{Member, Membership};
use crate::proto::store;

type RaftMembership = openraft::Membership<u64, Member>;
const _: fn(openraft::alias::StoredMembershipOf<TypeConfig>) -> RaftMembership = |stored| stored.membership().clone();

/// The domain's membership from Raft's.
#[must_use]
pub fn membership_from_raft(membership: &RaftMembership) -> Membership {
    let ids = |set: &BTreeSet<u64>| set.iter().filter_map(|id| ControllerId::new(*id)).collect();
    let voter_sets = membership.get_joint_config().iter().map(ids).collect();
    Membership::new(voter_sets, membership.nodes().map(|(_, member)| member.clone()))
}

/// Raft's membership from the domain's.
///
/// # Errors
/// [`CodecError::Invalid`] when a voter has no record.
pub fn membership_to_raft(membership: &Membership) -> Result<RaftMembership, CodecError> {
    let ids = |set: &BTreeSet<ControllerId>| set.iter().map(|id| id.get()).collect::<BTreeSet<_>>();
    let voter_sets = membership.voter_sets().iter().map(ids).collect();
    let nodes: BTreeMap<u64, Member> = membership.members().map(|m| (m.id.get(), m.clone())).collect();
    RaftMembership::new(voter_sets, nodes).map_err(|error| CodecError::invalid("the membership")(&error))
}

pub(super) fn encode(membership: &Membership) -> store::Membership {
    store::Membership {
        voter_sets: membership.voter_sets().iter().map(encode_voter_set).collect(),
        members: membership.members().map(encode_member).collect(),
    }
}

pub(super) fn decode(membership: store::Membership) -> Result<Membership, CodecError> {
    let voter_sets = membership.voter_sets.iter().map(decode_voter_set).collect::<Result<_, _>>()?;
    let members = membership.members.into_iter().map(decode_member).collect::<Result<Vec<_>, _>>()?;
    Ok(Membership::new(voter_sets, members))
}

fn encode_voter_set(set: &BTreeSet<ControllerId>) -> store::VoterSet {
    store::VoterSet { ids: set.iter().map(|id| id.get()).collect() }
}

fn decode_voter_set(set: &store::VoterSet) -> Result<BTreeSet<ControllerId>, CodecError> {
    set.ids.iter().map(|id| decode_id(*id)).collect()
}

fn encode_member(member: &Member) -> store::Member {
    let texts = |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect();
    store::Member {
        id: member.id.get(),
        name: member.name.to_string(),
        incarnation: member.incarnation.to_bytes().into(),
        peer: texts(&member.peer),
        router: texts(&member.router),
        admin: texts(&member.admin),
        keys: encode_keys(&member.keys),
    }
}

fn decode_member(member: store::Member) -> Result<Member, CodecError> {
    Ok(Member {
        id: decode_id(member.id)?,
        name: ControllerName::new(member.name).map_err(|e| CodecError::invalid("a controller's name")(&e))?,
        incarnation: decode_incarnation(&member.incarnation)?,
        peer: decode_endpoints(&member.peer)?,
        router: decode_endpoints(&member.router)?,
        admin: decode_endpoints(&member.admin)?,
        keys: decode_keys(member.keys),
    })
}

pub(super) fn decode_id(id: u64) -> Result<ControllerId, CodecError> {
    ControllerId::new(id).ok_or(CodecError::Absent { what: "a controller id" })
}

pub(super) fn decode_incarnation(bytes: &[u8]) -> Result<Incarnation, CodecError> {
    Incarnation::from_slice(bytes).ok_or(CodecError::Absent { what: "an incarnation" })
}

fn decode_endpoints(texts: &[String]) -> Result<Vec<Endpoint>, CodecError> {
    texts.iter().map(|text| text.parse().map_err(|e| CodecError::invalid("an endpoint")(&e))).collect()
}

pub(super) fn encode_keys(keys: &[PublicKey]) -> Vec<store::PublicKey> {
    keys.iter().map(|key| store::PublicKey { scheme: key.scheme, value: key.bytes.clone() }).collect()
}

pub(super) fn decode_keys(keys: Vec<store::PublicKey>) -> Vec<PublicKey> {
    keys.into_iter().map(|key| PublicKey { scheme: key.scheme, bytes: key.value }).collect()
}
