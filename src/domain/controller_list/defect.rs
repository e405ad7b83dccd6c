//! Why something is not a controller list.

use super::{CONTROLLERS_MAX, ENDPOINTS_PER_CONTROLLER_MAX, VOTER_SETS_MAX};
use crate::domain::endpoint::{Endpoint, InvalidEndpoint};
use crate::domain::ids::{ControllerId, ControllerName, InvalidId};

/// Why something is not a controller list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The incident: a list without any controller.
    #[error("the list names no controller")]
    Empty,
    /// More than [`CONTROLLERS_MAX`].
    #[error("the list names {count} controllers, the limit is {CONTROLLERS_MAX}")]
    TooManyControllers {
        /// How many it names.
        count: usize,
    },
    /// No usable cluster id, or no epoch.
    #[error("the list does not say of which cluster it is")]
    NoIdentity,
    /// No index, or an epoch other than its identity's.
    #[error("the list has no version")]
    NoVersion,
    /// A controller, voter or retired id of 0.
    #[error("the list contains the controller id 0")]
    NoId,
    /// One id twice.
    #[error("the list names controller {id} twice")]
    DuplicateController {
        /// Which.
        id: ControllerId,
    },
    /// One name twice.
    #[error("the list gives the name {name} to two controllers")]
    DuplicateName {
        /// Which.
        name: ControllerName,
    },
    /// A name that is none.
    #[error("controller {id} has an unusable name: {reason}")]
    BadName {
        /// Whose.
        id: ControllerId,
        /// Why.
        reason: InvalidId,
    },
    /// A role that this build does not know.
    #[error("controller {id} has no role that this version knows")]
    NoRole {
        /// Whose.
        id: ControllerId,
    },
    /// No incarnation.
    #[error("controller {id} has no incarnation")]
    NoIncarnation {
        /// Whose.
        id: ControllerId,
    },
    /// A controller that nobody could reach.
    #[error("controller {id} has no endpoint")]
    NoEndpoints {
        /// Which.
        id: ControllerId,
    },
    /// More than [`ENDPOINTS_PER_CONTROLLER_MAX`].
    #[error("controller {id} has {count} endpoints, the limit is {ENDPOINTS_PER_CONTROLLER_MAX}")]
    TooManyEndpoints {
        /// Whose.
        id: ControllerId,
        /// How many.
        count: usize,
    },
    /// An endpoint that is none.
    #[error("an endpoint of controller {id} {reason}")]
    BadEndpoint {
        /// Whose.
        id: ControllerId,
        /// Why.
        reason: InvalidEndpoint,
    },
    /// One endpoint twice, in one controller or in two.
    #[error("the list gives the endpoint {endpoint} twice")]
    DuplicateEndpoint {
        /// Which.
        endpoint: Endpoint,
    },
    /// More than `KEYS_PER_CONTROLLER_MAX` keys, or one over `KEY_BYTES_MAX`.
    #[error("controller {id} has more keys, or a larger one, than the limits allow")]
    TooManyKeys {
        /// Whose.
        id: ControllerId,
    },
    /// A controller that the same list says is retired.
    #[error("the list names controller {id} both as a member and as retired")]
    RetiredListed {
        /// Which.
        id: ControllerId,
    },
    /// No voter set, or one without voters.
    #[error("the list has no voters")]
    NoVoters,
    /// A voter that is not listed, or one whose role is not what the voter sets say.
    #[error("the list contradicts itself about the vote of controller {id}")]
    RoleMismatch {
        /// Whose.
        id: ControllerId,
    },
    /// More than [`VOTER_SETS_MAX`].
    #[error("the list has {count} sets of voters, the limit is {VOTER_SETS_MAX}")]
    TooManyVoterSets {
        /// How many.
        count: usize,
    },
    /// The list before this one is not before it.
    #[error("the list says that it follows a version that is not older")]
    BadPredecessor,
}

impl Defect {
    /// Stable name: the `reason` of metrics, logs and NACKs. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooManyControllers { .. } => "too_many_controllers",
            Self::NoIdentity => "no_identity",
            Self::NoVersion => "no_version",
            Self::NoId => "no_id",
            Self::DuplicateController { .. } => "duplicate_controller",
            Self::DuplicateName { .. } => "duplicate_name",
            Self::BadName { .. } => "bad_name",
            Self::NoRole { .. } => "no_role",
            Self::NoIncarnation { .. } => "no_incarnation",
            Self::NoEndpoints { .. } => "no_endpoints",
            Self::TooManyEndpoints { .. } => "too_many_endpoints",
            Self::BadEndpoint { .. } => "bad_endpoint",
            Self::DuplicateEndpoint { .. } => "duplicate_endpoint",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::RetiredListed { .. } => "retired_listed",
            Self::NoVoters => "no_voters",
            Self::RoleMismatch { .. } => "role_mismatch",
            Self::TooManyVoterSets { .. } => "too_many_voter_sets",
            Self::BadPredecessor => "bad_predecessor",
        }
    }
}
