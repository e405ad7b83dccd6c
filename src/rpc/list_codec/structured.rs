//! Protocol 2: the structured list. Appended, never edited: its bytes are what digests, and later signatures, cover.
//!
//! Canonical means that one list has one encoding: fields in the order of their numbers (prost writes them so),
//! controllers, voters and retired ids ascending (the domain keeps them so), endpoints in order of preference.

use bytes::Bytes;
use prost::Message;

use super::wire::list_version_from_wire;
use crate::domain::controller_list::{
    ClusterIdentity, ControllerList, DigestScheme, Epoch, ListedController, OfferedController, OfferedList, Role,
};
use crate::domain::ids::{ClusterId, Incarnation, RecoveryId};
use crate::proto::router as proto;

/// What a digest or a signature over these bytes is about: it can never be taken for one over anything else.
pub const DOMAIN_TAG: &str = "pilothouse.list.2";
/// How much of a foreign tag is repeated in an error, in characters.
const TAG_EXCERPT_CHARS_MAX: usize = 32;

pub(super) fn encode(list: &ControllerList) -> Bytes {
    let identity = list.identity();
    proto::ControllerList {
        domain_tag: DOMAIN_TAG.to_owned(),
        cluster_id: identity.cluster.to_bytes().to_vec(),
        version: Some(list.version().into()),
        recovery_id: identity.recovery.map_or_else(Vec::new, |recovery| recovery.to_bytes().to_vec()),
        term: list.term(),
        controllers: list.controllers().iter().map(controller_to_wire).collect(),
        voter_sets: list.voter_sets().iter().map(|set| proto::VoterSet { ids: bare(set) }).collect(),
        retired_ids: bare(list.retired()),
        predecessor_version: list.predecessor().map(Into::into),
        predecessor_digest: None,
        digest_scheme: DigestScheme::SHA256.0,
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<OfferedList, String> {
    let list = proto::ControllerList::decode(bytes).map_err(|error| error.to_string())?;
    if list.domain_tag != DOMAIN_TAG {
        let tag: String = list.domain_tag.chars().take(TAG_EXCERPT_CHARS_MAX).collect();
        return Err(format!("it is tagged {tag:?}, a list is tagged {DOMAIN_TAG:?}"));
    }
    Ok(OfferedList {
        identity: identity(&list),
        version: list.version.as_ref().and_then(list_version_from_wire),
        term: list.term,
        controllers: list.controllers.into_iter().map(controller_from_wire).collect(),
        voter_sets: list.voter_sets.into_iter().map(|set| set.ids).collect(),
        retired: list.retired_ids,
        predecessor: list.predecessor_version.as_ref().and_then(list_version_from_wire),
    })
}

/// `None` when cluster or epoch is absent or unusable, or when there is a recovery id that is none.
fn identity(list: &proto::ControllerList) -> Option<ClusterIdentity> {
    let recovery = match list.recovery_id.as_slice() {
        [] => None,
        bytes => Some(RecoveryId::from_slice(bytes)?),
    };
    Some(ClusterIdentity {
        cluster: ClusterId::from_slice(&list.cluster_id)?,
        epoch: Epoch::new(list.version.as_ref()?.epoch)?,
        recovery,
    })
}

fn controller_to_wire(controller: &ListedController) -> proto::ListedController {
    let role = match controller.role {
        Role::Voter => proto::listed_controller::Role::Voter,
        Role::Learner => proto::listed_controller::Role::Learner,
    };
    proto::ListedController {
        id: controller.id.get(),
        name: controller.name.to_string(),
        role: role.into(),
        endpoints: controller.endpoints.iter().map(ToString::to_string).collect(),
        incarnation: controller.incarnation.to_bytes().to_vec(),
        keys: controller.keys.iter().map(Into::into).collect(),
    }
}

fn controller_from_wire(controller: proto::ListedController) -> OfferedController {
    let role = match controller.role() {
        proto::listed_controller::Role::Unspecified => None,
        proto::listed_controller::Role::Voter => Some(Role::Voter),
        proto::listed_controller::Role::Learner => Some(Role::Learner),
    };
    OfferedController {
        id: controller.id,
        name: controller.name,
        role,
        endpoints: controller.endpoints,
        incarnation: Incarnation::from_slice(&controller.incarnation),
        keys: controller.keys.into_iter().map(Into::into).collect(),
    }
}

fn bare<'a>(ids: impl IntoIterator<Item = &'a crate::domain::ids::ControllerId>) -> Vec<u64> {
    ids.into_iter().map(|id| id.get()).collect()
}
