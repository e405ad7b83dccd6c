//! Sessions: a router keeps one active and one warm, on different controllers, and looks for them for ever.
//!
//! Each slot is a task: choose a candidate, `dial` it, `hold` the session until it ends, wait with jitter, again.
//! What a list is worth is the keeper's business; who may be tried is the board's.

mod answers;
mod board;
mod connector;
mod dial;
mod hold;
mod moving;
mod registrar;
mod reports;
mod timing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use answers::nack;
pub use board::{Board, Claim, Identity};
pub use connector::{ConnectError, Connected, Connector, TcpConnector};
pub use dial::MESSAGE_BYTES_MAX;
pub use registrar::{Registrar, description};
pub use reports::Reports;
pub use timing::{HEARTBEATS_MISSED_MAX, Timing};

use dial::{DialError, Live, dial};
use hold::{End, hold};
use moving::{Standing, Wanted};

use super::candidates::{Known, Tier};
use super::instruments::Instruments;
use super::keeper::KeeperHandle;
use crate::domain::acceptance::HeldList;
use crate::domain::ids::RouterId;
use crate::domain::retry;
use crate::ops::events::Event;

/// What all sessions of a router share.
pub struct Context {
    /// The router's id.
    pub router: RouterId,
    /// Makes connections.
    pub connector: Arc<dyn Connector>,
    /// How long to wait for what.
    pub timing: Timing,
    /// Draws numbers, uniformly over all of `u32`.
    pub random: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Judges offers.
    pub keeper: KeeperHandle,
    /// Where controllers are.
    pub known: watch::Receiver<Arc<Known>>,
    /// The list in use.
    pub lists: watch::Receiver<Option<HeldList>>,
    /// Who is on which controller.
    pub board: Arc<Board>,
    /// What this router says of itself.
    pub registrar: Registrar,
    /// Events, metrics, status.
    pub instruments: Instruments,
    /// What the cluster was told of the events.
    pub reports: Arc<Reports>,
    /// The router stops.
    pub stop: CancellationToken,
}

/// One slot: for ever, until the router stops.
pub async fn slot(context: Arc<Context>) {
    let stop = context.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        never = keep_a_session(context) => match never {},
    }
}

async fn keep_a_session(context: Arc<Context>) -> std::convert::Infallible {
    let mut known = context.known.clone();
    let (mut attempt, mut superseded, mut searches) = (0_u32, 0_u32, 0_u32);
    let mut moved = None;
    loop {
        let live = match moved.take() {
            Some(live) => Ok(live),
            None => find(&context, Wanted::Any).await,
        };
        let pause = match live {
            Err(asked) => {
                say_nobody_answers(&context, attempt);
                asked.max(retry::delay(context.timing.retry, attempt, (context.random)()))
            }
            Ok(live) => {
                let began = Instant::now();
                let end = hold(&context, live, &mut searches).await;
                if began.elapsed() >= context.timing.stable {
                    (attempt, superseded) = (0, 0);
                }
                match end {
                    End::Moved(live) => {
                        // The next search waits longer, until a session turns out to be a good one.
                        searches = searches.saturating_add(1);
                        moved = Some(*live);
                        continue;
                    }
                    End::Superseded => {
                        superseded = superseded.saturating_add(1);
                        retry::delay(context.timing.superseded, superseded - 1, (context.random)())
                    }
                    End::Over { retry_after } => {
                        retry_after.max(retry::delay(context.timing.retry, attempt, (context.random)()))
                    }
                }
            }
        };
        attempt = attempt.saturating_add(1);
        known.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(pause.min(context.timing.pause_max())) => {}
            // New candidates are worth a look, but not before the least pause: nothing makes this loop busy.
            () = learned(&mut known, context.timing.retry.base / 4) => {}
        }
    }
}

