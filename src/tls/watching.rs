//! What people are told of certificates: replaced, unusable, about to end. The same on controllers and routers.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::material::Material;
use super::security::Security;
use super::store::{Expiry, Reload, unix_now};
use crate::ops::events::{Event, Events, Kind, Subject};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Which {
    certificate: &'static str,
}

/// `pilothouse_certificate_not_after_timestamp_seconds`.
#[derive(Debug, Clone, Default)]
pub struct CertificateMetrics {
    not_after: Family<Which, Gauge>,
}

impl CertificateMetrics {
    /// Registered, with nothing in them yet.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "pilothouse_certificate_not_after_timestamp_seconds",
            "When the certificates of a file end, the first of each",
            metrics.not_after.clone(),
        );
        metrics
    }

    fn show(&self, ends: &[(&'static str, i64)]) {
        for (certificate, not_after) in ends {
            self.not_after.get_or_create(&Which { certificate }).set(*not_after);
        }
    }
}

/// Follows the certificates in use until `stop`; over plain text there are none.
pub async fn follow(security: Security, events: Events, metrics: CertificateMetrics, stop: CancellationToken) {
    let Some(store) = security.store() else { return };
    let mut told = Told::default();
    told.look(&store.current(), &events, &metrics);
    store
        .follow(stop, |reload| match reload {
            Reload::Done(material) => {
                let principal = material.leaf().principal.to_string();
                events.raise(Event::CertificateReplaced { principal });
                events.resolve(Kind::CertificateUnusable, &Subject::Itself);
                told.look(&material, &events, &metrics);
            }
            // Also when the earlier files were put back: what lies there is what is in use.
            Reload::Unchanged(material) => {
                events.resolve(Kind::CertificateUnusable, &Subject::Itself);
                told.look(&material, &events, &metrics);
            }
            Reload::Failed(message) => events.raise(Event::CertificateUnusable { message }),
        })
        .await;
}

/// How near which end was when it was told of last.
#[derive(Debug, Default)]
struct Told(BTreeMap<&'static str, Expiry>);

impl Told {
    fn look(&mut self, material: &Material, events: &Events, metrics: &CertificateMetrics) {
        metrics.show(material.ends());
        for (certificate, not_after) in material.ends() {
            let now = Expiry::of(*not_after, unix_now());
            let before = self.0.insert(certificate, now).unwrap_or(Expiry::Far);
            if now > before {
                let (within, over) = (now.as_str(), now == Expiry::Over);
                events.raise(Event::CertificateExpires { certificate, within, over });
            } else if now == Expiry::Far {
                events.resolve(Kind::CertificateExpires, &Subject::Certificate((*certificate).to_owned()));
            }
        }
    }
}
