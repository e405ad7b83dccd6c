//! Every error that leaves over gRPC becomes a [`Status`] here, with its reason and its hint.
//!
//! The message is for people and ends in the hint; programs read the metadata `pilothouse-reason` (a stable name) and
//! `pilothouse-hint`.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::control_plane::{AdminError, NotServing, RegisterError};
use super::convert::InvalidRequest;
use super::enrolment_service::EnrolmentError;
use crate::domain::command::RegistrationRefusal;
use crate::domain::negotiation::Incompatible;
use crate::domain::upgrade::Blocker;

/// Stable name of the reason.
const REASON: &str = "pilothouse-reason";
/// What to do.
const HINT: &str = "pilothouse-hint";

/// When to try again, in milliseconds from now.
const RETRY_AFTER: &str = "pilothouse-retry-after-ms";
/// The router protocols that are served.
const SUPPORTED: &str = "pilothouse-supported";
/// The router protocols that were offered.
const OFFERED: &str = "pilothouse-offered";
/// What to do about controllers that have no certificates.
const NO_TRUST: &str = "give the controllers certificates (`pilothouse pki init`): a token says whom to trust";
/// What to do about a ban.
const ALLOW: &str = "an operator lifts it with `pilothouse routers allow`";

/// A refusal: code, stable reason, message for people, and what to do (empty when the message says it).
#[must_use]
pub fn refusal(code: Code, reason: &str, message: impl Into<String>, hint: &str) -> Status {
    let mut metadata = MetadataMap::new();
    for (key, text) in [(REASON, reason), (HINT, hint)] {
        if let Ok(value) = MetadataValue::<Ascii>::try_from(text)
            && !text.is_empty()
        {
            metadata.insert(key, value);
        }
    }
    let message = message.into();
    let message = if hint.is_empty() { message } else { format!("{message}; {hint}") };
    Status::with_metadata(code, message, metadata)
}

/// The stable name of a status's reason, when it came from Pilothouse.
#[must_use]
pub fn reason_of(status: &Status) -> Option<&str> {
    status.metadata().get(REASON).and_then(|value| value.to_str().ok())
}

/// What a status says should be done, when it came from Pilothouse.
#[must_use]
pub fn hint_of(status: &Status) -> Option<&str> {
    status.metadata().get(HINT).and_then(|value| value.to_str().ok())
}

/// A refusal that passes: when to try again is said to people and programs.
#[must_use]
pub fn refusal_for_now(reason: &str, message: &str, retry_after_ms: u64) -> Status {
    let hint = format!("try again in {retry_after_ms} ms");
    let mut status = refusal(Code::ResourceExhausted, reason, message, &hint);
    status.metadata_mut().insert(RETRY_AFTER, retry_after_ms.into());
    status
}

/// How long a status asks to be left alone, when it came from Pilothouse.
#[must_use]
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    let text = status.metadata().get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

/// A message without the hint that it ends in, and the hint.
#[must_use]
pub fn words_and_hint(message: &str, hint: Option<&str>) -> (String, String) {
    let hint = hint.unwrap_or_default();
    let words = message.strip_suffix(hint).and_then(|words| words.strip_suffix("; ")).unwrap_or(message);
    (words.to_owned(), hint.to_owned())
}

impl From<NotServing> for Status {
    fn from(why: NotServing) -> Self {
        let code = match why {
            NotServing::Full { .. } | NotServing::WatchesEnough { .. } => Code::ResourceExhausted,
            NotServing::Banned => Code::PermissionDenied,
            _ => Code::Unavailable,
        };
        refusal(code, not_serving_reason(why), why.to_string(), not_serving_hint(why))
    }
}

/// Stable name of why no router is served.
#[must_use]
pub const fn not_serving_reason(why: NotServing) -> &'static str {
    match why {
        NotServing::NotReady => "not_ready",
        NotServing::NotMember => "not_member",
        NotServing::Draining => "draining",
        NotServing::Full { .. } => "full",
        NotServing::Banned => "banned",
        NotServing::WatchesEnough { .. } => "too_many_watches",
    }
}

