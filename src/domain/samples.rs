//! One instance of every refusal, so that tests can demand something of each: a stable code, a hint, a log line, a NACK.
//!
//! The macro makes the list and an exhaustive match out of the same lines: a new variant does not compile until it has
//! an instance here.

use super::acceptance::{HINTS_MAX, Offerer, Refusal};
use super::command::RegistrationRefusal;
use super::controller_list::{
    CONTROLLERS_MAX, Defect, ENDPOINTS_PER_CONTROLLER_MAX, Epoch, LIST_BYTES_MAX, ListVersion, VOTER_SETS_MAX,
};
use super::endpoint::{Endpoint, InvalidEndpoint};
use super::ids::{ClusterId, ControllerId, ControllerName, InvalidId, RouterId};
use super::membership;

macro_rules! one_of_each {
    ($type:ty: $($pattern:pat => $sample:expr,)+) => {{
        let every_variant = |one: &$type| match one { $($pattern => (),)+ };
        let samples: Vec<$type> = vec![$({
            let sample = $sample;
            assert!(matches!(sample, $pattern), "a sample stands beside another variant");
            sample
        },)+];
        samples.iter().for_each(every_variant);
        samples
    }};
}

/// One of each [`Refusal`]; of the defective ones, one for each [`Defect`].
#[must_use]
pub fn offer_refusals() -> Vec<Refusal> {
    let (older, newer) = (ListVersion::at(Epoch::FIRST, 6), ListVersion::at(Epoch::FIRST, 8));
    let mut refusals = one_of_each!(Refusal:
        Refusal::Undecodable { .. } => Refusal::Undecodable { detail: "unexpected end".into() },
        Refusal::Oversized { .. } => Refusal::Oversized { bytes: LIST_BYTES_MAX + 1 },
        Refusal::DigestMismatch => Refusal::DigestMismatch,
        Refusal::Defective(_) => Refusal::Defective(Defect::Empty),
        Refusal::BadAddress { .. } => Refusal::BadAddress { position: 2, reason: InvalidEndpoint::NoHost },
        Refusal::ForeignCluster { .. } =>
            Refusal::ForeignCluster { held: ClusterId::from_u128(1), offered: ClusterId::from_u128(2) },
        Refusal::Stale { .. } => Refusal::Stale { floor: newer, offered: older },
        Refusal::Conflict { .. } => Refusal::Conflict { version: newer },
        Refusal::RecoveryConflict { .. } => Refusal::RecoveryConflict { version: newer },
        Refusal::Outsider { .. } => Refusal::Outsider { from: Offerer::Controller(id()) },
        Refusal::Retired { .. } => Refusal::Retired { from: id() },
        Refusal::HintsFull { .. } => Refusal::HintsFull { count: HINTS_MAX + 1 },
    );
    refusals.extend(defects().into_iter().filter(|defect| *defect != Defect::Empty).map(Refusal::Defective));
    refusals
}

/// One of each [`Defect`].
#[must_use]
pub fn defects() -> Vec<Defect> {
    one_of_each!(Defect:
        Defect::Empty => Defect::Empty,
        Defect::TooManyControllers { .. } => Defect::TooManyControllers { count: CONTROLLERS_MAX + 1 },
        Defect::NoIdentity => Defect::NoIdentity,
        Defect::NoVersion => Defect::NoVersion,
        Defect::NoId => Defect::NoId,
        Defect::DuplicateController { .. } => Defect::DuplicateController { id: id() },
        Defect::DuplicateName { .. } => Defect::DuplicateName { name: name() },
        Defect::BadName { .. } =>
            Defect::BadName { id: id(), reason: InvalidId::Empty { kind: "controller name" } },
        Defect::NoRole { .. } => Defect::NoRole { id: id() },
        Defect::NoIncarnation { .. } => Defect::NoIncarnation { id: id() },
        Defect::NoEndpoints { .. } => Defect::NoEndpoints { id: id() },
        Defect::TooManyEndpoints { .. } =>
            Defect::TooManyEndpoints { id: id(), count: ENDPOINTS_PER_CONTROLLER_MAX + 1 },
        Defect::BadEndpoint { .. } => Defect::BadEndpoint { id: id(), reason: InvalidEndpoint::Port },
        Defect::DuplicateEndpoint { .. } => Defect::DuplicateEndpoint { endpoint: endpoint() },
        Defect::TooManyKeys { .. } => Defect::TooManyKeys { id: id() },
        Defect::RetiredListed { .. } => Defect::RetiredListed { id: id() },
        Defect::NoVoters => Defect::NoVoters,
        Defect::RoleMismatch { .. } => Defect::RoleMismatch { id: id() },
        Defect::TooManyVoterSets { .. } => Defect::TooManyVoterSets { count: VOTER_SETS_MAX + 1 },
        Defect::BadPredecessor => Defect::BadPredecessor,
    )
}

/// One of each refusal of a membership change.
#[must_use]
pub fn plan_refusals() -> Vec<membership::Refusal> {
    use membership::Refusal as R;
    one_of_each!(R:
        R::NotAMember { .. } => R::NotAMember { id: id() },
        R::IdUsed { .. } => R::IdUsed { id: id() },
        R::AlreadyMember { .. } => R::AlreadyMember { id: id() },
        R::NameTaken { .. } => R::NameTaken { name: name(), by: id() },
        R::EndpointTaken { .. } => R::EndpointTaken { endpoint: endpoint(), by: id() },
        R::NoEndpoint { .. } => R::NoEndpoint { id: id(), kind: "router" },
        R::TooManyEndpoints { .. } =>
            R::TooManyEndpoints { id: id(), kind: "router", count: ENDPOINTS_PER_CONTROLLER_MAX + 1 },
        R::AlreadyVoter { .. } => R::AlreadyVoter { id: id() },
        R::AlreadyLearner { .. } => R::AlreadyLearner { id: id() },
        R::NotCaughtUp { .. } => R::NotCaughtUp { id: id(), lag_entries: None },
        R::LastVoter { .. } => R::LastVoter { id: id() },
        R::LosesQuorum { .. } => R::LosesQuorum { needed: 2, live: 1 },
        R::NoSuccessor { .. } => R::NoSuccessor { id: id() },
        R::ChangeInProgress => R::ChangeInProgress,
        R::TooManyControllers => R::TooManyControllers,
        R::NothingToChange { .. } => R::NothingToChange { id: id() },
        R::DefectiveList(_) => R::DefectiveList(Defect::Empty),
        R::RefusedList(_) => R::RefusedList(Refusal::DigestMismatch),
    )
}

/// One of each refusal of a registration.
#[must_use]
pub fn registration_refusals() -> Vec<RegistrationRefusal> {
    use RegistrationRefusal as R;
    let router = || RouterId::new("edge-1").expect("a valid name");
    one_of_each!(R:
        R::Stale { .. } => R::Stale { router: router() },
        R::Conflict { .. } => R::Conflict { router: router() },
        R::Full { .. } => R::Full { limit: 1 },
        R::OverLimit { .. } => R::OverLimit { router: router(), what: "the size of the labels", limit: 1 },
        R::Banned { .. } => R::Banned { router: router() },
    )
}

fn id() -> ControllerId {
    ControllerId::new(4).expect("not 0")
}

fn name() -> ControllerName {
    ControllerName::new("controller-4").expect("a valid name")
}

fn endpoint() -> Endpoint {
    "http://192.0.2.4:7002".parse().expect("a valid endpoint")
}
