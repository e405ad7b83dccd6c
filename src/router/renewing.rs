//! The router's next certificate, long before the present one ends: a router whose certificate has ended is as lost as one
//! without a list.
//!
//! ```text
//! due ── ask one controller after the other ──> try it with all ──> rename ──> `tls::store` sees the file
//! ```
//!
//! Whoever answers to the present certificate has to answer to the next one before that takes its place: a controller with a
//! wrong issuer does not cut a router off from the others. When it is due says `domain::renewal`; what lies on disk is
//! `tls::succession`'s to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::candidates::Known;
use super::enrolling::Attempt;
use super::metrics::Metrics;
use super::sessions::{Connector as _, MESSAGE_BYTES_MAX, TcpConnector};
use crate::domain::endpoint::Endpoint;
use crate::domain::renewal::due;
use crate::domain::retry::{Backoff, delay};
use crate::proto::enrolment::RenewRequest;
use crate::proto::enrolment::enrolment_client::EnrolmentClient;
use crate::tls::store::unix_now;
use crate::tls::succession::{SuccessionError, Successor};
use crate::tls::{Security, Store};

/// How often it looks whether its certificate is due: clocks jump, hosts sleep, and files are replaced by hand.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two attempts: there are weeks.
const AGAIN: Backoff = Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(60 * 60) };
/// A connection stands within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A controller answers within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most controllers that are asked, and that it is tried with.
const ASKED_MAX: usize = 16;

/// Why the present certificate stays.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error("no controller is known")]
    NobodyKnown,
    #[error("no controller gave one{}", told(.0))]
    Nobody(Vec<Attempt>),
    #[error("controllers that answer to the present one refuse it: their tls.ca_routers lacks its issuer{}", told(.0))]
    Refused(Vec<Attempt>),
    #[error("no controller could be reached to try it with")]
    Untried,
    #[error(transparent)]
    Here(#[from] SuccessionError),
}

fn told(attempts: &[Attempt]) -> String {
    attempts.iter().map(|attempt| format!("; {attempt}")).collect()
}

/// What it takes to renew a certificate.
pub(super) struct Renewing {
    pub(super) store: Store,
    pub(super) known: watch::Receiver<Arc<Known>>,
    pub(super) metrics: Metrics,
    pub(super) random: Arc<dyn Fn() -> u32 + Send + Sync>,
}

impl Renewing {
    /// Renews it again and again; it never ends.
    pub(super) async fn run(self) {
        let drawn = (self.random)();
        let mut failed = 0;
        loop {
            let pause = match self.look(drawn).await {
                None | Some(Ok(())) => {
                    failed = 0;
                    LOOK_EVERY
                }
                Some(Err(why)) => {
                    let pause = delay(AGAIN, failed, (self.random)());
                    failed = failed.saturating_add(1);
                    tracing::warn!(%why, again_in_s = pause.as_secs(), "the certificate was not renewed, and stays in use");
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Renews it, if it is due.
    async fn look(&self, drawn: u32) -> Option<Result<(), NotRenewed>> {
        let present = self.store.current();
        if unix_now() < due(present.leaf().not_before, present.leaf().not_after, drawn) {
            return None;
        }
        let renewed = self.renew().await;
        self.metrics.renewal(renewed.is_ok());
        Some(renewed)
    }

    async fn renew(&self) -> Result<(), NotRenewed> {
        let mut controllers = endpoints(&self.known.borrow());
        if controllers.is_empty() {
            return Err(NotRenewed::NobodyKnown);
        }
        controllers.sort_by_cached_key(|_| (self.random)());
        controllers.truncate(ASKED_MAX);
        let store = self.store.clone();
        let request = blocking(move || store.request()).await?;
        let (from, chain) = self.ask(&controllers, &request).await?;
        let store = self.store.clone();
        let successor = blocking(move || store.successor(&chain, &request)).await?;
        self.tried(&successor, &controllers).await?;
        blocking(move || successor.replace()).await?;
        tracing::info!(%from, "has its next certificate");
        Ok(())
    }

    /// A certificate from whoever gives one first.
    async fn ask(&self, controllers: &[Endpoint], request: &[u8]) -> Result<(Endpoint, String), NotRenewed> {
        let mut attempts = Vec::new();
        for at in controllers {
            match asked(&Security::Tls(self.store.clone()), at, request).await {
                Ok(chain) => return Ok((at.clone(), chain)),
                Err(why) => attempts.push(Attempt { at: at.clone(), why }),
            }
        }
        Err(NotRenewed::Nobody(attempts))
    }

    /// Whether all who answer to the present certificate answer to the next one, and anybody does.
    async fn tried(&self, successor: &Successor, controllers: &[Endpoint]) -> Result<(), NotRenewed> {
        let present = Security::Tls(self.store.clone());
        let (mut took, mut refused) = (0, Vec::new());
        for at in controllers {
            match answers(&successor.security(), at).await {
                Ok(()) => took += 1,
                Err(why) if answers(&present, at).await.is_ok() => refused.push(Attempt { at: at.clone(), why }),
                // Whoever is away now says nothing about it.
                Err(_) => {}
            }
        }
        verdict(took, refused)
    }
}

/// What is made of it that so many took it, and these refused it who took the present one.
fn verdict(took: usize, refused: Vec<Attempt>) -> Result<(), NotRenewed> {
    match (took, refused.is_empty()) {
        (_, false) => Err(NotRenewed::Refused(refused)),
        (0, true) => Err(NotRenewed::Untried),
        (_, true) => Ok(()),
    }
}

/// Where the controllers of the list are, each at its first address; the seeds, as long as there is no list.
fn endpoints(known: &Known) -> Vec<Endpoint> {
    match &known.list {
        Some(list) => {
            list.controllers().iter().filter_map(|controller| controller.endpoints.first().cloned()).collect()
        }
        None => known.seeds.clone(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SuccessionError> + Send + 'static,
) -> Result<T, SuccessionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

async fn asked(security: &Security, at: &Endpoint, request: &[u8]) -> Result<String, String> {
    let connected = TcpConnector(security.clone()).connect(at.clone(), CONNECT_WITHIN).await.map_err(words)?;
    let mut client = EnrolmentClient::new(connected.channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = in_time(client.renew(RenewRequest { request: request.to_vec() })).await?;
    Ok(answer.into_inner().certificate)
}

/// Whether a controller talks to whoever has this certificate. The health service asks for an identity, and tells at once.
async fn answers(security: &Security, at: &Endpoint) -> Result<(), String> {
    let connected = TcpConnector(security.clone()).connect(at.clone(), CONNECT_WITHIN).await.map_err(words)?;
    let mut client = HealthClient::new(connected.channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut states = in_time(client.watch(HealthCheckRequest { service: String::new() })).await?.into_inner();
    in_time(states.message()).await.map(drop)
}

async fn in_time<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

fn words(why: impl fmt::Display) -> String {
    why.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_or_nobody_to_try_it_with_keeps_the_present_one() {
        let refused = || vec![Attempt { at: "https://c1.example:7002".parse().unwrap(), why: "unknown issuer".into() }];
        assert!(verdict(1, Vec::new()).is_ok());
        assert!(matches!(verdict(0, Vec::new()), Err(NotRenewed::Untried)));
        for took in [0, 2] {
            let why = verdict(took, refused()).unwrap_err().to_string();
            assert!(why.contains("lacks its issuer; https://c1.example:7002: unknown issuer"), "{why}");
        }
    }
}
