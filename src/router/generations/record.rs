//! What is inside the frames: records on disk, and the conversions between them and what the router works with.
//!
//! A list's canonical bytes are kept as they came and never re-encoded; they are judged again at every start, by the
//! same rules as an offer. Field numbers are appended, never edited.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use super::frame::{self, FileKind, Unusable};
use crate::domain::acceptance::{self, Floor, Held, HeldList, Offer, Offerer, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{BootId, ClusterId, ControllerId, RecoveryId};
use crate::domain::negotiation::ProtocolVersion;
use crate::proto::router as wire;
use crate::rpc::list_codec;

/// Most controllers in the reserve; the oldest are dropped. Four lists at their limit.
pub const RESERVE_MAX: usize = 256;

/// One saved list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The list, judged.
    pub held: HeldList,
    /// Which encoding `bytes` has.
    pub protocol: ProtocolVersion,
    /// Canonical bytes, as they came.
    pub bytes: Bytes,
    /// When it was adopted: milliseconds since 1970, this host's clock.
    pub adopted_ms: u64,
}

/// What outlives the lists: whom the router belongs to, and what it will not go behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The cluster that it belongs to; `None` before the first list.
    pub cluster: Option<ClusterId>,
    /// The highest version that was ever adopted.
    pub floor: Option<Floor>,
    /// Controllers that were removed from the cluster, as the adopted lists said; never a member of the newest one.
    pub retired: BTreeSet<ControllerId>,
}

/// A controller that was held once and may still be alive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reserved {
    /// Its id.
    pub id: ControllerId,
    /// Where its router service listened.
    pub endpoints: Vec<Endpoint>,
}

/// The last registration that this data directory knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// Of which start of the router.
    pub boot: BootId,
    /// Its number.
    pub sequence: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ListRecord {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(bytes = "bytes", tag = "2")]
    list: Bytes,
    #[prost(message, optional, tag = "3")]
    held: Option<wire::HeldVersion>,
    #[prost(uint64, tag = "4")]
    adopted_ms: u64,
    /// Room for endorsed lists.
    #[prost(message, optional, tag = "5")]
    trust_floor: Option<wire::HeldVersion>,
    /// Room for endorsed lists.
    #[prost(message, repeated, tag = "6")]
    endorsements: Vec<wire::Endorsement>,
}

#[derive(Clone, PartialEq, Message)]
struct TrustRecord {
    #[prost(bytes = "vec", tag = "1")]
    cluster_id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    floor: Option<wire::HeldVersion>,
    #[prost(bytes = "vec", tag = "3")]
    recovery_id: Vec<u8>,
    #[prost(uint64, repeated, tag = "4")]
    retired: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ReserveRecord {
    #[prost(message, repeated, tag = "1")]
    controllers: Vec<ReservedRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct ReservedRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, repeated, tag = "2")]
    endpoints: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct RegistrationRecord {
    #[prost(bytes = "vec", tag = "1")]
    boot_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    sequence: u64,
}

/// Something that has a file of its own.
pub(super) trait Record: Sized {
    /// What its file is.
    const KIND: FileKind;
    /// The payload.
    fn payload(&self) -> Vec<u8>;
    /// From a payload.
    fn from_payload(payload: &[u8]) -> Result<Self, Unusable>;

    /// The bytes of its file.
    fn seal(&self) -> Vec<u8> {
        frame::seal(Self::KIND, &self.payload())
    }

    /// From the bytes of its file.
    fn open(bytes: &[u8]) -> Result<Self, Unusable> {
        Self::from_payload(frame::open(Self::KIND, bytes)?)
    }
}

fn undecodable(detail: impl ToString) -> Unusable {
    Unusable::Undecodable { detail: detail.to_string() }
}

impl Record for Generation {
    const KIND: FileKind = FileKind::List;

