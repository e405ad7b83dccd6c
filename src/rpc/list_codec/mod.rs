//! Lists as bytes: every encoding of the controller list, and the judgement that each must pass before it may leave.
//!
//! An encoding is appended, never edited; its golden bytes are in `tests/data/list-*.hex`. Encoding is deterministic,
//! so equal lists have equal bytes and equal digests on every controller. Decoding is total: whatever comes is a
//! [`Content`], and [`acceptance::decide`] says what to think of it. Sessions and sockets are not known here.

mod flat;
mod structured;
mod wire;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub use self::structured::DOMAIN_TAG;
pub use self::wire::{digest_from_wire, held_from_wire, list_version_from_wire};
use crate::domain::acceptance::{self, Content, Held, HeldList, Offer, Offerer, Refusal, Verdict};
use crate::domain::controller_list::{ControllerList, Digest, DigestScheme, LIST_BYTES_MAX};
use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
use crate::proto::router::ListUpdate;

/// The canonical bytes of a list in a protocol's encoding. A version newer than this build gets the newest it knows.
#[must_use]
pub fn encode(list: &ControllerList, protocol: ProtocolVersion) -> Bytes {
    if protocol >= ProtocolVersion::STRUCTURED { structured::encode(list) } else { flat::encode(list) }
}

/// The digest over a list's canonical bytes, in the scheme that this build writes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest { scheme: DigestScheme::SHA256, bytes: Sha256::digest(bytes).into() }
}

/// What the bytes turn out to be. Never fails and never panics: what cannot be read is [`Content::Undecodable`].
#[must_use]
pub fn decode(protocol: u32, bytes: &[u8], stated: Option<Digest>) -> Content {
    let decoded = match ProtocolVersion::new(protocol) {
        // Refused by its size in `decide`; not worth the memory that decoding it would take.
        _ if bytes.len() > LIST_BYTES_MAX => Err(format!("{} bytes, the limit is {LIST_BYTES_MAX}", bytes.len())),
        Some(ProtocolVersion::FLAT) => flat::decode(bytes).map(|list| Content::Flat { addresses: list.addresses }),
        Some(ProtocolVersion::STRUCTURED) => structured::decode(bytes).map(|list| Content::Structured {
            list: Box::new(list),
            computed: digest(bytes),
            stated,
        }),
        _ => Err(format!("its encoding, {protocol}, is not known to this version")),
    };
    decoded.unwrap_or_else(|detail| Content::Undecodable { detail })
}

/// An update from the wire, as [`acceptance::decide`] takes it.
#[must_use]
pub fn offer(update: &ListUpdate, from: Offerer) -> Offer {
    let content = match update.digest.as_ref().map(digest_from_wire) {
        Some(Err(detail)) => Content::Undecodable { detail },
        Some(Ok(stated)) => decode(update.protocol, &update.list, stated),
        None => decode(update.protocol, &update.list, None),
    };
    Offer { from, encoded_bytes: update.list.len(), content }
}

/// Whether routers would take this list after the published one, in every protocol: each encoding is decoded again and
/// put before the routers' own [`acceptance::decide`].
///
/// # Errors
/// What a router would answer; [`Refusal::Undecodable`] too when an encoding does not say what the list says.
pub fn judge(list: &ControllerList, published: Option<&HeldList>) -> Result<(), Refusal> {
    Codec::default().prepare(list, published).map(|_| ())
}

/// A list in one encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Which encoding.
    pub protocol: ProtocolVersion,
    /// Canonical bytes, shared by all sessions that speak this protocol.
    pub bytes: Bytes,
    /// Over these bytes.
    pub digest: Digest,
}

impl Encoded {
    /// The message that carries this list.
    #[must_use]
    pub fn update(&self, nonce: u64) -> ListUpdate {
        ListUpdate {
            nonce,
            protocol: self.protocol.get(),
            list: self.bytes.clone(),
            digest: Some(self.digest.into()),
            endorsements: Vec::new(),
            bridge: Vec::new(),
        }
    }
}

/// A list that was judged, in every encoding, as the very bytes that were judged. [`Codec::prepare`] is the only way to
/// one, so what a controller sends out of it cannot be anything that routers refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    held: HeldList,
    encodings: Vec<Encoded>,
}

impl Publication {
    /// The list with its digest: what the next list is judged against.
    #[must_use]
    pub const fn held(&self) -> &HeldList {
        &self.held
    }

    /// The newest encoding that a router of this protocol understands.
    #[must_use]
    pub fn encoding(&self, protocol: ProtocolVersion) -> &Encoded {
        let understood = self.encodings.iter().rev().find(|encoded| encoded.protocol <= protocol);
        understood.unwrap_or(&self.encodings[0])
    }
}

/// How lists become bytes.
type Encoder = dyn Fn(&ControllerList, ProtocolVersion) -> Bytes + Send + Sync;

/// Encodes lists and judges the result. The encoder can be another one, so that tests can plant a faulty one and show
/// that nothing of what it makes gets out.
#[derive(Clone)]
pub struct Codec {
    encoder: Arc<Encoder>,
}

impl Default for Codec {
    fn default() -> Self {
        Self::with_encoder(encode)
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

impl Codec {
    /// With this encoder instead of [`encode`].
    #[must_use]
    pub fn with_encoder(encoder: impl Fn(&ControllerList, ProtocolVersion) -> Bytes + Send + Sync + 'static) -> Self {
        Self { encoder: Arc::new(encoder) }
    }

    /// Encodes the list in every supported protocol, and judges each of the results as a router would that holds the
    /// published list.
    ///
    /// # Errors
    /// What a router would answer; [`Refusal::Undecodable`] too when an encoding does not say what the list says.
    pub fn prepare(&self, list: &ControllerList, published: Option<&HeldList>) -> Result<Publication, Refusal> {
        let held = published.cloned().map(Held::of).unwrap_or_default();
        let encode = |protocol| {
            let bytes = (self.encoder)(list, protocol);
            Encoded { protocol, digest: digest(&bytes), bytes }
        };
        let encodings: Vec<_> = ProtocolRange::SUPPORTED.versions().map(encode).collect();
        for encoded in &encodings {
            examine(list, encoded, &held)?;
        }
        let newest = encodings.last().expect("the range of supported protocols is never inverted");
        let held = HeldList { list: Arc::new(list.clone()), digest: newest.digest };
        Ok(Publication { held, encodings })
    }
}

/// A router's verdict about the bytes, and whether they say what the list says: a list that lost a controller on its
/// way into bytes could still be one that routers would take.
fn examine(list: &ControllerList, encoded: &Encoded, held: &Held) -> Result<(), Refusal> {
    let offer = offer(&encoded.update(0), Offerer::Unidentified);
    if let Verdict::Refuse(refusal) = acceptance::decide(held, &offer) {
        return Err(refusal);
    }
    let same = match offer.content {
        Content::Structured { list: decoded, .. } => ControllerList::try_from(*decoded)? == *list,
        Content::Flat { .. } => flat::says(&encoded.bytes, list),
        Content::Undecodable { .. } => false,
    };
    if same {
        Ok(())
    } else {
        let detail = format!("its encoding in protocol {} does not say what the list says", encoded.protocol);
        Err(Refusal::Undecodable { detail })
    }
}

#[cfg(test)]
mod tests;
