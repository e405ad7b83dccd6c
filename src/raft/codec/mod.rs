//! Raft's values as our own bytes: log entries, votes, log ids, memberships, snapshots <-> `proto/store.proto`.
//!
//! Every entry and snapshot states the feature level that it needs. One that needs more than this build can read is an
//! error that stops the node: protobuf would drop what it does not know, and silently applied halves are how replicas
//! part ways. It does not know where the bytes are kept or sent.

mod command;
mod membership;
mod snapshot;
#[cfg(test)]
mod tests;
mod token;

use openraft::entry::RaftEntry as _;
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, alias};
use prost::Message as _;

pub use self::membership::{membership_from_raft, membership_to_raft};
pub use self::snapshot::{SnapshotDecoder, SnapshotEncoder};
use super::types::TypeConfig;
use crate::domain::feature::FeatureLevel;
use crate::domain::state::LogPosition;
use crate::proto::store;

type Vote = alias::VoteOf<TypeConfig>;
type LogId = alias::LogIdOf<TypeConfig>;
type Entry = alias::EntryOf<TypeConfig>;
type LeaderId = alias::LeaderIdOf<TypeConfig>;

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not a message at all.
    #[error("not decodable")]
    Undecodable(#[from] prost::DecodeError),
    /// A needed field is absent.
    #[error("{what} is absent")]
    Absent {
        /// Which field.
        what: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Written by a newer build, after the cluster was upgraded.
    #[error(
        "needs feature level {needs}, this build reads up to level {}: start the newer build again on this controller",
        FeatureLevel::SUPPORTED
    )]
    NewerLevel {
        /// The level that it needs.
        needs: u32,
    },
}

impl CodecError {
    fn invalid(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |reason| Self::Invalid { what, reason: reason.to_string() }
    }
}

/// The bytes of a log entry.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let level = match &entry.payload {
        EntryPayload::Normal(command) => command.change.level(),
        EntryPayload::Blank | EntryPayload::Membership(_) => FeatureLevel::ONE,
    };
    let payload = match &entry.payload {
        EntryPayload::Blank => store::entry::Payload::Blank(store::Blank {}),
        EntryPayload::Membership(membership) => {
            store::entry::Payload::Membership(membership::encode(&membership_from_raft(membership)))
        }
        EntryPayload::Normal(command) => store::entry::Payload::Command(command::encode(command)),
    };
    let log_id = Some(encode_log_id(&entry.log_id()));
    store::Entry { log_id, level: level.get(), payload: Some(payload) }.encode_to_vec()
}

/// A log entry from its bytes.
///
/// # Errors
/// [`CodecError`]; the caller knows at which index.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let entry = store::Entry::decode(bytes)?;
    check_level(entry.level)?;
    let log_id = decode_log_id(&entry.log_id.ok_or(CodecError::Absent { what: "the entry's log id" })?);
    let payload = match entry.payload.ok_or(CodecError::Absent { what: "the entry's payload" })? {
        store::entry::Payload::Blank(_) => EntryPayload::Blank,
        store::entry::Payload::Membership(membership) => {
            EntryPayload::Membership(membership_to_raft(&membership::decode(membership)?)?)
        }
        store::entry::Payload::Command(command) => EntryPayload::Normal(command::decode(command)?),
    };
    Ok(Entry { log_id, payload })
}

/// A log id as a message.
#[must_use]
pub fn encode_log_id(log_id: &LogId) -> store::LogId {
    let LogPosition { term, index } = position(log_id);
    store::LogId { term, index }
}

/// A log id from its message.
#[must_use]
pub fn decode_log_id(log_id: &store::LogId) -> LogId {
    log_id_at(LogPosition { term: log_id.term, index: log_id.index })
}

/// A vote as a message.
#[must_use]
pub fn encode_vote(vote: &Vote) -> store::Vote {
    store::Vote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

/// A vote from its message.
#[must_use]
pub fn decode_vote(vote: &store::Vote) -> Vote {
    Vote { leader_id: LeaderId::new(vote.term, vote.voted_for), committed: vote.committed }
}

/// A log id in the domain's words.
#[must_use]
pub fn position(log_id: &LogId) -> LogPosition {
    LogPosition { term: log_id.committed_leader_id().term, index: log_id.index() }
}

/// A log id in Raft's words.
#[must_use]
pub fn log_id_at(position: LogPosition) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

fn check_level(level: u32) -> Result<(), CodecError> {
    match FeatureLevel::new(level) {
        None => Err(CodecError::Absent { what: "the feature level" }),
        Some(level) if level > FeatureLevel::SUPPORTED => Err(CodecError::NewerLevel { needs: level.get() }),
        Some(_) => Ok(()),
    }
}