    fn payload(&self) -> Vec<u8> {
        ListRecord {
            protocol: self.protocol.get(),
            list: self.bytes.clone(),
            held: Some(self.held.held_version().into()),
            adopted_ms: self.adopted_ms,
            trust_floor: None,
            endorsements: Vec::new(),
        }
        .encode_to_vec()
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Unusable> {
        let record = ListRecord::decode(payload).map_err(undecodable)?;
        let protocol = ProtocolVersion::new(record.protocol).ok_or_else(|| undecodable("it names no encoding"))?;
        let stated = record.held.as_ref().and_then(list_codec::held_from_wire);
        let stated = stated.ok_or_else(|| undecodable("it does not name its version"))?;
        let offer = Offer {
            from: Offerer::Unidentified,
            encoded_bytes: record.list.len(),
            content: list_codec::decode(record.protocol, &record.list, stated.digest),
        };
        match acceptance::decide(&Held::default(), &offer) {
            Verdict::Adopt(held) if held.list.version() == stated.version => {
                Ok(Self { held, protocol, bytes: record.list, adopted_ms: record.adopted_ms })
            }
            Verdict::Adopt(_) => Err(undecodable("its list has another version than its header says")),
            Verdict::Refuse(refusal) => Err(Unusable::Refused(refusal)),
            Verdict::Merge(_) | Verdict::Unchanged => Err(undecodable("it holds addresses, not a list")),
        }
    }
}

impl Record for Trust {
    const KIND: FileKind = FileKind::Floor;

    fn payload(&self) -> Vec<u8> {
        let cluster_id = self.cluster.map_or_else(Vec::new, |cluster| cluster.to_bytes().to_vec());
        let floor = self.floor.as_ref();
        TrustRecord {
            floor: floor.map(|floor| wire::HeldVersion {
                cluster_id: cluster_id.clone(),
                version: Some(floor.version.into()),
                digest: Some(floor.digest.into()),
            }),
            recovery_id: floor
                .and_then(|floor| floor.recovery)
                .map_or_else(Vec::new, |recovery| recovery.to_bytes().to_vec()),
            retired: self.retired.iter().map(|id| id.get()).collect(),
            cluster_id,
        }
        .encode_to_vec()
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Unusable> {
        let record = TrustRecord::decode(payload).map_err(undecodable)?;
        let cluster = ClusterId::from_slice(&record.cluster_id).ok_or_else(|| undecodable("it names no cluster"))?;
        let recovery = match record.recovery_id.as_slice() {
            [] => None,
            bytes => Some(RecoveryId::from_slice(bytes).ok_or_else(|| undecodable("its recovery id is none"))?),
        };
        let floor = match &record.floor {
            None => None,
            Some(floor) => {
                let held = list_codec::held_from_wire(floor).ok_or_else(|| undecodable("its floor has no version"))?;
                let digest = held.digest.ok_or_else(|| undecodable("its floor has no digest"))?;
                Some(Floor { version: held.version, recovery, digest })
            }
        };
        let retired = record.retired.into_iter().filter_map(ControllerId::new).collect();
        Ok(Self { cluster: Some(cluster), floor, retired })
    }
}

impl Record for Vec<Reserved> {
    const KIND: FileKind = FileKind::Reserve;

    fn payload(&self) -> Vec<u8> {
        let controllers = self.iter().map(|reserved| ReservedRecord {
            id: reserved.id.get(),
            endpoints: reserved.endpoints.iter().map(ToString::to_string).collect(),
        });
        ReserveRecord { controllers: controllers.collect() }.encode_to_vec()
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Unusable> {
        let record = ReserveRecord::decode(payload).map_err(undecodable)?;
        let reserved = record.controllers.into_iter().take(RESERVE_MAX).map(|controller| {
            let endpoints = controller.endpoints.iter().map(|text| text.parse()).collect::<Result<_, _>>();
            Ok(Reserved {
                id: ControllerId::new(controller.id).ok_or_else(|| undecodable("it has a controller without id"))?,
                endpoints: endpoints.map_err(undecodable)?,
            })
        });
        reserved.collect()
    }
}

impl Record for Registered {
    const KIND: FileKind = FileKind::Registration;

    fn payload(&self) -> Vec<u8> {
        RegistrationRecord { boot_id: self.boot.to_bytes().to_vec(), sequence: self.sequence }.encode_to_vec()
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Unusable> {
        let record = RegistrationRecord::decode(payload).map_err(undecodable)?;
        let boot = BootId::from_slice(&record.boot_id).ok_or_else(|| undecodable("it names no boot"))?;
        Ok(Self { boot, sequence: record.sequence })
    }
}
