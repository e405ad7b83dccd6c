//! The lists that are offered, good and bad, as bytes. They are written by hand and not with the product's encoder, which
//! makes no bad ones. Pure.

use prost::Message as _;

use super::case::Case;
use crate::proto::router::listed_controller::Role;
use crate::proto::router::{ControllerList, Digest, FlatList, ListUpdate, ListVersion, ListedController, VoterSet};
use crate::rpc::list_codec::{self, DOMAIN_TAG};

/// The cluster that all good lists are of: no real one has this id.
pub(super) const CLUSTER: [u8; 16] = *b"conformance-test";
const FOREIGN_CLUSTER: [u8; 16] = *b"another-cluster!";
/// The only epoch.
pub(super) const EPOCH: u32 = 1;
/// An encoding that does not exist.
const UNKNOWN_ENCODING: u32 = 4_000;
/// More than a list may have, and less than a message.
const OVERSIZED_LIST_BYTES: usize = 200 * 1024;
/// More than a message may have.
const OVERSIZED_MESSAGE_BYTES: usize = 300 * 1024;
/// Key of an unknown, length-delimited field (number 1,000), which decoders pass over.
const UNKNOWN_FIELD_KEY: [u8; 2] = [0xc2, 0x3e];

/// How a router speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Sessions of protocol 2.
    Structured,
    /// Sessions of protocol 1.
    Flat,
    /// No sessions: `Watch`.
    Watch,
}

impl Dialect {
    /// Number of the encoding of its lists.
    pub(super) const fn protocol(self) -> u32 {
        match self {
            Self::Structured => 2,
            Self::Flat | Self::Watch => 1,
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Structured => "protocol 2",
            Self::Flat => "protocol 1",
            Self::Watch => "protocol 1, by Watch",
        }
    }
}

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) cluster: [u8; 16],
    /// 0: absent.
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) controllers: Vec<(u64, Vec<String>)>,
}

