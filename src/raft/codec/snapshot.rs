//! A snapshot as a sequence of records, each with its length before it: one header, then one record a router, then one
//! a banned router, then one a join token.
//!
//! Written and read record by record, so that a million routers never stand in memory twice. Checksums are the snapshot
//! file's concern.

use std::sync::Arc;

use prost::Message as _;

use super::command::{
    decode_announcement, decode_boot, decode_identity, decode_level, decode_registration, decode_router_id,
    encode_announcement, encode_identity, encode_registration,
};
use super::membership::decode_id;
use super::{CodecError, check_level, membership, token};
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::{RouterId, TokenId};
use crate::domain::state::{AppliedMembership, ClusterState, LogPosition, RouterRecord};
use crate::domain::token::TokenRecord;
use crate::proto::store;

/// Most bytes of one record. A length beyond it is damage, not a record to wait for.
const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Turns a state into snapshot bytes, piece by piece: an iterator over length-delimited records.
#[derive(Debug)]
pub struct SnapshotEncoder<'a> {
    header: Option<store::SnapshotHeader>,
    routers: std::collections::btree_map::Values<'a, RouterId, Arc<RouterRecord>>,
    banned: std::collections::btree_set::Iter<'a, RouterId>,
    tokens: std::collections::btree_map::Iter<'a, TokenId, TokenRecord>,
}

impl<'a> SnapshotEncoder<'a> {
    /// Of this state.
    #[must_use]
    pub fn new(state: &'a ClusterState) -> Self {
        Self {
            header: Some(encode_header(state)),
            routers: state.routers.values(),
            banned: state.banned.iter(),
            tokens: state.tokens.iter(),
        }
    }
}

impl Iterator for SnapshotEncoder<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(header) = self.header.take() {
            return Some(header.encode_length_delimited_to_vec());
        }
        if let Some(record) = self.routers.next() {
            return Some(encode_router(record).encode_length_delimited_to_vec());
        }
        if let Some(router) = self.banned.next() {
            return Some(store::BannedRouter { router_id: router.to_string() }.encode_length_delimited_to_vec());
        }
        self.tokens.next().map(|(id, record)| token::encode_record(id, record).encode_length_delimited_to_vec())
    }
}

/// Turns snapshot bytes back into a state: give it the bytes as they come, in pieces of any size.
#[derive(Debug, Default)]
pub struct SnapshotDecoder {
    pending: Vec<u8>,
    state: Option<ClusterState>,
    announced: Announced,
}

/// How many records of each kind the header announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Announced {
    routers: u64,
    banned: u64,
    tokens: u64,
}

impl Announced {
    fn present(state: &ClusterState) -> Self {
        let [routers, banned, tokens] =
            [state.routers.len(), state.banned.len(), state.tokens.len()].map(|count| count as u64);
        Self { routers, banned, tokens }
    }
}

impl SnapshotDecoder {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`CodecError`] when a record is not what it should be, or needs a newer build.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), CodecError> {
        self.pending.extend_from_slice(piece);
        let mut rest = self.pending.as_slice();
        while let Some((record, after)) = split_record(rest)? {
            match &mut self.state {
                None => {
                    let header = store::SnapshotHeader::decode(record)?;
                    self.announced =
                        Announced { routers: header.routers, banned: header.banned, tokens: header.tokens };
                    self.state = Some(decode_header(header)?);
                }
                Some(state) => decode_record(state, self.announced, record)?,
            }
            rest = after;
        }
        let consumed = self.pending.len() - rest.len();
        self.pending.drain(..consumed);
        Ok(())
    }

    /// What is known so far: all but the routers, once the header was given.
    #[must_use]
    pub fn begun(&self) -> Option<&ClusterState> {
        self.state.as_ref()
    }

    /// The state, once all bytes were given.
    ///
    /// # Errors
    /// [`CodecError::Absent`] when the snapshot ends early.
    pub fn finish(self) -> Result<ClusterState, CodecError> {
        let state = self.state.ok_or(CodecError::Absent { what: "the snapshot's header" })?;
        if !self.pending.is_empty() || Announced::present(&state) != self.announced {
            return Err(CodecError::Absent { what: "the end of the snapshot" });
        }
        Ok(state)
    }
}