/// What a router, or its operator, does then.
#[must_use]
pub const fn not_serving_hint(why: NotServing) -> &'static str {
    match why {
        NotServing::NotReady => "try another controller, or this one again in a moment",
        NotServing::NotMember => "try another controller; an operator adds this one with `pilothouse cluster add`",
        NotServing::Draining | NotServing::Full { .. } => "try another controller",
        NotServing::Banned => ALLOW,
        NotServing::WatchesEnough { .. } => "end one of them, or hold a session, which brings the same lists",
    }
}

impl From<RegisterError> for Status {
    fn from(error: RegisterError) -> Self {
        let message = error.to_string();
        match error {
            RegisterError::NotServing(why) => why.into(),
            RegisterError::Refused(why) => registration_refused(&why),
            RegisterError::NoLeader { .. } => refusal(
                Code::Unavailable,
                "no_leader",
                message,
                "repeat the same registration: it is safe; an operator looks at `pilothouse cluster status`",
            ),
            RegisterError::Overloaded { .. } => {
                refusal(Code::ResourceExhausted, "overloaded", message, "repeat the same registration in a moment")
            }
            RegisterError::TooFast { retry_after_ms, .. } => refusal_for_now("too_fast", &message, retry_after_ms),
            RegisterError::TooManyHops { .. } => {
                refusal(Code::Unavailable, "too_many_hops", message, "repeat the same registration in a moment")
            }
            RegisterError::Passed(passed) => refusal(passed.code, &passed.reason, message, &passed.hint),
        }
    }
}

fn registration_refused(why: &RegistrationRefusal) -> Status {
    let (code, reason, hint) = match why {
        RegistrationRefusal::Stale { .. } => (
            Code::FailedPrecondition,
            "stale_registration",
            "nothing, if the router restarted since; else give each router its own id",
        ),
        RegistrationRefusal::Conflict { .. } => {
            (Code::AlreadyExists, "registration_conflict", "raise the sequence with every change")
        }
        RegistrationRefusal::Full { .. } => (
            Code::ResourceExhausted,
            "routers_full",
            "an operator forgets routers that are gone: `pilothouse routers forget`",
        ),
        RegistrationRefusal::OverLimit { .. } => (Code::InvalidArgument, "over_limit", "shorten it"),
        RegistrationRefusal::Banned { .. } => (Code::PermissionDenied, "banned", ALLOW),
    };
    refusal(code, reason, why.to_string(), hint)
}

impl From<EnrolmentError> for Status {
    fn from(error: EnrolmentError) -> Self {
        let (message, code) = (error.to_string(), error.code());
        match error {
            EnrolmentError::Invalid { .. } => refusal(Code::InvalidArgument, code, message, ""),
            EnrolmentError::Refused(why) => refusal(Code::PermissionDenied, why.public_code(), message, why.hint()),
            EnrolmentError::TooOften { retry_after_ms, .. } => refusal_for_now(code, &message, retry_after_ms),
            EnrolmentError::NoIssuer => refusal(
                Code::FailedPrecondition,
                code,
                message,
                "ask another controller, or give this one tls.router_issuer",
            ),
            EnrolmentError::NoTrust => {
                refusal(Code::FailedPrecondition, code, message, "give it certificates: `pilothouse pki init`")
            }
            EnrolmentError::NotServing(why) => why.into(),
            EnrolmentError::NoLeader { .. } => {
                refusal(Code::Unavailable, code, message, "try again: the same key may use its token again")
            }
            EnrolmentError::NotSigned { .. } => refusal(
                Code::Internal,
                code,
                message,
                "look at tls.router_issuer of this controller, or ask another one: the same key may use its token again",
            ),
        }
    }
}

impl From<Incompatible> for Status {
    /// What both sides speak is metadata as well: `pilothouse-supported` and `pilothouse-offered`, each `MIN-MAX`.
    fn from(why: Incompatible) -> Self {
        let mut status = refusal(Code::FailedPrecondition, why.code(), why.to_string(), why.hint());
        if let Incompatible::Protocol { ours, theirs } = why {
            for (key, range) in [(SUPPORTED, ours), (OFFERED, theirs)] {
                if let Ok(value) = format!("{}-{}", range.min(), range.max()).parse() {
                    status.metadata_mut().insert(key, value);
                }
            }
        }
        status
    }
}

