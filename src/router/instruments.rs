//! Where a router's parts report: events, metrics and the status that others follow. Clones share everything.

use std::sync::Arc;

use tokio::sync::watch;

use super::metrics::Metrics;
use super::status::AgentStatus;
use crate::ops::events::Events;

/// Events, metrics and status.
#[derive(Debug, Clone)]
pub struct Instruments {
    /// What a person may have to know.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    status: Arc<watch::Sender<AgentStatus>>,
}

impl Instruments {
    /// With a status that nothing has been said about yet.
    #[must_use]
    pub fn new(events: Events, metrics: Metrics, blank: AgentStatus) -> Self {
        metrics.observe(&blank);
        Self { events, metrics, status: Arc::new(watch::Sender::new(blank)) }
    }

    /// Follows the status.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    /// Changes the status, and the gauges with it.
    pub(super) fn update(&self, change: impl FnOnce(&mut AgentStatus)) {
        self.status.send_modify(|status| {
            change(status);
            self.metrics.observe(status);
        });
    }

    pub(super) fn adopted(&self) {
        self.metrics.adopted();
        self.update(|status| status.offers.adopted += 1);
    }

    pub(super) fn merged(&self) {
        self.metrics.merged();
        self.update(|status| status.offers.merged += 1);
    }

    pub(super) fn unchanged(&self) {
        self.metrics.unchanged();
        self.update(|status| status.offers.unchanged += 1);
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.metrics.refused(reason);
        self.update(|status| *status.offers.refused.entry(reason).or_default() += 1);
    }

    pub(super) fn saved(&self, saved: bool) {
        self.update(|status| status.saved = saved);
    }
}

/// An error with its causes, for logs and events.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