/// Returns when candidates changed, but not before the least pause.
async fn learned(known: &mut watch::Receiver<Arc<Known>>, least: Duration) {
    tokio::time::sleep(least).await;
    if known.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One round over all candidates; the first that will do. Otherwise how long they ask to be left alone.
async fn find(context: &Arc<Context>, wanted: Wanted) -> Result<Live, Duration> {
    let known = context.known.borrow().clone();
    let candidates = known.candidates(&context.board.circumstances(), || (context.random)());
    let mut asked = Vec::new();
    for candidate in candidates {
        if wanted.is_member() && candidate.tier != Tier::Held {
            continue;
        }
        let Some(claim) = context.board.claim(&candidate) else { continue };
        match dial(context, claim).await {
            Ok(live) if wanted.accepts(Standing::of(&live, &context.known.borrow())) => {
                say_opened(context, &live);
                return Ok(live);
            }
            Ok(live) => live.close(context.timing.close).await,
            Err(error) => {
                context.board.unreached(&candidate.endpoint);
                say_failed(context, &candidate.endpoint, &error);
                asked.push(error.retry_after().min(context.timing.retry_after_max));
            }
        }
    }
    // Whoever asks for the shortest pause decides: it may be ready first.
    Err(asked.into_iter().min().unwrap_or_default())
}

fn say_opened(context: &Context, live: &Live) {
    let (endpoint, tier) = (live.claim.endpoint(), live.claim.tier());
    let controller = live.speaker.id.map(tracing::field::display);
    tracing::info!(controller, %endpoint, known_from = %tier, "opened a session");
    let known = context.known.borrow();
    let on_a_member = context.board.reached().any(|id| known.is_member(known.cluster, id));
    if known.list.is_some() && tier != Tier::Held && !on_a_member {
        let message = format!("no controller of the held list answers; now on {endpoint}");
        context.instruments.events.raise(match tier {
            Tier::Seeds => Event::RunningOnSeeds { first: false, message },
            _ => Event::FellBack { to: tier.as_str(), message },
        });
    }
}

fn say_failed(context: &Context, endpoint: &crate::domain::endpoint::Endpoint, error: &DialError) {
    match error {
        DialError::Refused(refused) => {
            context.instruments.metrics.hello_refused(known_reason(&refused.reason));
            tracing::warn!(%endpoint, reason = %excerpt(&refused.reason), hint = %excerpt(&refused.hint), "a controller refused this router: {}", excerpt(&refused.message));
        }
        DialError::Retired(_) | DialError::Invalid(_) => tracing::warn!(%endpoint, "left a controller: {error}"),
        DialError::Unreachable(_) | DialError::Silent(_) | DialError::Ended(_) => {
            tracing::debug!(%endpoint, "no session with a controller: {error}");
        }
    }
}

/// Said at attempts 0, 1, 3, 7, …: often enough to be seen, seldom enough to be read.
fn say_nobody_answers(context: &Context, attempt: u32) {
    let alone = context.board.reached().next().is_none();
    if alone && attempt.saturating_add(1).is_power_of_two() {
        let seeds = context.known.borrow().seeds.len();
        tracing::warn!(
            attempt,
            "no controller answers; the held list stays in use, trying for ever: check the network and the {seeds} configured seeds"
        );
    }
}

/// A label of a metric is one of a fixed set, whatever a controller says.
fn known_reason(reason: &str) -> &'static str {
    const REASONS: [&str; 9] = [
        "no_common_protocol",
        "missing_capability",
        "not_ready",
        "not_member",
        "invalid",
        "draining",
        "full",
        "no_hello",
        "banned",
    ];
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("other")
}

/// Most characters of a controller's text that are logged.
const TEXT_CHARS_MAX: usize = 256;

/// The beginning of what a controller says, on one line: a message may be as large as it likes.
fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_beginning_is_logged_on_one_line() {
        assert_eq!(excerpt("not\nready"), "not ready");
        let long = excerpt(&"é".repeat(300_000));
        assert_eq!(long.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(long.ends_with('…'));
    }
}
