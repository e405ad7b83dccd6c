//! What routers hold: the list of controllers. Versioned, ordered by id, and never empty, by type.
//!
//! A [`ControllerList`] comes from two places only: [`ControllerList::derive`], from one applied membership entry, and
//! [`ControllerList::try_from`] an [`OfferedList`], which checks everything that a sender could have got wrong. It does
//! not know encodings, and nothing here decides whether a list may replace another (see [`super::acceptance`]).

mod defect;
mod offered;
mod version;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::defect::Defect;
pub use self::offered::{OfferedController, OfferedList};
pub use self::version::{Digest, DigestScheme, Epoch, HeldVersion, ListVersion};
use super::endpoint::Endpoint;
use super::ids::{ClusterId, ControllerId, ControllerName, Incarnation, RecoveryId};
use super::membership::Membership;

/// Most controllers in a list, unions during a joint change included.
pub const CONTROLLERS_MAX: usize = 64;
/// Most voter sets: two while a change is joint.
pub const VOTER_SETS_MAX: usize = 2;
/// Most endpoints of one controller.
pub const ENDPOINTS_PER_CONTROLLER_MAX: usize = 8;
/// Most bytes of an encoded list. `membership::plan` refuses what would not fit.
pub const LIST_BYTES_MAX: usize = 192 * 1024;
/// Most public keys of one controller or router.
pub const KEYS_PER_CONTROLLER_MAX: usize = 4;
/// Most bytes of one public key.
pub const KEY_BYTES_MAX: usize = 1024;

/// What a controller does in Raft. Learners serve routers as voters do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Counts for quorum.
    Voter,
    /// Receives the log and serves routers, without a vote.
    Learner,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
        })
    }
}

/// A public key of a controller: room for endorsed lists. Opaque to everything here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    /// Names the algorithm and use.
    pub scheme: u32,
    /// The key in that scheme's form.
    pub bytes: Vec<u8>,
}

/// One controller of a list, as a router needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedController {
    /// Raft node id.
    pub id: ControllerId,
    /// Name for people.
    pub name: ControllerName,
    /// Voter or learner.
    pub role: Role,
    /// Where its router service listens: 1 to [`ENDPOINTS_PER_CONTROLLER_MAX`], in order of preference.
    pub endpoints: Vec<Endpoint>,
    /// Which formatting of its data directory.
    pub incarnation: Incarnation,
    /// Room for endorsed lists.
    #[serde(skip)]
    pub keys: Vec<PublicKey>,
}

/// The identity of a cluster in one of its lives. Applied through the log, never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Which recovery began that life; `None` in the life in which it was founded.
    pub recovery: Option<RecoveryId>,
}

/// The controllers of one cluster at one version. Ordered by id, never empty: there is no way to build an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControllerList {
    identity: ClusterIdentity,
    version: ListVersion,
    term: u64,
    controllers: Vec<ListedController>,
    voter_sets: Vec<BTreeSet<ControllerId>>,
    retired: BTreeSet<ControllerId>,
    predecessor: Option<ListVersion>,
}

/// What a controller knows about the list. Unknown is not empty: while it is unknown nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListState {
    /// No membership with an applied cluster identity has been applied yet.
    Unknown,
    /// Derived from applied membership.
    Known(ControllerList),
}

/// Where in the log a membership entry stands, and what else of the applied state a list needs.
#[derive(Debug, Clone, Copy)]
pub struct Applied<'a> {
    /// The applied cluster identity; `None` before it is applied.
    pub identity: Option<&'a ClusterIdentity>,
    /// Term of the membership entry.
    pub term: u64,
    /// Index of the membership entry.
    pub log_index: u64,
    /// Every id that was ever committed.
    pub used_ids: &'a BTreeSet<ControllerId>,
    /// Log index of the membership entry before this one.
    pub previous_log_index: Option<u64>,
}

impl ControllerList {
    /// The list that an applied membership entry stands for: a pure function of that entry and the applied identity.
    /// While a change is joint this is the union of both configurations.
    ///
    /// # Errors
    /// [`Defect`] when the membership would make a list that no router may take. `membership::plan` does not let such
    /// a membership be proposed; the last good list then stays published.
    pub fn derive(membership: &Membership, applied: Applied<'_>) -> Result<ListState, Defect> {
        let Some(identity) = applied.identity else { return Ok(ListState::Unknown) };
        if membership.is_blank() {
            return Ok(ListState::Unknown);
        }
        let version = |log_index| ListVersion::at(identity.epoch, log_index);
        let members = membership.members();
        let list = Self {
            identity: *identity,
            version: version(applied.log_index),
            term: applied.term,
            controllers: members.map(|member| member.listed(membership.role(member.id))).collect(),
            voter_sets: membership.voter_sets().to_vec(),
            retired: applied.used_ids.iter().copied().filter(|id| membership.member(*id).is_none()).collect(),
            predecessor: applied.previous_log_index.map(version),
        };
        list.check().map(ListState::Known)
    }