impl From<InvalidRequest> for Status {
    fn from(why: InvalidRequest) -> Self {
        refusal(Code::InvalidArgument, "invalid", why.to_string(), "")
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        match error {
            AdminError::Refused(why) => refusal(Code::FailedPrecondition, why.code(), message, why.hint()),
            AdminError::Command(why) => refusal(Code::FailedPrecondition, why.code(), message, why.hint()),
            AdminError::Token(why) => refusal(Code::FailedPrecondition, why.code(), message, why.hint()),
            AdminError::NoTrust => refusal(Code::FailedPrecondition, "no_trust", message, NO_TRUST),
            AdminError::Invalid { .. } => refusal(Code::InvalidArgument, "invalid", message, ""),
            AdminError::NoLeader => refusal(
                Code::Unavailable,
                "no_leader",
                message,
                "try again in a moment; if it stays so, a majority of the voters is down: start them",
            ),
            AdminError::NotMember => refusal(
                Code::FailedPrecondition,
                "not_member",
                message,
                "ask a member of the cluster; `pilothouse cluster add` there makes this controller one",
            ),
            AdminError::TooManyHops { .. } => {
                refusal(Code::Unavailable, "too_many_hops", message, "leadership is moving: try again in a moment")
            }
            AdminError::LeaderUnreachable { .. } => refusal(
                Code::Unavailable,
                "leader_unreachable",
                message,
                "it is down, or this controller is cut off: look at `pilothouse cluster status`, also on the others, before you \
                 repeat a change",
            ),
            AdminError::Passed(passed) => refusal(passed.code, &passed.reason, message, &passed.hint),
            AdminError::ChangeInProgress => refusal(
                Code::FailedPrecondition,
                "change_in_progress",
                message,
                "wait until it is done: `pilothouse cluster status` shows one voter set then",
            ),
            AdminError::NotAddable { ref hint, .. } => refusal(Code::FailedPrecondition, "not_addable", message, hint),
            AdminError::StepFailed { .. } => refusal(
                Code::Aborted,
                "step_failed",
                message,
                "earlier steps stay done: look at `pilothouse cluster status`, then repeat the command",
            ),
            AdminError::UpgradeBlocked { ref blockers, .. } => {
                let hint = blockers.first().map_or("see `pilothouse cluster upgrade status`", Blocker::hint);
                refusal(Code::FailedPrecondition, "upgrade_blocked", message, hint)
            }
            AdminError::LeaderTooOld { .. } => refusal(
                Code::FailedPrecondition,
                "leader_too_old",
                message,
                "upgrade it first; until then its version sets the feature level",
            ),
            AdminError::TransferFailed { .. } => refusal(
                Code::FailedPrecondition,
                "transfer_failed",
                message,
                "see `pilothouse cluster status` for voters that are up and caught up",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sides_speak_is_said_to_programs_and_people() {
        use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
        let [ours, theirs] = [(1, 2), (7, 9)].map(|(min, max)| {
            let version = |number| ProtocolVersion::new(number).unwrap();
            ProtocolRange::new(version(min), version(max)).unwrap()
        });
        let status = Status::from(Incompatible::Protocol { ours, theirs });
        assert_eq!(reason_of(&status), Some("no_common_protocol"));
        let said = [SUPPORTED, OFFERED].map(|key| status.metadata().get(key).unwrap().to_str().unwrap());
        assert_eq!(said, ["1-2", "7-9"]);
        assert!(status.message().contains("serves 1 to 2") && status.message().contains("speaks 7 to 9"), "{status}");
    }

    #[test]
    fn when_to_try_again_is_said_to_programs_and_people() {
        let status = refusal_for_now("too_fast", "too often", 500);
        assert_eq!((reason_of(&status), retry_after_of(&status)), (Some("too_fast"), Some(Duration::from_millis(500))));
        assert_eq!(status.message(), "too often; try again in 500 ms");
        assert_eq!(retry_after_of(&Status::unavailable("")), None);
    }
}
