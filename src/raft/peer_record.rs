//! What a controller says of itself when it is asked who it is.

use crate::domain::controller_list::{Epoch, PublicKey};
use crate::domain::endpoint::Endpoint;
use crate::domain::feature::{Announcement, FeatureLevel};
use crate::domain::ids::{ClusterId, ControllerId, ControllerName, Incarnation};
use crate::domain::membership::Member;
use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
use crate::proto::peer::IdentifyResponse;

/// What a controller says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    /// Which formatting of its data directory.
    pub incarnation: Incarnation,
    /// Its id; `None` while none is assigned.
    pub id: Option<ControllerId>,
    /// Its cluster and epoch; `None` while it is blank.
    pub cluster: Option<(ClusterId, Epoch)>,
    /// Its name.
    pub name: ControllerName,
    /// Where other controllers reach it.
    pub peer: Vec<Endpoint>,
    /// Where routers reach it.
    pub router: Vec<Endpoint>,
    /// Where operators reach it.
    pub admin: Vec<Endpoint>,
    /// Whether it is configured to wait until a cluster adds it.
    pub joins: bool,
    /// Version of its build.
    pub software_version: String,
    /// Oldest feature level that it reads.
    pub level_min: FeatureLevel,
    /// Newest feature level that it reads and writes.
    pub level_max: FeatureLevel,
    /// Router protocols that it serves.
    pub protocols: ProtocolRange,
    /// Room for endorsed lists.
    pub keys: Vec<PublicKey>,
    /// Index of its last log entry.
    pub last_log: Option<u64>,
    /// Index of the last entry that it applied.
    pub applied: Option<u64>,
}

impl PeerRecord {
    /// Whether it belongs to no cluster.
    #[must_use]
    pub const fn is_blank(&self) -> bool {
        self.cluster.is_none()
    }

    /// As membership entries will hold it, under this id.
    #[must_use]
    pub fn member(&self, id: ControllerId) -> Member {
        Member {
            id,
            name: self.name.clone(),
            incarnation: self.incarnation,
            peer: self.peer.clone(),
            router: self.router.clone(),
            admin: self.admin.clone(),
            keys: self.keys.clone(),
        }
    }

    /// As the log will hold what its build can read and write, under this id.
    #[must_use]
    pub fn announcement(&self, controller: ControllerId) -> Announcement {
        Announcement {
            controller,
            incarnation: self.incarnation,
            software_version: self.software_version.clone(),
            level_min: self.level_min,
            level_max: self.level_max,
            protocols: self.protocols,
        }
    }

    pub(super) fn to_wire(&self) -> IdentifyResponse {
        let texts = |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect();
        let key = |key: &PublicKey| crate::proto::store::PublicKey { scheme: key.scheme, value: key.bytes.clone() };
        let next = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        IdentifyResponse {
            incarnation: self.incarnation.to_bytes().to_vec(),
            id: self.id.map_or(0, ControllerId::get),
            cluster_id: self.cluster.map_or_else(Vec::new, |(cluster, _)| cluster.to_bytes().to_vec()),
            epoch: self.cluster.map_or(0, |(_, epoch)| epoch.get()),
            name: self.name.as_str().to_owned(),
            peer: texts(&self.peer),
            router: texts(&self.router),
            admin: texts(&self.admin),
            joins: self.joins,
            software_version: self.software_version.clone(),
            level_min: self.level_min.get(),
            level_max: self.level_max.get(),
            protocol_min: self.protocols.min().get(),
            protocol_max: self.protocols.max().get(),
            keys: self.keys.iter().map(key).collect(),
            last_log_index: next(self.last_log),
            applied_index: next(self.applied),
        }
    }

    /// # Errors
    /// What is not usable in the answer.
    pub(super) fn from_wire(wire: IdentifyResponse) -> Result<Self, &'static str> {
        let cluster =
            match (wire.cluster_id.is_empty(), ClusterId::from_slice(&wire.cluster_id), Epoch::new(wire.epoch)) {
                (true, ..) => None,
                (false, Some(cluster), Some(epoch)) => Some((cluster, epoch)),
                (false, ..) => return Err("cluster id"),
            };
        let endpoints = |texts: Vec<String>, what| {
            texts.iter().map(|text| text.parse()).collect::<Result<Vec<Endpoint>, _>>().map_err(|_| what)
        };
        let protocol = |number| ProtocolVersion::new(number).ok_or("protocol range");
        Ok(Self {
            incarnation: Incarnation::from_slice(&wire.incarnation).ok_or("incarnation")?,
            id: ControllerId::new(wire.id),
            cluster,
            name: ControllerName::new(wire.name).map_err(|_| "name")?,
            peer: endpoints(wire.peer, "peer address")?,
            router: endpoints(wire.router, "router address")?,
            admin: endpoints(wire.admin, "admin address")?,
            joins: wire.joins,
            software_version: wire.software_version,
            level_min: FeatureLevel::new(wire.level_min).ok_or("feature level")?,
            level_max: FeatureLevel::new(wire.level_max).ok_or("feature level")?,
            protocols: ProtocolRange::new(protocol(wire.protocol_min)?, protocol(wire.protocol_max)?)
                .ok_or("protocol range")?,
            keys: wire.keys.into_iter().map(|key| PublicKey { scheme: key.scheme, bytes: key.value }).collect(),
            last_log: wire.last_log_index.checked_sub(1),
            applied: wire.applied_index.checked_sub(1),
        })
    }
}
