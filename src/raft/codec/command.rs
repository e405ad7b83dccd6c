//! Commands: domain <-> disk. Numbers are appended in `proto/store.proto`, never edited.

use super::membership::{decode_id, decode_incarnation, decode_keys, encode_keys};
use super::{CodecError, check_level, token};
use crate::domain::command::{Change, Command, Registration};
use crate::domain::controller_list::{ClusterIdentity, Epoch};
use crate::domain::feature::{Announcement, FeatureLevel};
use crate::domain::ids::{BootId, ClusterId, RecoveryId, RouterId};
use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
use crate::proto::store;

pub(super) fn encode(command: &Command) -> store::Command {
    use store::command::Change as Wire;
    let change = match &command.change {
        Change::Found { identity, level } => {
            Wire::Found(store::Found { identity: Some(encode_identity(identity)), level: level.get() })
        }
        Change::Register(registrations) => {
            Wire::Register(store::Register { registrations: registrations.iter().map(encode_registration).collect() })
        }
        Change::Forget(router) => Wire::Forget(store::Forget { router_id: router.to_string() }),
        Change::Announce(announcement) => Wire::Announce(encode_announcement(announcement)),
        Change::Ban(router) => Wire::Ban(store::Ban { router_id: router.to_string() }),
        Change::Allow(router) => Wire::Allow(store::Allow { router_id: router.to_string() }),
        Change::CreateToken(token) => Wire::CreateToken(token::encode(token)),
        Change::RedeemToken(redemption) => Wire::RedeemToken(token::encode_redemption(redemption)),
        Change::Raise(level) => Wire::Raise(store::RaiseFeatureLevel { level: level.get() }),
    };
    store::Command { time_ms: command.time_ms, change: Some(change) }
}

pub(super) fn decode(command: store::Command) -> Result<Command, CodecError> {
    use store::command::Change as Wire;
    let change = match command.change.ok_or(CodecError::Absent { what: "the command's change" })? {
        Wire::Found(found) => {
            check_level(found.level)?;
            Change::Found { identity: decode_identity(found.identity.as_ref())?, level: decode_level(found.level)? }
        }
        Wire::Register(batch) => {
            Change::Register(batch.registrations.into_iter().map(decode_registration).collect::<Result<_, _>>()?)
        }
        Wire::Forget(forget) => Change::Forget(decode_router_id(forget.router_id)?),
        Wire::Announce(announcement) => Change::Announce(decode_announcement(announcement)?),
        Wire::Ban(ban) => Change::Ban(decode_router_id(ban.router_id)?),
        Wire::Allow(allow) => Change::Allow(decode_router_id(allow.router_id)?),
        Wire::CreateToken(token) => Change::CreateToken(token::decode(token)?),
        Wire::RedeemToken(redemption) => Change::RedeemToken(token::decode_redemption(redemption)?),
        Wire::Raise(raise) => {
            check_level(raise.level)?;
            Change::Raise(decode_level(raise.level)?)
        }
    };
    Ok(Command { time_ms: command.time_ms, change })
}

pub(super) fn encode_identity(identity: &ClusterIdentity) -> store::Identity {
    store::Identity {
        cluster_id: identity.cluster.to_bytes().into(),
        epoch: identity.epoch.get(),
        recovery_id: identity.recovery.map_or_else(Vec::new, |id| id.to_bytes().into()),
    }
}

pub(super) fn decode_identity(identity: Option<&store::Identity>) -> Result<ClusterIdentity, CodecError> {
    let absent = |what| move || CodecError::Absent { what };
    let identity = identity.ok_or_else(absent("the cluster's identity"))?;
    let recovery = match identity.recovery_id.as_slice() {
        [] => None,
        bytes => Some(RecoveryId::from_slice(bytes).ok_or_else(absent("the recovery id"))?),
    };
    Ok(ClusterIdentity {
        cluster: ClusterId::from_slice(&identity.cluster_id).ok_or_else(absent("the cluster id"))?,
        epoch: Epoch::new(identity.epoch).ok_or_else(absent("the epoch"))?,
        recovery,
    })
}

pub(super) fn decode_level(level: u32) -> Result<FeatureLevel, CodecError> {
    FeatureLevel::new(level).ok_or(CodecError::Absent { what: "a feature level" })
}

pub(super) fn encode_registration(registration: &Registration) -> store::Registration {
    store::Registration {
        router_id: registration.router.to_string(),
        boot_id: registration.boot.to_bytes().into(),
        sequence: registration.sequence,
        software_version: registration.software_version.clone(),
        protocol_min: registration.protocols.min().get(),
        protocol_max: registration.protocols.max().get(),
        labels: registration.labels.clone(),
        keys: encode_keys(&registration.keys),
    }
}

pub(super) fn decode_registration(registration: store::Registration) -> Result<Registration, CodecError> {
    Ok(Registration {
        router: decode_router_id(registration.router_id)?,
        boot: decode_boot(&registration.boot_id)?,
        sequence: registration.sequence,
        software_version: registration.software_version,
        protocols: decode_protocols(registration.protocol_min, registration.protocol_max)?,
        labels: registration.labels,
        keys: decode_keys(registration.keys),
    })
}

pub(super) fn encode_announcement(announcement: &Announcement) -> store::Announcement {
    store::Announcement {
        controller_id: announcement.controller.get(),
        incarnation: announcement.incarnation.to_bytes().into(),
        software_version: announcement.software_version.clone(),
        level_min: announcement.level_min.get(),
        level_max: announcement.level_max.get(),
        protocol_min: announcement.protocols.min().get(),
        protocol_max: announcement.protocols.max().get(),
    }
}

pub(super) fn decode_announcement(announcement: store::Announcement) -> Result<Announcement, CodecError> {
    Ok(Announcement {
        controller: decode_id(announcement.controller_id)?,
        incarnation: decode_incarnation(&announcement.incarnation)?,
        software_version: announcement.software_version,
        level_min: decode_level(announcement.level_min)?,
        level_max: decode_level(announcement.level_max)?,
        protocols: decode_protocols(announcement.protocol_min, announcement.protocol_max)?,
    })
}

pub(super) fn decode_boot(bytes: &[u8]) -> Result<BootId, CodecError> {
    BootId::from_slice(bytes).ok_or(CodecError::Absent { what: "a boot id" })
}

pub(super) fn decode_router_id(text: String) -> Result<RouterId, CodecError> {
    RouterId::new(text).map_err(|error| CodecError::invalid("a router id")(&error))
}

fn decode_protocols(min: u32, max: u32) -> Result<ProtocolRange, CodecError> {
    let range =
        ProtocolVersion::new(min).zip(ProtocolVersion::new(max)).and_then(|(min, max)| ProtocolRange::new(min, max));
    range.ok_or_else(|| CodecError::invalid("a range of protocols")(&format_args!("{min} to {max}")))
}
