//! Why a change of membership is not made.

use super::CAUGHT_UP_LAG_ENTRIES_MAX;
use crate::domain::acceptance;
use crate::domain::controller_list::{CONTROLLERS_MAX, Defect, ENDPOINTS_PER_CONTROLLER_MAX};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, ControllerName};

/// Why a change is not made. Nothing was proposed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such member.
    #[error("controller {id} is not a member")]
    NotAMember {
        /// Which.
        id: ControllerId,
    },
    /// The id is a member's, or was once.
    #[error("controller id {id} was used before and is never used again")]
    IdUsed {
        /// Which.
        id: ControllerId,
    },
    /// The data directory is a member's already.
    #[error("that controller is already a member, as controller {id}")]
    AlreadyMember {
        /// As which.
        id: ControllerId,
    },
    /// The name is another member's.
    #[error("the name {name} is taken by controller {by}")]
    NameTaken {
        /// The name.
        name: ControllerName,
        /// Whose it is.
        by: ControllerId,
    },
    /// The endpoint is another member's, or stands twice in one record.
    #[error("the endpoint {endpoint} is taken by controller {by}")]
    EndpointTaken {
        /// The endpoint.
        endpoint: Endpoint,
        /// Whose it is.
        by: ControllerId,
    },
    /// A record without an address of this kind.
    #[error("controller {id} would have no {kind} address")]
    NoEndpoint {
        /// Whose.
        id: ControllerId,
        /// `peer`, `router` or `admin`.
        kind: &'static str,
    },
    /// More than [`ENDPOINTS_PER_CONTROLLER_MAX`] addresses of one kind.
    #[error("controller {id} would have {count} {kind} addresses, the limit is {ENDPOINTS_PER_CONTROLLER_MAX}")]
    TooManyEndpoints {
        /// Whose.
        id: ControllerId,
        /// `peer`, `router` or `admin`.
        kind: &'static str,
        /// How many.
        count: usize,
    },
    /// It votes already.
    #[error("controller {id} is already a voter")]
    AlreadyVoter {
        /// Which.
        id: ControllerId,
    },
    /// It does not vote.
    #[error("controller {id} is already a learner")]
    AlreadyLearner {
        /// Which.
        id: ControllerId,
    },
    /// A learner that is not caught up.
    #[error(
        "controller {id} lags by {} entries, {CAUGHT_UP_LAG_ENTRIES_MAX} is the limit for a promotion",
        lag_entries.map_or_else(|| "an unknown number of".to_owned(), |lag| lag.to_string())
    )]
    NotCaughtUp {
        /// Which.
        id: ControllerId,
        /// By how much; `None` when the leader does not know.
        lag_entries: Option<u64>,
    },
    /// The last voter.
    #[error("controller {id} is the last voter: a cluster without voters can never write again")]
    LastVoter {
        /// Which.
        id: ControllerId,
    },
    /// The change needs a majority that is not there.
    #[error("the change needs {needed} voters that live and are caught up, and {live} are: writes would stop")]
    LosesQuorum {
        /// Majority of the voter set in question.
        needed: usize,
        /// How many of that set live, and are caught up where the change gives them the say.
        live: usize,
    },
    /// The leader would have to go, and nobody can follow it.
    #[error("controller {id} leads, and no other voter is live and caught up to take over")]
    NoSuccessor {
        /// The leader.
        id: ControllerId,
    },
    /// A change is already under way.
    #[error("another membership change is under way")]
    ChangeInProgress,
    /// More than [`CONTROLLERS_MAX`].
    #[error("the cluster has {CONTROLLERS_MAX} controllers, which is its limit")]
    TooManyControllers,
    /// Nothing would change.
    #[error("controller {id} already has these addresses")]
    NothingToChange {
        /// Which.
        id: ControllerId,
    },
    /// The membership would make a list that is none.
    #[error("the change would make a list that no router may hold: {0}")]
    DefectiveList(#[from] Defect),
    /// The membership would make a list that routers refuse.
    #[error("routers would refuse the list that the change makes: {0}")]
    RefusedList(#[source] acceptance::Refusal),
}

impl Refusal {
    /// Stable name, for programs. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAMember { .. } => "not_a_member",
            Self::IdUsed { .. } => "id_used",
            Self::AlreadyMember { .. } => "already_member",
            Self::NameTaken { .. } => "name_taken",
            Self::EndpointTaken { .. } => "endpoint_taken",
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::TooManyEndpoints { .. } => "too_many_endpoints",
            Self::AlreadyVoter { .. } => "already_voter",
            Self::AlreadyLearner { .. } => "already_learner",
            Self::NotCaughtUp { .. } => "not_caught_up",
            Self::LastVoter { .. } => "last_voter",
            Self::LosesQuorum { .. } => "loses_quorum",
            Self::NoSuccessor { .. } => "no_successor",
            Self::ChangeInProgress => "change_in_progress",
            Self::TooManyControllers => "too_many_controllers",
            Self::NothingToChange { .. } => "nothing_to_change",
            Self::DefectiveList(_) => "defective_list",
            Self::RefusedList(_) => "refused_list",
        }
    }
    /// What an operator should do. Nothing was changed in any case.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotAMember { .. } => "see `pilothouse cluster members` for those that are",
            Self::IdUsed { .. } => {
                "over TLS: give it a certificate for the next free id, which `pilothouse cluster status` shows, and start \
                 it again; over plain text `pilothouse cluster add` chooses one"
            }
            Self::AlreadyMember { .. } => {
                "nothing, if it is the one that was meant; otherwise give --peer the address of the blank controller"
            }
            Self::NameTaken { .. } => "give the new controller another name in its configuration, and start it again",
            Self::EndpointTaken { .. } => "give it an address of its own in `listen` or `advertise`",
            Self::NoEndpoint { .. } => "give at least one address of this kind",
            Self::TooManyEndpoints { .. } => {
                "leave some out; while addresses change the old ones count too: replace fewer at a time"
            }
            Self::AlreadyVoter { .. } | Self::AlreadyLearner { .. } => {
                "nothing has to be done; `pilothouse cluster members` shows who votes"
            }
            Self::NotCaughtUp { .. } => {
                "use --wait, or try again when `pilothouse cluster status` shows that it has caught up"
            }
            Self::LastVoter { .. } => "promote another controller first",
            Self::LosesQuorum { .. } => {
                "bring the others back first, and wait until `pilothouse cluster status` shows that they have caught up"
            }
            Self::NoSuccessor { .. } => "bring another voter back first, and wait until it has caught up",
            Self::ChangeInProgress => "wait until `pilothouse cluster status` shows one voter set",
            Self::TooManyControllers => "remove one that is not needed with `pilothouse cluster remove` first",
            Self::NothingToChange { .. } => {
                "nothing has to be done; `pilothouse cluster members` shows the addresses of every member"
            }
            Self::DefectiveList(_) => {
                "correct what it names in that controller's configuration, start it again, and repeat the command"
            }
            Self::RefusedList(_) => {
                "look at the leader's log and at the versions in `pilothouse cluster members`, and repeat the command"
            }
        }
    }
}