/// A record after the header: what it is follows from how many came before it.
fn decode_record(state: &mut ClusterState, announced: Announced, record: &[u8]) -> Result<(), CodecError> {
    let present = Announced::present(state);
    if present.routers < announced.routers {
        let record = decode_router(store::RouterRecord::decode(record)?)?;
        state.routers.insert(record.registration.router.clone(), Arc::new(record));
    } else if present.banned < announced.banned {
        state.banned.insert(decode_router_id(store::BannedRouter::decode(record)?.router_id)?);
    } else if present.tokens < announced.tokens {
        let (id, record) = token::decode_record(store::TokenRecord::decode(record)?)?;
        state.tokens.insert(id, record);
    } else {
        return Err(CodecError::invalid("the snapshot")(&"a record more than its header announces"));
    }
    Ok(())
}

/// A record, and the bytes after it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The first record and what follows it; `None` while it is not complete.
fn split_record(bytes: &[u8]) -> Result<Option<Split<'_>>, CodecError> {
    const LENGTH_BYTES_MAX: usize = 10;
    let mut rest = bytes;
    let length = match prost::decode_length_delimiter(&mut rest) {
        Ok(length) => length,
        Err(_) if bytes.len() < LENGTH_BYTES_MAX => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length > RECORD_BYTES_MAX {
        return Err(CodecError::invalid("the length of a record")(&length));
    }
    Ok(rest.split_at_checked(length))
}

fn encode_header(state: &ClusterState) -> store::SnapshotHeader {
    store::SnapshotHeader {
        level: state.level.unwrap_or(FeatureLevel::ONE).get(),
        applied: state.applied.map(encode_position),
        time_ms: state.time_ms,
        identity: state.identity.as_ref().map(encode_identity),
        cluster_level: state.level.map_or(0, FeatureLevel::get),
        membership: state.membership.as_ref().map(|applied| store::AppliedMembership {
            position: Some(encode_position(applied.position)),
            membership: Some(membership::encode(&applied.membership)),
            previous_log_index: applied.previous_log_index,
        }),
        used_ids: state.used_ids.iter().map(|id| id.get()).collect(),
        announcements: state.announcements.values().map(encode_announcement).collect(),
        routers: state.routers.len() as u64,
        list_chain: None,
        banned: state.banned.len() as u64,
        tokens: state.tokens.len() as u64,
    }
}

fn decode_header(header: store::SnapshotHeader) -> Result<ClusterState, CodecError> {
    check_level(header.level)?;
    let announcements = header.announcements.into_iter().map(decode_announcement).collect::<Result<Vec<_>, _>>()?;
    Ok(ClusterState {
        applied: header.applied.map(decode_position),
        time_ms: header.time_ms,
        identity: header.identity.as_ref().map(|identity| decode_identity(Some(identity))).transpose()?,
        level: (header.cluster_level != 0).then(|| decode_level(header.cluster_level)).transpose()?,
        membership: header.membership.map(decode_applied_membership).transpose()?,
        used_ids: header.used_ids.into_iter().map(decode_id).collect::<Result<_, _>>()?,
        announcements: announcements.into_iter().map(|a| (a.controller, a)).collect(),
        ..ClusterState::default()
    })
}

fn decode_applied_membership(applied: store::AppliedMembership) -> Result<AppliedMembership, CodecError> {
    let absent = |what| move || CodecError::Absent { what };
    Ok(AppliedMembership {
        position: applied.position.map(decode_position).ok_or_else(absent("the membership's position"))?,
        previous_log_index: applied.previous_log_index,
        membership: membership::decode(applied.membership.ok_or_else(absent("the membership"))?)?,
    })
}

fn encode_position(position: LogPosition) -> store::LogId {
    store::LogId { term: position.term, index: position.index }
}

fn decode_position(log_id: store::LogId) -> LogPosition {
    LogPosition { term: log_id.term, index: log_id.index }
}

fn encode_router(record: &RouterRecord) -> store::RouterRecord {
    store::RouterRecord {
        registration: Some(encode_registration(&record.registration)),
        registered_ms: record.registered_ms,
        updated_ms: record.updated_ms,
        superseded_boots: record.superseded_boots.iter().map(|boot| boot.to_bytes().into()).collect(),
    }
}

fn decode_router(record: store::RouterRecord) -> Result<RouterRecord, CodecError> {
    let registration = record.registration.ok_or(CodecError::Absent { what: "a router's registration" })?;
    Ok(RouterRecord {
        registration: decode_registration(registration)?,
        registered_ms: record.registered_ms,
        updated_ms: record.updated_ms,
        superseded_boots: record.superseded_boots.iter().map(|b| decode_boot(b)).collect::<Result<_, _>>()?,
    })
}
