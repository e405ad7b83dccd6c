//! A list as it was decoded, and the one way from there to a [`ControllerList`]: every check that a sender could fail.

use std::collections::BTreeSet;

use super::{
    CONTROLLERS_MAX, ClusterIdentity, ControllerList, Defect, ENDPOINTS_PER_CONTROLLER_MAX, ListVersion,
    ListedController, PublicKey, Role,
};
use crate::domain::ids::{ControllerId, ControllerName, Incarnation};

/// A list as it was decoded, before anything about it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedList {
    /// Cluster, epoch and recovery; `None` when the sender left any needed part out.
    pub identity: Option<ClusterIdentity>,
    /// Version; `None` when the sender left it out.
    pub version: Option<ListVersion>,
    /// Raft term of the membership entry.
    pub term: u64,
    /// The controllers, in the sender's order.
    pub controllers: Vec<OfferedController>,
    /// Raft's voter sets.
    pub voter_sets: Vec<Vec<u64>>,
    /// Ids that were once members.
    pub retired: Vec<u64>,
    /// The version before this one.
    pub predecessor: Option<ListVersion>,
}

/// A controller as it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedController {
    /// 0 when absent.
    pub id: u64,
    /// Any text.
    pub name: String,
    /// `None` when absent or not known to this build.
    pub role: Option<Role>,
    /// Any texts.
    pub endpoints: Vec<String>,
    /// `None` when absent.
    pub incarnation: Option<Incarnation>,
    /// Any keys.
    pub keys: Vec<PublicKey>,
}

impl TryFrom<OfferedList> for ControllerList {
    type Error = Defect;

    fn try_from(offered: OfferedList) -> Result<Self, Self::Error> {
        // Counted before anything is parsed, so that a hostile list costs what its bytes cost and no more.
        if offered.controllers.is_empty() {
            return Err(Defect::Empty);
        }
        if offered.controllers.len() > CONTROLLERS_MAX {
            return Err(Defect::TooManyControllers { count: offered.controllers.len() });
        }
        let identity = offered.identity.ok_or(Defect::NoIdentity)?;
        let version = offered.version.filter(|v| v.epoch == identity.epoch).ok_or(Defect::NoVersion)?;
        let mut controllers =
            offered.controllers.into_iter().map(ListedController::try_from).collect::<Result<Vec<_>, _>>()?;
        controllers.sort_by_key(|controller| controller.id);
        let ids = |ids: Vec<u64>| {
            let known = |id| ControllerId::new(id).ok_or(Defect::NoId);
            ids.into_iter().map(known).collect::<Result<BTreeSet<_>, _>>()
        };
        Self {
            identity,
            version,
            term: offered.term,
            controllers,
            voter_sets: offered.voter_sets.into_iter().map(ids).collect::<Result<_, _>>()?,
            retired: ids(offered.retired)?,
            predecessor: offered.predecessor,
        }
        .check()
    }
}

impl TryFrom<OfferedController> for ListedController {
    type Error = Defect;

    fn try_from(offered: OfferedController) -> Result<Self, Self::Error> {
        let id = ControllerId::new(offered.id).ok_or(Defect::NoId)?;
        if offered.endpoints.len() > ENDPOINTS_PER_CONTROLLER_MAX {
            return Err(Defect::TooManyEndpoints { id, count: offered.endpoints.len() });
        }
        let parse = |text: String| text.parse().map_err(|reason| Defect::BadEndpoint { id, reason });
        Ok(Self {
            id,
            name: ControllerName::new(offered.name).map_err(|reason| Defect::BadName { id, reason })?,
            role: offered.role.ok_or(Defect::NoRole { id })?,
            endpoints: offered.endpoints.into_iter().map(parse).collect::<Result<_, _>>()?,
            incarnation: offered.incarnation.ok_or(Defect::NoIncarnation { id })?,
            keys: offered.keys,
        })
    }
}
