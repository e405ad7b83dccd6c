//! Registers a router again and again through every controller, and notes when each registration was acknowledged: the
//! gap between two of them is how long writes stood still.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rand::Rng as _;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;

use super::credentials;
use super::layout::Layout;
use crate::domain::endpoint::Endpoint;
use crate::proto::router::RegisterRequest;
use crate::proto::router::router_control_client::RouterControlClient;
use crate::tls::Security;

/// How often each controller is asked.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// Each controller is asked for so many routers in turn, since none may register as often as that.
const PROBE_ROUTERS: usize = 10;
/// One registration may take this long: an election fits into it, so that the first write after it is seen at once.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// Runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Prober {
    acks_ms: Arc<Mutex<Vec<u64>>>,
    began: Instant,
    probes: Vec<JoinHandle<()>>,
}

impl Prober {
    /// One probe for each of these controllers.
    pub(crate) fn of(layout: &Layout, controllers: impl IntoIterator<Item = u16>) -> anyhow::Result<Self> {
        let ports = (1..).zip(controllers).map(|(probe, number)| {
            // The certificate of a router speaks for that router alone.
            let routers = Self::ids(probe).map(|id| credentials::of_router(layout, &id).map(|security| (id, security)));
            Ok((layout.endpoint(layout.ports(number).router), routers.collect::<anyhow::Result<_>>()?))
        });
        Ok(Self::start(ports.collect::<anyhow::Result<_>>()?))
    }

    /// One probe a controller's port for routers, with routers of its own and how each of them speaks.
    fn start(ports: Vec<(Endpoint, Vec<(String, Security)>)>) -> Self {
        let (acks_ms, began) = (Arc::default(), Instant::now());
        let probe = |(endpoint, routers): (Endpoint, Vec<(String, Security)>)| {
            let routers = routers.into_iter().map(|(id, security)| (id, channel(endpoint.clone(), security)));
            tokio::spawn(probe(routers.collect(), Arc::clone(&acks_ms), began))
        };
        let probes = ports.into_iter().map(probe).collect();
        Self { acks_ms, began, probes }
    }

    /// The router ids of a probe, by number from 1.
    pub(crate) fn ids(number: usize) -> impl Iterator<Item = String> {
        (1..=PROBE_ROUTERS).map(move |router| format!("demo-probe-{number}-{router}"))
    }

    /// How many registrations were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.acks_ms.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// When registrations were acknowledged until now, and when that is: milliseconds since the start.
    pub(crate) fn so_far(&self) -> (Vec<u64>, u64) {
        let now = elapsed_ms(self.began);
        (self.acks_ms.lock().unwrap_or_else(PoisonError::into_inner).clone(), now)
    }

    /// The same, and ends the probes.
    pub(crate) fn stop(self) -> (Vec<u64>, u64) {
        self.so_far()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.probes.iter().for_each(JoinHandle::abort);
    }
}

/// Connects when it is used, and again after each loss.
pub(crate) fn channel(to: Endpoint, security: Security) -> Channel {
    // Plain for tonic: the connector adds what is needed.
    tonic::transport::Endpoint::from_shared(to.plain().to_string())
        .expect("an endpoint is a URI")
        .timeout(PROBE_DEADLINE)
        .connect_with_connector_lazy(tower::service_fn(move |_| {
            let (to, security) = (to.clone(), security.clone());
            async move { security.dial(&to).await.map(|dialed| TokioIo::new(dialed.stream)) }
        }))
}

/// Each registration differs from the one before of its router, so that each is a write.
async fn probe(routers: Vec<(String, Channel)>, acks_ms: Arc<Mutex<Vec<u64>>>, began: Instant) {
    let boot_id = rand::rng().random::<[u8; 16]>().to_vec();
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0.. {
        let ((router_id, channel), sequence) = (&routers[turn % routers.len()], turn / routers.len() + 1);
        // The same registration until it is acknowledged: repeating it is harmless.
        while !register(channel.clone(), router_id, &boot_id, sequence as u64).await {
            ticks.tick().await;
        }
        acks_ms.lock().unwrap_or_else(PoisonError::into_inner).push(elapsed_ms(began));
        ticks.tick().await;
    }
}

async fn register(channel: Channel, router_id: &str, boot_id: &[u8], sequence: u64) -> bool {
    let request = RegisterRequest {
        router_id: router_id.to_owned(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.to_vec(),
        sequence,
        protocol_min: 1,
        protocol_max: 2,
        ..RegisterRequest::default()
    };
    RouterControlClient::new(channel).register(request).await.is_ok()
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
