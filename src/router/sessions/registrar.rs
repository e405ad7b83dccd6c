//! Registration: what this router says of itself, and under which boot and sequence. One attempt at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::Status;
use tonic::transport::Channel;

use super::Context;
use crate::domain::ids::BootId;
use crate::domain::negotiation::ProtocolRange;
use crate::domain::retry;
use crate::proto::router::RegisterRequest;
use crate::proto::router::router_control_client::RouterControlClient;
use crate::router::generations::Registered;
use crate::rpc::status::{hint_of, reason_of, retry_after_of};

/// The controllers' name for a registration that they take for a delayed one.
const STALE: &str = "stale_registration";

/// What this router says of itself.
pub struct Registrar {
    /// Everything but boot and sequence.
    description: RegisterRequest,
    current: Mutex<Registered>,
    turn: tokio::sync::Mutex<()>,
    draw: Arc<dyn Fn() -> u32 + Send + Sync>,
}

impl Registrar {
    /// For a new start of the router: a new boot, and a sequence beyond that of the last one.
    #[must_use]
    pub fn new(
        description: RegisterRequest,
        last: Option<Registered>,
        draw: Arc<dyn Fn() -> u32 + Send + Sync>,
    ) -> Self {
        let sequence = last.map_or(0, |last| last.sequence).saturating_add(1);
        let current = Mutex::new(Registered { boot: boot(&*draw), sequence });
        Self { description, current, turn: tokio::sync::Mutex::new(()), draw }
    }

    /// Boot and sequence.
    #[must_use]
    pub fn current(&self) -> Registered {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws another boot. The controllers remember a few earlier boots of a router and refuse them; when a delayed
    /// registration of an earlier start overtakes that of this one, they take this one for the earlier.
    fn start_over(&self) -> Registered {
        let fresh = Registered { boot: boot(&*self.draw), sequence: 1 };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        fresh
    }

    fn request(&self) -> RegisterRequest {
        let Registered { boot, sequence } = self.current();
        RegisterRequest { boot_id: boot.to_bytes().to_vec(), sequence, ..self.description.clone() }
    }
}

/// What a router says of itself, without boot and sequence.
#[must_use]
pub fn description(config: &crate::router::config::RouterConfig) -> RegisterRequest {
    RegisterRequest {
        router_id: config.id.to_string(),
        software_version: crate::router::SOFTWARE_VERSION.to_owned(),
        protocol_min: ProtocolRange::SUPPORTED.min().get(),
        protocol_max: ProtocolRange::SUPPORTED.max().get(),
        labels: config.labels.clone(),
        ..RegisterRequest::default()
    }
}

/// Registers through this controller, until it is done. Never returns without.
pub(super) async fn register(context: Arc<Context>, mut client: RouterControlClient<Channel>) {
    let registrar = &context.registrar;
    for attempt in 0.. {
        let mut asked = Duration::ZERO;
        {
            let _turn = registrar.turn.lock().await;
            let answer = tokio::time::timeout(context.timing.register, client.register(registrar.request())).await;
            match answer {
                Ok(Ok(_)) => {
                    tracing::debug!("registered");
                    context.instruments.update(|status| status.registered = true);
                    return;
                }
                Ok(Err(status)) if reason_of(&status) == Some(STALE) => {
                    tracing::warn!("the cluster takes this registration for a delayed one; registering as a new start");
                    context.keeper.registered(registrar.start_over()).await;
                }
                Ok(Err(status)) => {
                    asked = retry_after_of(&status).unwrap_or_default().min(context.timing.retry_after_max);
                    refused(&status, attempt);
                }
                Err(_) => tracing::warn!(attempt, "registration was not answered in time; will repeat it"),
            }
        }
        tokio::time::sleep(asked.max(retry::delay(context.timing.register_again, attempt, (context.random)()))).await;
    }
}

fn refused(status: &Status, attempt: u32) {
    let (reason, hint) = (reason_of(status).unwrap_or("-"), hint_of(status).unwrap_or("-"));
    tracing::warn!(
        attempt,
        reason,
        hint,
        error = status.message(),
        "registration failed; the list is kept, will repeat"
    );
}

fn boot(draw: &(dyn Fn() -> u32 + Send + Sync)) -> BootId {
    let bits = (0..4).fold(0_u128, |bits, _| bits << 32 | u128::from(draw()));
    // All zeros means absent.
    BootId::from_u128(bits.max(1))
}
