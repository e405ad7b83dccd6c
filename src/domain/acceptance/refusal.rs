//! Why an offer is refused: displayable, counted by [`Refusal::code`], and with a [`Refusal::hint`].

use std::time::Duration;

use super::{HINTS_MAX, Offerer};
use crate::domain::controller_list::{Defect, LIST_BYTES_MAX, ListVersion};
use crate::domain::endpoint::InvalidEndpoint;
use crate::domain::ids::{ClusterId, ControllerId};

/// An offer that is older than a list adopted so recently was overtaken on its way: some heartbeats of a slow controller,
/// and several elections.
pub const LATE_WITHIN: Duration = Duration::from_secs(10);

/// Why an offer is refused. Displayable, counted by [`Refusal::code`], and with a [`Refusal::hint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a list.
    #[error("the offer cannot be decoded: {detail}")]
    Undecodable {
        /// The decoder's words.
        detail: String,
    },
    /// More than [`LIST_BYTES_MAX`].
    #[error("the offer has {bytes} bytes, the limit is {LIST_BYTES_MAX}")]
    Oversized {
        /// Its size.
        bytes: usize,
    },
    /// The stated digest is not that of the bytes that came.
    #[error("the offer's digest does not match its bytes")]
    DigestMismatch,
    /// It is not a list that anybody may hold.
    #[error(transparent)]
    Defective(#[from] Defect),
    /// An address of a protocol 1 offer is not usable.
    #[error("address {position} of the offer {reason}")]
    BadAddress {
        /// Position in the offer, from 1.
        position: usize,
        /// Why.
        reason: InvalidEndpoint,
    },
    /// Of another cluster.
    #[error("the offer is of cluster {offered}, this router belongs to cluster {held}")]
    ForeignCluster {
        /// The cluster that is held.
        held: ClusterId,
        /// The cluster that is offered.
        offered: ClusterId,
    },
    /// Older than the newest that was ever adopted.
    #[error("the offer is version {offered}, older than {floor}, which was already adopted")]
    Stale {
        /// The highest version that was ever adopted.
        floor: ListVersion,
        /// The version that is offered.
        offered: ListVersion,
    },
    /// The same version with other content.
    #[error("the offer has version {version} as the held list does, but other content")]
    Conflict {
        /// The version.
        version: ListVersion,
    },
    /// The same epoch, begun by another recovery.
    #[error("the offer is of epoch {}, as the held list is, but of another recovery", version.epoch)]
    RecoveryConflict {
        /// The version that is offered.
        version: ListVersion,
    },
    /// From somebody whom the held list does not name, while a controller that it names answers.
    #[error("the offer comes from {from}, whom the held list does not name, while its members answer")]
    Outsider {
        /// Who offered it.
        from: Offerer,
    },
    /// From a controller that was removed from the cluster.
    #[error("the offer comes from controller {from}, which was removed from the cluster")]
    Retired {
        /// Who offered it.
        from: ControllerId,
    },
    /// More addresses of protocol 1 than the hint set holds.
    #[error("the offer has {count} addresses beside the held list, the limit is {HINTS_MAX}")]
    HintsFull {
        /// How many, without those that the held list names.
        count: usize,
    },
}

impl Refusal {
    /// Stable name: the `reason` of metrics, logs and NACKs. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Undecodable { .. } => "undecodable",
            Self::Oversized { .. } => "oversized",
            Self::DigestMismatch => "digest_mismatch",
            Self::Defective(defect) => defect.code(),
            Self::BadAddress { .. } => "bad_address",
            Self::ForeignCluster { .. } => "foreign_cluster",
            Self::Stale { .. } => "stale",
            Self::Conflict { .. } => "conflict",
            Self::RecoveryConflict { .. } => "recovery_conflict",
            Self::Outsider { .. } => "outsider",
            Self::Retired { .. } => "retired",
            Self::HintsFull { .. } => "hints_full",
        }
    }

    /// Whether the offer was only overtaken by a newer one of the same epoch, which was adopted this long ago: right after a
    /// change of members the slower of two controllers comes second. It is refused like any other, and alarms nobody.
    #[must_use]
    pub fn is_late(&self, adopted: ListVersion, ago: Duration) -> bool {
        let Self::Stale { floor, offered } = self else { return false };
        *floor == adopted && offered.epoch == floor.epoch && ago <= LATE_WITHIN
    }

    /// What an operator should do. The held list stays in use in every case.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Undecodable { .. } | Self::Oversized { .. } | Self::DigestMismatch => {
                "the held list stays in use; check the sender's version and the network between".into()
            }
            Self::Defective(_) | Self::BadAddress { .. } => {
                "the held list stays in use; the sender is faulty: stop it and look at its log".into()
            }
            Self::ForeignCluster { offered, .. } => format!(
                "if the router is meant to move there, run `pilothouse router trust --cluster {offered}`; \
                 if not, remove that controller from its seeds"
            ),
            Self::Stale { .. } => "the sender is behind: look at its lag with `pilothouse cluster status`; after a \
                                   restore of the cluster its epoch has to be raised; if the list that the router \
                                   holds is the wrong one, stop it and run `pilothouse router trust --cluster UUID --reset-floor`"
                .into(),
            Self::Conflict { .. } | Self::RecoveryConflict { .. } => {
                "two clusters claim to be the same one: find out which was restored or recovered twice, and stop the \
                 other; if the router holds the wrong one's list, stop it and run `pilothouse router trust \
                 --cluster UUID --reset-floor`"
                    .into()
            }
            Self::Outsider { .. } => {
                "nothing, if that controller was just added: its peers will name it; otherwise find out who runs it"
                    .into()
            }
            Self::HintsFull { .. } => {
                "what is held stays in use; find out why the sender names so many, or upgrade it so that it offers the \
                 structured list"
                    .into()
            }
            Self::Retired { .. } => "stop that controller: it was removed and may not serve routers".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::controller_list::Epoch;

    #[test]
    fn late_is_what_was_overtaken_within_one_epoch_a_moment_ago() {
        let version = |epoch, index| ListVersion { epoch: Epoch::new(epoch).unwrap(), index };
        let stale = |offered| Refusal::Stale { floor: version(2, 9), offered };
        let moment = Duration::from_secs(1);
        assert!(stale(version(2, 8)).is_late(version(2, 9), moment));
        assert!(stale(version(2, 8)).is_late(version(2, 9), LATE_WITHIN));
        assert!(!stale(version(2, 8)).is_late(version(2, 9), LATE_WITHIN + moment), "it has been behind for long");
        assert!(!stale(version(1, 8)).is_late(version(2, 9), moment), "it does not know of the recovery");
        assert!(!stale(version(2, 8)).is_late(version(2, 7), moment), "the floor is above what was adopted");
        assert!(!Refusal::Conflict { version: version(2, 9) }.is_late(version(2, 9), moment));
        assert!(!Refusal::DigestMismatch.is_late(version(2, 9), moment));
    }
}
