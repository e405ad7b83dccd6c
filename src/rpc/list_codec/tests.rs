//! The codec: round trips, hostile bytes, and faulty encoders that let nothing out.

use std::collections::BTreeSet;

use prost::Message;

use super::*;
use crate::domain::controller_list::{Applied, ClusterIdentity, Epoch, ListState};
use crate::domain::ids::{ClusterId, ControllerId, ControllerName, Incarnation};
use crate::domain::membership::{Member, Membership};
use crate::domain::tests::fixtures::{Draft, endpoint, key};

fn list(voters: u64) -> ControllerList {
    let id = |id| ControllerId::new(id).unwrap();
    let member = |n| Member {
        id: id(n),
        name: ControllerName::new(format!("controller-{n}")).unwrap(),
        incarnation: Incarnation::from_u128(n.into()),
        peer: vec![format!("http://10.0.0.{n}:7001").parse().unwrap()],
        router: vec![format!("http://10.0.0.{n}:7002").parse().unwrap()],
        admin: vec![format!("http://10.0.0.{n}:7003").parse().unwrap()],
        keys: Vec::new(),
    };
    let sets: BTreeSet<_> = (1..=voters).map(id).collect();
    let membership = Membership::new(vec![sets.clone()], (1..=voters).map(member));
    let identity = ClusterIdentity { cluster: ClusterId::from_u128(7), epoch: Epoch::FIRST, recovery: None };
    let applied =
        Applied { identity: Some(&identity), term: 1, log_index: 4, used_ids: &sets, previous_log_index: Some(0) };
    match ControllerList::derive(&membership, applied).unwrap() {
        ListState::Known(list) => list,
        ListState::Unknown => panic!("a founded cluster has a list"),
    }
}

#[test]
fn a_good_list_is_ready_in_every_protocol() {
    let publication = Codec::default().prepare(&list(3), None).unwrap();
    assert_eq!(publication.encoding(ProtocolVersion::FLAT).protocol, ProtocolVersion::FLAT);
    assert_eq!(publication.encoding(ProtocolVersion::STRUCTURED).protocol, ProtocolVersion::STRUCTURED);
    assert_eq!(publication.encoding(ProtocolVersion::new(9).unwrap()).protocol, ProtocolVersion::STRUCTURED);
}

#[test]
fn an_encoder_that_loses_everything_is_caught() {
    for wrong in ProtocolRange::SUPPORTED.versions() {
        assert!(faulty_in(wrong, |_| Bytes::new()).prepare(&list(3), None).is_err(), "protocol {wrong}");
    }
}

#[test]
fn an_encoder_that_loses_one_controller_is_caught() {
    for wrong in ProtocolRange::SUPPORTED.versions() {
        let faulty = faulty_in(wrong, move |_| encode(&list(2), wrong));
        let refused = faulty.prepare(&list(3), None).unwrap_err();
        assert_eq!(refused.code(), "undecodable");
        assert!(refused.to_string().contains(&format!("protocol {wrong} does not say")), "{refused}");
    }
}

#[test]
fn an_encoder_that_gives_protocol_1_another_index_is_caught() {
    for index in [0, 1, u64::MAX] {
        let faulty = faulty_in(ProtocolVersion::FLAT, move |bytes| {
            let flat = crate::proto::router::FlatList::decode(bytes).unwrap();
            crate::proto::router::FlatList { index, ..flat }.encode_to_vec().into()
        });
        assert_eq!(faulty.prepare(&list(3), None).unwrap_err().code(), "undecodable", "index {index}");
    }
}

/// An encoder that is right in every protocol but one.
fn faulty_in(wrong: ProtocolVersion, fault: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) -> Codec {
    Codec::with_encoder(move |list, protocol| {
        let bytes = encode(list, protocol);
        if protocol == wrong { fault(bytes) } else { bytes }
    })
}

/// A list with everything in it: a joint change, a learner, a retired id, a recovery, several endpoints.
fn rich() -> ControllerList {
    let mut draft = Draft::new(&[&[1, 2, 3], &[1, 2, 4]], &[5]).version(2, 9).recovery(0xbeef).retired(&[6]);
    draft.term = 3;
    draft.previous_log_index = Some(4);
    let mut members: Vec<_> = draft.membership.members().cloned().collect();
    members[0].router.push(endpoint("http://[2001:db8::1]:7002"));
    members[1].keys.push(key(8));
    draft.membership = Membership::new(draft.membership.voter_sets().to_vec(), members);
    draft.list()
}

/// What routers in the field decode. A change of these bytes strands them: an encoding is appended, never edited.
#[test]
fn the_bytes_of_every_encoding_are_what_they_always_were() {
    let cases = [
        (ProtocolVersion::FLAT, include_str!("../../../tests/data/list-1.hex")),
        (ProtocolVersion::STRUCTURED, include_str!("../../../tests/data/list-2.hex")),
    ];
    for (protocol, golden) in cases {
        let bytes = encode(&rich(), protocol);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden: String = golden.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(hex, golden, "protocol {protocol}");
        match decode(protocol.get(), &bytes, None) {
            Content::Structured { list, .. } => assert_eq!(ControllerList::try_from(*list).unwrap(), rich()),
            Content::Flat { addresses } => assert_eq!(addresses.len(), 6),
            Content::Undecodable { detail } => panic!("{detail}"),
        }
    }
}

#[test]
fn any_cut_of_the_bytes_and_any_other_protocol_is_content_and_never_a_panic() {
    for protocol in ProtocolRange::SUPPORTED.versions() {
        let bytes = encode(&rich(), protocol);
        for cut in 0..bytes.len() {
            for number in 0..4 {
                let _ = decode(number, &bytes[..cut], None);
            }
        }
    }
}