/// A list as bytes, with everything that goes along with it.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    /// What it is, for people.
    pub(super) what: &'static str,
    encoding: u32,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Offer {
    fn sealed(what: &'static str, encoding: u32, bytes: Vec<u8>) -> Self {
        let digest = list_codec::digest(&bytes).into();
        Self { what, encoding, bytes, digest }
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn update(&self, nonce: u64) -> ListUpdate {
        let list = self.bytes.clone().into();
        ListUpdate { nonce, protocol: self.encoding, list, digest: Some(self.digest.clone()), ..ListUpdate::default() }
    }
}

impl Draft {
    /// As a router of this dialect reads it.
    pub(super) fn offer(&self, what: &'static str, dialect: Dialect) -> Offer {
        Offer::sealed(what, dialect.protocol(), self.bytes(dialect))
    }

    fn bytes(&self, dialect: Dialect) -> Vec<u8> {
        if dialect != Dialect::Structured {
            let addresses = self.controllers.iter().flat_map(|(_, endpoints)| endpoints.clone()).collect();
            return FlatList { addresses, index: u64::from(EPOCH) << 32 | self.index }.encode_to_vec();
        }
        let mut ids: Vec<_> = self.controllers.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        let controller = |(id, endpoints): &(u64, Vec<String>)| ListedController {
            id: *id,
            name: format!("conformance-{id}"),
            role: Role::Voter.into(),
            endpoints: endpoints.clone(),
            incarnation: u128::from(*id).to_be_bytes().to_vec(),
            keys: Vec::new(),
        };
        ControllerList {
            domain_tag: DOMAIN_TAG.to_owned(),
            cluster_id: self.cluster.to_vec(),
            version: Some(ListVersion { epoch: EPOCH, index: self.index }),
            term: self.term,
            controllers: self.controllers.iter().map(controller).collect(),
            voter_sets: vec![VoterSet { ids }],
            digest_scheme: 1,
            ..ControllerList::default()
        }
        .encode_to_vec()
    }

    fn newer(&self) -> Self {
        Self { index: self.index + 1, term: self.term + 1, ..self.clone() }
    }
}

/// What a case offers to a router that holds `good`, and that it has to refuse. `before` is what it held before.
pub(super) fn hostile(case: Case, good: &Draft, before: &Draft, dialect: Dialect) -> Vec<Offer> {
    let newer = good.newer();
    let other = |draft: Draft| Draft { controllers: vec![(77, vec!["http://127.0.0.1:9".to_owned()])], ..draft };
    match case {
        Case::EmptyList => {
            let empty = Draft { controllers: Vec::new(), ..newer };
            vec![
                empty.offer("an empty list", dialect),
                Offer::sealed("no bytes at all", dialect.protocol(), Vec::new()),
            ]
        }
        Case::NoEndpoints => {
            let mute = newer.controllers.iter().map(|(id, _)| (*id, Vec::new())).collect();
            vec![Draft { controllers: mute, ..newer }.offer("controllers without endpoints", dialect)]
        }
        Case::OlderVersion | Case::OlderAfterRestart => {
            let older = Draft { index: good.index - 1, ..other(newer) };
            vec![older.offer("an older version", dialect)]
        }
        Case::SameVersionOtherContent => {
            vec![other(good.clone()).offer("the held version with other content", dialect)]
        }
        Case::ForeignCluster => {
            vec![Draft { cluster: FOREIGN_CLUSTER, ..newer }.offer("a list of another cluster", dialect)]
        }
        Case::DuplicateIds => {
            let twice = |(id, endpoints): &(u64, Vec<String>)| {
                [(*id, endpoints.clone()), (*id, vec!["http://127.0.0.1:9".to_owned()])]
            };
            let controllers = newer.controllers.iter().flat_map(twice).collect();
            vec![Draft { controllers, ..newer }.offer("two controllers with one id", dialect)]
        }
        Case::Oversized => vec![
            padded("a list of 200 KiB", &newer, dialect, OVERSIZED_LIST_BYTES),
            padded("a message of 300 KiB", &newer, dialect, OVERSIZED_MESSAGE_BYTES),
        ],
        Case::Truncated => truncated(&newer, dialect),
        Case::UnknownEncoding => {
            vec![Offer::sealed("an unknown encoding", UNKNOWN_ENCODING, newer.bytes(dialect))]
        }
        Case::LateOldLeader => {
            let unversioned = Draft { index: 0, term: good.term - 1, ..other(good.clone()) };
            vec![
                before.offer("the list before, as it was sent then", dialect),
                unversioned.offer("a list with index 0", dialect),
            ]
        }
        Case::EndlessUpdates | Case::RemovesAllKnown | Case::DeadControllers | Case::BadWelcome | Case::Silence => {
            Vec::new()
        }
    }
}

/// A list that would be good, were it not for its size.
fn padded(what: &'static str, list: &Draft, dialect: Dialect, size: usize) -> Offer {
    let mut bytes = list.bytes(dialect);
    bytes.extend(UNKNOWN_FIELD_KEY);
    prost::encoding::encode_varint(size as u64, &mut bytes);
    bytes.extend(std::iter::repeat_n(0, size));
    Offer::sealed(what, dialect.protocol(), bytes)
}

/// Cut in the middle: once with the digest of what is left, once with that of the whole.
fn truncated(list: &Draft, dialect: Dialect) -> Vec<Offer> {
    let mut bytes = list.bytes(dialect);
    let whole = list_codec::digest(&bytes).into();
    // Within the last endpoint, so that no cut falls between two fields.
    let last = list.controllers.iter().flat_map(|(_, endpoints)| endpoints).next_back().map_or(0, String::len);
    let start = bytes.windows(last.max(1)).rposition(|window| {
        list.controllers.iter().flat_map(|(_, endpoints)| endpoints).any(|endpoint| window == endpoint.as_bytes())
    });
    bytes.truncate(start.map_or(bytes.len() / 2, |start| start + last / 2));
    let cut = Offer::sealed("a list that ends in its middle", dialect.protocol(), bytes);
    vec![Offer { what: "the same with the digest of the whole", digest: whole, ..cut.clone() }, cut]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::acceptance::{Held, Offerer, Verdict, decide};
    use crate::domain::ids::ControllerId;

    fn held(draft: &Draft) -> Held {
        let offer = draft.offer("", Dialect::Structured).update(1);
        let from = Offerer::Controller(ControllerId::new(1).unwrap());
        match decide(&Held::default(), &list_codec::offer(&offer, from)) {
            Verdict::Adopt(list) => Held::of(list),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_hostile_is_refused_for_the_reason_that_the_case_is_about_and_what_is_good_is_not() {
        let controllers = vec![(1, vec!["http://127.0.0.1:7002".to_owned()])];
        let before = Draft { cluster: CLUSTER, index: 10, term: 5, controllers };
        let good = Draft { index: 20, term: 6, ..before.clone() };
        let reasons: Vec<_> = Case::ALL
            .into_iter()
            .flat_map(|case| hostile(case, &good, &before, Dialect::Structured))
            .map(|offer| {
                let from = Offerer::Controller(ControllerId::new(1).unwrap());
                match decide(&held(&good), &list_codec::offer(&offer.update(1), from)) {
                    Verdict::Refuse(refusal) => refusal.code(),
                    other => panic!("{}: {other}", offer.what),
                }
            })
            .collect();
        let expected = [
            "empty",
            "undecodable",
            "no_endpoints",
            "stale",
            "stale",
            "conflict",
            "foreign_cluster",
            "duplicate_controller",
            "oversized",
            "oversized",
            "undecodable",
            "undecodable",
            "undecodable",
            "stale",
            "no_version",
        ];
        assert_eq!(reasons, expected);
    }
}
