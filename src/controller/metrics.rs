//! What a controller counts, by stable names.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::command::{Registered, RegistrationRefusal};
use crate::domain::controller_list::ListVersion;
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;
use crate::raft::Status;

/// Reasons given by routers that are counted by name; the others are counted as `other`, so that nobody can make the
/// set of series grow.
const ROUTER_REASONS: &[&str] = &[
    "undecodable",
    "oversized",
    "digest_mismatch",
    "empty",
    "foreign_cluster",
    "stale",
    "conflict",
    "recovery_conflict",
    "outsider",
    "retired",
    "bad_address",
    "too_many_controllers",
    "no_identity",
    "no_version",
    "no_id",
    "duplicate_controller",
    "duplicate_name",
    "bad_name",
    "no_role",
    "no_incarnation",
    "no_endpoints",
    "too_many_endpoints",
    "bad_endpoint",
    "duplicate_endpoint",
    "too_many_keys",
    "retired_listed",
    "no_voters",
    "role_mismatch",
    "too_many_voter_sets",
    "bad_predecessor",
    "hints_full",
];

/// A label whose values are names from the code, never from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl prometheus_client::encoding::EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Effect {
    effect: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Port {
    port: Name,
}

type Count = Gauge<u64, AtomicU64>;

/// A controller's metrics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    leader: Count,
    leads: Count,
    term: Count,
    last_log: Count,
    committed: Count,
    applied: Count,
    sessions: Count,
    watchers: Count,
    list_epoch: Count,
    list_index: Count,
    withheld: Family<Reason, Counter>,
    refused: Family<Reason, Counter>,
    registrations: Family<Effect, Counter>,
    registration_entries: Counter,
    enrolments: Family<Effect, Counter>,
    connections_refused: Family<Port, Counter>,
    calls_denied: Family<Reason, Counter>,
    level: Count,
    level_newest: Count,
    states_differ: Count,
    snapshots_without_room: Count,
}

