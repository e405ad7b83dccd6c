//! The keeper's answers as messages. Pure.

use crate::domain::acceptance::Refusal;
use crate::proto::router::router_message::Kind;
use crate::proto::router::{Ack, Nack};
use crate::router::keeper::Answer;

/// What the controller that made the offer is told.
pub(super) fn message(nonce: u64, answer: &Answer) -> Kind {
    match answer {
        Answer::Ack { version, digest } => {
            Kind::Ack(Ack { nonce, version: version.map(Into::into), digest: Some((*digest).into()) })
        }
        Answer::Nack { refusal, late } => Kind::Nack(Nack { late: *late, ..nack(nonce, refusal) }),
    }
}

/// A refusal, with everything that its sender's operator needs.
#[must_use]
pub fn nack(nonce: u64, refusal: &Refusal) -> Nack {
    let (reason, message, hint) = (refusal.code().to_owned(), refusal.to_string(), refusal.hint());
    Nack { nonce, reason, message, hint, late: false }
}
