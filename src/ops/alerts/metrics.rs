//! What is counted of alarms. Names are a contract: appended, never edited.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of alarms. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct AlertMetrics {
    posted: Counter,
    failed: Family<ReasonLabel, Counter>,
    dropped: Counter,
    waiting: Gauge,
}

impl AlertMetrics {
    /// Registered as `pilothouse_alerts_…`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("pilothouse_alerts");
        registry.register("posted", "Alerts that the webhook took", metrics.posted.clone());
        registry.register("posts_failed", "Requests that the webhook did not take, by reason", metrics.failed.clone());
        registry.register("dropped", "Events that made room before they could be posted", metrics.dropped.clone());
        registry.register("waiting", "Alerts that wait or last", metrics.waiting.clone());
        metrics
    }

    pub(super) fn posted(&self, alerts: usize) {
        self.posted.inc_by(alerts as u64);
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// So many events made room before they could be posted.
    pub fn dropped(&self, events: u64) {
        self.dropped.inc_by(events);
    }

    pub(super) fn waiting(&self, alerts: usize) {
        self.waiting.set(i64::try_from(alerts).unwrap_or(i64::MAX));
    }
}
