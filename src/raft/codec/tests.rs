//! Round trips of everything that is written, its golden bytes, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::EntryPayload;
use prost::Message as _;

use super::*;
use crate::domain::command::{Change, Command, Registration};
use crate::domain::controller_list::{ClusterIdentity, Epoch, PublicKey};
use crate::domain::feature::Announcement;
use crate::domain::ids::{BootId, ClusterId, ControllerId, ControllerName, Incarnation, RecoveryId, RouterId, TokenId};
use crate::domain::membership::{Member, Membership};
use crate::domain::negotiation::ProtocolRange;
use crate::domain::principal::RoleKind;
use crate::domain::state::{ClusterState, RouterRecord};
use crate::domain::token::{Redemption, Token, TokenRecord};

fn id(id: u64) -> ControllerId {
    ControllerId::new(id).unwrap()
}

fn member(n: u64) -> Member {
    Member {
        id: id(n),
        name: ControllerName::new(format!("controller-{n}")).unwrap(),
        incarnation: Incarnation::from_u128(u128::from(n) << 64 | 7),
        peer: vec![format!("http://10.0.0.{n}:7001").parse().unwrap()],
        router: vec![
            format!("http://10.0.0.{n}:7002").parse().unwrap(),
            format!("https://r{n}.example:443").parse().unwrap(),
        ],
        admin: vec![format!("http://10.0.0.{n}:7003").parse().unwrap()],
        keys: vec![PublicKey { scheme: 1, bytes: vec![n as u8; 4] }],
    }
}

fn joint() -> Membership {
    let sets = [[1, 2].as_slice(), &[2, 3]].map(|set| set.iter().map(|n| id(*n)).collect::<BTreeSet<_>>());
    Membership::new(sets.to_vec(), (1..=4).map(member))
}

fn identity() -> ClusterIdentity {
    ClusterIdentity {
        cluster: ClusterId::from_u128(0xc1),
        epoch: Epoch::new(1_700_000_000).unwrap(),
        recovery: Some(RecoveryId::from_u128(0x4e)),
    }
}

fn registration() -> Registration {
    Registration {
        router: RouterId::new("edge-7").unwrap(),
        boot: BootId::from_u128(0xb007),
        sequence: 3,
        software_version: "0.1.0".into(),
        protocols: ProtocolRange::SUPPORTED,
        labels: BTreeMap::from([("site".into(), "ams".into()), ("rack".into(), "4".into())]),
        keys: vec![],
    }
}

fn announcement() -> Announcement {
    Announcement {
        controller: id(2),
        incarnation: Incarnation::from_u128(9),
        software_version: "0.1.0".into(),
        level_min: FeatureLevel::ONE,
        level_max: FeatureLevel::ONE,
        protocols: ProtocolRange::SUPPORTED,
    }
}

fn token() -> Token {
    Token {
        id: TokenId::from_u128(0x70_ce4),
        secret_sha256: [3; 32],
        role: RoleKind::Router,
        subject: RouterId::new("edge-7").unwrap(),
        ttl_ms: 3_600_000,
    }
}

fn redemption() -> Redemption {
    let Token { id, secret_sha256, subject, .. } = token();
    Redemption { id, secret_sha256, subject, key_sha256: [4; 32] }
}

fn entries() -> Vec<(&'static str, Entry)> {
    let payloads = [
        ("blank", EntryPayload::Blank),
        ("membership", EntryPayload::Membership(membership_to_raft(&joint()).unwrap())),
        ("found", command(Change::Found { identity: identity(), level: FeatureLevel::ONE })),
        ("register", command(Change::Register(vec![registration()]))),
        ("forget", command(Change::Forget(RouterId::new("edge-7").unwrap()))),
        ("announce", command(Change::Announce(announcement()))),
        ("ban", command(Change::Ban(RouterId::new("edge-7").unwrap()))),
        ("allow", command(Change::Allow(RouterId::new("edge-7").unwrap()))),
        ("create-token", command(Change::CreateToken(token()))),
        ("redeem-token", command(Change::RedeemToken(redemption()))),
        ("raise", command(Change::Raise(FeatureLevel::THREE))),
    ];
    payloads
        .map(|(name, payload)| (name, Entry { log_id: log_id_at(LogPosition { term: 5, index: 42 }), payload }))
        .into()
}

fn command(change: Change) -> EntryPayload<Command, u64, Member> {
    EntryPayload::Normal(Command { time_ms: 1_764_000_000_000, change })
}

#[test]
fn every_kind_of_entry_survives_its_bytes() {
    for (name, entry) in entries() {
        assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry, "{name}");
    }
}

/// The golden bytes are a promise: a change here means that a log on somebody's disk can no longer be read.
#[test]
fn the_bytes_of_entries_are_as_they_were_promised() {
    let golden = include_str!("../../../tests/data/store/entries.hex");
    let written: String =
        entries().iter().map(|(name, entry)| format!("{name} {}\n", hex(&encode_entry(entry)))).collect();
    let promised: String =
        golden.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(written, promised);
}

#[test]
fn the_bytes_of_a_snapshot_are_as_they_were_promised() {
    let golden = include_str!("../../../tests/data/store/snapshot.hex");
    let written = hex(&SnapshotEncoder::new(&state()).flatten().collect::<Vec<_>>());
    assert_eq!(Some(written.as_str()), golden.lines().find(|line| !line.starts_with('#')));
}

