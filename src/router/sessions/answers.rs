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
        Answer::Nack(refusal) => Kind::Nack(nack(nonce, refusal)),
    }
}

/// A refusal, with everything that its sender's operator needs.
#[must_use]
pub fn nack(nonce: u64, refusal: &Refusal) -> Nack {
    Nack { nonce, reason: refusal.code().to_owned(), message: refusal.to_string(), hint: refusal.hint() }
}