    /// Which cluster, epoch and recovery.
    #[must_use]
    pub const fn identity(&self) -> ClusterIdentity {
        self.identity
    }

    /// Its place in the order of lists.
    #[must_use]
    pub const fn version(&self) -> ListVersion {
        self.version
    }

    /// Raft term of the membership entry.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// The controllers, ordered by id; at least one.
    #[must_use]
    pub fn controllers(&self) -> &[ListedController] {
        &self.controllers
    }

    /// The controller with this id.
    #[must_use]
    pub fn get(&self, id: ControllerId) -> Option<&ListedController> {
        self.controllers.iter().find(|controller| controller.id == id)
    }

    /// Raft's voter sets: one, or two during a joint change.
    #[must_use]
    pub fn voter_sets(&self) -> &[BTreeSet<ControllerId>] {
        &self.voter_sets
    }

    /// Ids that were once members and never will be again.
    #[must_use]
    pub const fn retired(&self) -> &BTreeSet<ControllerId> {
        &self.retired
    }

    /// The version of the list before this one, where there was one.
    #[must_use]
    pub const fn predecessor(&self) -> Option<ListVersion> {
        self.predecessor
    }

    /// States every invariant of the type.
    fn check(self) -> Result<Self, Defect> {
        self.check_version()?;
        if self.controllers.is_empty() {
            return Err(Defect::Empty);
        }
        if self.controllers.len() > CONTROLLERS_MAX {
            return Err(Defect::TooManyControllers { count: self.controllers.len() });
        }
        let (mut names, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
        let mut previous = None;
        for controller in &self.controllers {
            let id = controller.id;
            if previous >= Some(id) {
                return Err(Defect::DuplicateController { id });
            }
            previous = Some(id);
            if !names.insert(&controller.name) {
                return Err(Defect::DuplicateName { name: controller.name.clone() });
            }
            if controller.endpoints.is_empty() {
                return Err(Defect::NoEndpoints { id });
            }
            if controller.endpoints.len() > ENDPOINTS_PER_CONTROLLER_MAX {
                return Err(Defect::TooManyEndpoints { id, count: controller.endpoints.len() });
            }
            if let Some(endpoint) = controller.endpoints.iter().find(|endpoint| !endpoints.insert(endpoint.place())) {
                return Err(Defect::DuplicateEndpoint { endpoint: endpoint.clone() });
            }
            if controller.keys.len() > KEYS_PER_CONTROLLER_MAX
                || controller.keys.iter().any(|key| key.bytes.len() > KEY_BYTES_MAX)
            {
                return Err(Defect::TooManyKeys { id });
            }
            if self.retired.contains(&id) {
                return Err(Defect::RetiredListed { id });
            }
        }
        self.check_voters()?;
        Ok(self)
    }

    /// A place in the order of lists, after that of its predecessor.
    fn check_version(&self) -> Result<(), Defect> {
        if self.version.index == 0 || self.version.epoch != self.identity.epoch {
            return Err(Defect::NoVersion);
        }
        match self.predecessor {
            Some(before) if before.index == 0 || before >= self.version => Err(Defect::BadPredecessor),
            _ => Ok(()),
        }
    }

    /// Every voter is listed, as a voter, and nobody else is: in a joint change the list is the union.
    fn check_voters(&self) -> Result<(), Defect> {
        if self.voter_sets.is_empty() || self.voter_sets.iter().any(BTreeSet::is_empty) {
            return Err(Defect::NoVoters);
        }
        if self.voter_sets.len() > VOTER_SETS_MAX {
            return Err(Defect::TooManyVoterSets { count: self.voter_sets.len() });
        }
        let voters: BTreeSet<_> = self.voter_sets.iter().flatten().copied().collect();
        let listed = |controller: &&ListedController| controller.role == Role::Voter;
        let as_voters: BTreeSet<_> = self.controllers.iter().filter(listed).map(|controller| controller.id).collect();
        match voters.symmetric_difference(&as_voters).next() {
            Some(id) => Err(Defect::RoleMismatch { id: *id }),
            None => Ok(()),
        }
    }
}