#[test]
fn the_bytes_of_a_snapshot_with_bans_and_tokens_are_as_they_were_promised() {
    let golden = include_str!("../../../tests/data/store/snapshot-2.hex");
    let written = hex(&SnapshotEncoder::new(&later_state()).flatten().collect::<Vec<_>>());
    assert_eq!(Some(written.as_str()), golden.lines().find(|line| !line.starts_with('#')));
}

/// Controllers of different builds compare these: other bytes need another scheme.
#[test]
fn the_hash_of_a_state_is_that_of_its_promised_snapshot() {
    use crate::raft::checkpoint::{STATE_HASH_SCHEME, hash};
    use sha2::Digest as _;
    let golden = include_str!("../../../tests/data/store/snapshot-2.hex");
    let promised = golden.lines().find(|line| !line.starts_with('#')).unwrap().as_bytes();
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    let promised: Vec<u8> = promised.chunks(2).map(byte).collect();
    let hashed = hash(&later_state());
    assert_eq!((STATE_HASH_SCHEME, hashed.scheme), (1, 1));
    assert_eq!(hashed.sha256, <[u8; 32]>::from(sha2::Sha256::digest(promised)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_entry_of_a_newer_level_is_an_error_that_names_the_level() {
    let mut entry = store::Entry::decode(encode_entry(&entries()[0].1).as_slice()).unwrap();
    entry.level = FeatureLevel::SUPPORTED.get() + 1;
    let error = decode_entry(&entry.encode_to_vec()).unwrap_err();
    assert!(matches!(error, CodecError::NewerLevel { needs: 4 }), "{error}");
}

#[test]
fn an_entry_without_level_id_or_payload_is_an_error() {
    let entry = store::Entry::decode(encode_entry(&entries()[0].1).as_slice()).unwrap();
    for broken in [
        store::Entry { level: 0, ..entry.clone() },
        store::Entry { log_id: None, ..entry.clone() },
        store::Entry { payload: None, ..entry },
    ] {
        assert!(matches!(decode_entry(&broken.encode_to_vec()), Err(CodecError::Absent { .. })), "{broken:?}");
    }
}

#[test]
fn a_vote_survives_its_message() {
    for committed in [false, true] {
        let vote = Vote { leader_id: LeaderId::new(7, 3), committed };
        assert_eq!(decode_vote(&encode_vote(&vote)), vote);
    }
}

fn state() -> ClusterState {
    let position = LogPosition { term: 5, index: 42 };
    let mut state =
        ClusterState { identity: Some(identity()), level: Some(FeatureLevel::ONE), ..ClusterState::default() };
    state.apply_membership(LogPosition { term: 4, index: 30 }, joint());
    state.apply_membership(position, joint());
    state.time_ms = 99;
    state.announcements.insert(id(2), announcement());
    for n in 0..20 {
        let router = RouterId::new(format!("edge-{n}")).unwrap();
        let record = RouterRecord {
            registration: Registration { router: router.clone(), ..registration() },
            registered_ms: 5,
            updated_ms: 6 + n,
            superseded_boots: vec![BootId::from_u128(1), BootId::from_u128(2)],
        };
        state.routers.insert(router, Arc::new(record));
    }
    state
}

/// With what later builds added.
fn later_state() -> ClusterState {
    let banned = ["edge-77", "edge-78"].map(|id| RouterId::new(id).unwrap());
    let record = |used_by| {
        let Token { secret_sha256, role, subject, .. } = token();
        TokenRecord { secret_sha256, role, subject, expires_ms: 1_764_000_000_000, used_by }
    };
    let tokens = [(TokenId::from_u128(1), record(None)), (TokenId::from_u128(2), record(Some([4; 32])))];
    ClusterState { level: Some(FeatureLevel::TWO), banned: banned.into(), tokens: tokens.into(), ..state() }
}

#[test]
fn a_snapshot_survives_its_bytes_in_pieces_of_any_size() {
    for state in [state(), later_state()] {
        let bytes: Vec<u8> = SnapshotEncoder::new(&state).flatten().collect();
        for size in [1, 7, 64, bytes.len()] {
            let mut decoder = SnapshotDecoder::default();
            bytes.chunks(size).for_each(|piece| decoder.push(piece).unwrap());
            assert_eq!(decoder.finish().unwrap(), state, "in pieces of {size}");
        }
    }
}

#[test]
fn a_record_more_than_the_header_announces_is_an_error() {
    let mut records: Vec<_> = SnapshotEncoder::new(&later_state()).collect();
    records.push(records.last().unwrap().clone());
    let mut decoder = SnapshotDecoder::default();
    let error = decoder.push(&records.concat()).unwrap_err();
    assert!(matches!(error, CodecError::Invalid { what: "the snapshot", .. }), "{error}");
}

#[test]
fn a_snapshot_that_ends_early_is_an_error() {
    let bytes: Vec<u8> = SnapshotEncoder::new(&later_state()).flatten().collect();
    let header = SnapshotEncoder::new(&later_state()).next().unwrap().len();
    for end in [0, header, bytes.len() - 1] {
        let mut decoder = SnapshotDecoder::default();
        decoder.push(&bytes[..end]).unwrap();
        assert!(matches!(decoder.finish(), Err(CodecError::Absent { .. })), "cut at {end}");
    }
}

#[test]
fn a_record_length_beyond_the_limit_is_damage_and_not_waited_for() {
    let error = SnapshotDecoder::default().push(&[0xff, 0xff, 0xff, 0x7f]).unwrap_err();
    assert!(matches!(error, CodecError::Invalid { what: "the length of a record", .. }), "{error}");
}
