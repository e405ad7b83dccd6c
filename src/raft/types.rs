//! The type parameters of Raft here: plain domain values, and textbook leader ids (one leader a term).

use crate::domain::command::{Command, Outcome};
use crate::domain::membership::Member;

openraft::declare_raft_types!(
    /// Pilothouse's Raft. A command goes in, an outcome comes out; a node is a [`Member`] record.
    pub TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// Who leads, or asks to.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// Term and index of a log entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A log entry in Raft's own form.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
