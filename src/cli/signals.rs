//! Ctrl-C and SIGTERM: the first asks a daemon to stop, a second ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit codes of processes that a signal ended are this plus its number.
const SIGNALLED: i32 = 128;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// A token that is cancelled by the first signal. From then on a second one ends the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn stop_requested() -> io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => SIGINT,
                _ = terminate.recv() => SIGTERM,
            };
            if first.is_cancelled() {
                tracing::warn!(number, "ended at once by a second signal");
                std::process::exit(SIGNALLED + number);
            }
            tracing::info!(number, "stopping; a second signal ends at once");
            first.cancel();
        }
    });
    Ok(stop)
}
