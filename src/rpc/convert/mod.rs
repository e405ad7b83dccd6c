//! Between wire and domain, both ways. What comes in is checked here, once; what goes out cannot be wrong.

pub mod change;
pub mod events;
pub mod registration;
pub mod session;
pub mod status;
pub mod token;
pub mod upgrade;

use crate::domain::endpoint::InvalidEndpoint;
use crate::domain::ids::InvalidId;

/// Why a request is unusable, before anything was decided about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// An identifier that is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// No boot id.
    #[error("the boot id has {length} bytes: draw 16 random bytes at each start of the router")]
    BootId {
        /// What it has.
        length: usize,
    },
    /// Sequence 0.
    #[error("the sequence is 0: count the registrations of one boot from 1")]
    Sequence,
    /// An inverted range.
    #[error("the protocol range {min} to {max} is inverted")]
    Protocols {
        /// Its lower end.
        min: u32,
        /// Its upper end.
        max: u32,
    },
    /// A forwarded token that is none.
    #[error("the token is not of the form that controllers forward")]
    Token,
    /// More keys, or larger ones, than are kept.
    #[error("there are more public keys, or a larger one, than the limits allow")]
    Keys,
    /// Something that must be there is not.
    #[error("{what} is missing")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// An address that is none.
    #[error("{text:?} {reason}")]
    Endpoint {
        /// What was given.
        text: String,
        /// Why it is none.
        reason: InvalidEndpoint,
    },
    /// Capabilities that are required, too many or with too long names.
    #[error("more than 64 capabilities are required, or one has a name of more than 64 bytes")]
    Capabilities,
    /// A feature level of 0 where there must be one.
    #[error("the feature level is 0")]
    Level,
    /// A controller id of 0.
    #[error("the controller id is 0")]
    ControllerId,
}
