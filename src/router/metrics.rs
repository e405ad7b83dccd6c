//! What a router counts. Names are a contract: appended, never edited.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::status::{AgentStatus, SessionState, Source};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabel {
    file: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutputLabel {
    output: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabel {
    effect: &'static str,
}

/// A router's metrics. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    source: Family<SourceLabel, Gauge>,
    epoch: Gauge,
    index: Gauge,
    saved: Gauge,
    sessions: Gauge,
    reserve: Gauge,
    adopted: Counter,
    merged: Counter,
    unchanged: Counter,
    refused: Family<ReasonLabel, Counter>,
    hellos_refused: Family<ReasonLabel, Counter>,
    files_rejected: Family<FileLabel, Counter>,
    outputs_failed: Family<OutputLabel, Counter>,
    restarts: Counter,
    renewals: Family<EffectLabel, Counter>,
}

impl Metrics {
    /// Registered as `pilothouse_router_…`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("pilothouse_router");
        let m = &metrics;
        registry.register("list_source", "1 for where the list in use came from", m.source.clone());
        registry.register("held_epoch", "Epoch of the list in use, 0 for none", m.epoch.clone());
        registry.register("held_index", "Index of the list in use, 0 for none", m.index.clone());
        registry.register("list_saved", "Whether the list in use is on the disk", m.saved.clone());
        registry.register("sessions", "Open sessions with controllers", m.sessions.clone());
        registry.register("reserve", "Controllers in the reserve", m.reserve.clone());
        registry.register("offers_adopted", "Offered lists that were adopted", m.adopted.clone());
        registry.register("offers_merged", "Offered lists of protocol 1 that added hints", m.merged.clone());
        registry.register("offers_unchanged", "Offered lists that were held already", m.unchanged.clone());
        registry.register("offers_refused", "Offered lists that were refused, by reason", m.refused.clone());
        registry.register("hellos_refused", "Hellos that controllers refused, by reason", m.hellos_refused.clone());
        registry.register("files_rejected", "Saved files that were set aside", m.files_rejected.clone());
        registry.register("outputs_failed", "Outputs for the data plane that failed", m.outputs_failed.clone());
        registry.register("restarts", "Restarts from disk after a fault in the router's own code", m.restarts.clone());
        registry.register("certificate_renewals", "Attempts to renew the own certificate", m.renewals.clone());
        metrics
    }

    pub(super) fn adopted(&self) {
        self.adopted.inc();
    }

    pub(super) fn merged(&self) {
        self.merged.inc();
    }

    pub(super) fn unchanged(&self) {
        self.unchanged.inc();
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    pub(super) fn hello_refused(&self, reason: &'static str) {
        self.hellos_refused.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    pub(super) fn file_rejected(&self, file: &str) {
        self.files_rejected.get_or_create(&FileLabel { file: file.to_owned() }).inc();
    }

    pub(super) fn output_failed(&self, output: &'static str) {
        self.outputs_failed.get_or_create(&OutputLabel { output }).inc();
    }

    pub(super) fn restarted(&self) {
        self.restarts.inc();
    }

    pub(super) fn renewal(&self, succeeded: bool) {
        let effect = if succeeded { "renewed" } else { "failed" };
        self.renewals.get_or_create(&EffectLabel { effect }).inc();
    }

    /// Follows a status.
    pub(super) fn observe(&self, status: &AgentStatus) {
        for source in Source::ALL {
            let here = i64::from(source == status.source);
            self.source.get_or_create(&SourceLabel { source: source.as_str() }).set(here);
        }
        let version = status.held.as_ref().map(|held| held.version);
        self.epoch.set(version.map_or(0, |version| version.epoch.get().into()));
        self.index.set(version.map_or(0, |version| i64::try_from(version.index).unwrap_or(i64::MAX)));
        self.saved.set(status.saved.into());
        let open = status.sessions.iter().filter(|session| session.state != SessionState::Connecting).count();
        self.sessions.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.reserve.set(i64::try_from(status.reserve.len()).unwrap_or(i64::MAX));
    }
}