impl Metrics {
    /// Registers everything as `pilothouse_…`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register("pilothouse_raft_leader", "Id of the known leader; 0: none", m.leader.clone());
        registry.register("pilothouse_raft_leads", "1 while this controller leads", m.leads.clone());
        registry.register("pilothouse_raft_term", "Raft term", m.term.clone());
        registry.register("pilothouse_raft_last_log_index", "Index of the last log entry", m.last_log.clone());
        registry.register("pilothouse_raft_committed_index", "Highest known committed index", m.committed.clone());
        registry.register("pilothouse_raft_applied_index", "Last applied index", m.applied.clone());
        registry.register("pilothouse_sessions", "Live router sessions", m.sessions.clone());
        registry.register("pilothouse_watchers", "Live watch streams", m.watchers.clone());
        registry.register("pilothouse_list_epoch", "Epoch of the published list; 0: none", m.list_epoch.clone());
        registry.register("pilothouse_list_index", "Index of the published list; 0: none", m.list_index.clone());
        registry.register(
            "pilothouse_lists_withheld",
            "Lists that were not published, since routers would refuse them",
            m.withheld.clone(),
        );
        registry.register("pilothouse_offers_refused", "Lists that routers refused", m.refused.clone());
        registry.register("pilothouse_registrations", "Registrations by what they did", m.registrations.clone());
        registry.register(
            "pilothouse_registration_entries",
            "Log entries that registrations were gathered into",
            m.registration_entries.clone(),
        );
        registry.register(
            "pilothouse_enrolments",
            "Requests for a router's certificate by what came of them",
            m.enrolments.clone(),
        );
        registry.register(
            "pilothouse_connections_refused",
            "Connections whose other side could not say who it is, or not in time",
            m.connections_refused.clone(),
        );
        registry.register("pilothouse_feature_level", "What the cluster may write; 0: not known", m.level.clone());
        registry.register(
            "pilothouse_feature_level_newest",
            "The newest that a member could write, where this controller leads; 0 elsewhere",
            m.level_newest.clone(),
        );
        registry.register(
            "pilothouse_states_differ",
            "Members whose replicated state is another one than this leader's",
            m.states_differ.clone(),
        );
        registry.register(
            "pilothouse_snapshots_without_room",
            "Snapshots of the log that were not made, since the disk had no room for them, since the start",
            m.snapshots_without_room.clone(),
        );
        registry.register("pilothouse_calls_denied", "Calls of somebody who may not make them", m.calls_denied.clone());
        m
    }

    pub(super) fn raft(&self, status: &Status, leader: Option<ControllerId>) {
        let index = |position: Option<crate::domain::state::LogPosition>| position.map_or(0, |position| position.index);
        self.leader.set(leader.map_or(0, ControllerId::get));
        self.leads.set(u64::from(status.leads()));
        self.term.set(status.term);
        self.last_log.set(status.last_log.unwrap_or(0));
        self.committed.set(index(status.committed));
        self.applied.set(index(status.applied));
    }

    pub(super) fn snapshots_without_room(&self, since_start: u64) {
        self.snapshots_without_room.set(since_start);
    }

    pub(super) fn seats(&self, sessions: usize, watchers: usize) {
        self.sessions.set(sessions as u64);
        self.watchers.set(watchers as u64);
    }

    pub(super) fn published(&self, version: ListVersion) {
        self.list_epoch.set(u64::from(version.epoch.get()));
        self.list_index.set(version.index);
    }

    pub(super) fn withheld(&self, reason: &'static str) {
        self.withheld.get_or_create(&Reason { reason: Name(reason) }).inc();
    }

    pub(super) fn refused_by_router(&self, reason: &str) {
        let known = ROUTER_REASONS.iter().find(|known| **known == reason);
        let reason = Name(known.copied().unwrap_or("other"));
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn registration(&self, outcome: &Result<Registered, RegistrationRefusal>) {
        let effect = Name(match outcome {
            Ok(Registered::New) => "new",
            Ok(Registered::Updated) => "updated",
            Ok(Registered::Unchanged) => "unchanged",
            Err(_) => "refused",
        });
        self.registrations.get_or_create(&Effect { effect }).inc();
    }

    pub(super) fn registration_too_fast(&self) {
        self.registrations.get_or_create(&Effect { effect: Name("too_fast") }).inc();
    }

    /// `effect` is `enrolled`, or the code of an error.
    pub(super) fn enrolment(&self, effect: &'static str) {
        self.enrolments.get_or_create(&Effect { effect: Name(effect) }).inc();
    }

    /// Of one port: `peer`, `router`, `admin` or `http`.
    pub(super) fn connections_refused(&self, port: &'static str) -> Counter {
        self.connections_refused.get_or_create(&Port { port: Name(port) }).clone()
    }

    /// `reason` is `Denied::code`.
    pub(super) fn call_denied(&self, reason: &'static str) {
        self.calls_denied.get_or_create(&Reason { reason: Name(reason) }).inc();
    }

    pub(super) fn feature_level(&self, current: Option<FeatureLevel>) {
        self.level.set(current.map_or(0, |level| level.get().into()));
    }

    pub(super) fn newest_level(&self, newest: FeatureLevel) {
        self.level_newest.set(newest.get().into());
    }

    /// What only a leader sees is not shown by anybody else.
    pub(super) fn leads_no_upgrade(&self) {
        self.level_newest.set(0);
    }

    pub(super) fn states_differ(&self, members: usize) {
        self.states_differ.set(members as u64);
    }

    pub(super) fn registration_entry(&self) {
        self.registration_entries.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples;

    #[test]
    fn every_refusal_of_a_router_is_counted_by_its_name() {
        for refusal in samples::offer_refusals() {
            assert!(ROUTER_REASONS.contains(&refusal.code()), "{} is counted as other", refusal.code());
        }
        let metrics = Metrics::default();
        metrics.refused_by_router("whatever a router may say");
        assert_eq!(metrics.refused.get_or_create(&Reason { reason: Name("other") }).get(), 1);
    }
}
