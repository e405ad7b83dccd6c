//! What both daemons have in common: the log, the end with the parent, a runtime, the signals that stop them, and what
//! the service manager is told.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::cli::arguments::CommonFlags;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::{logging, parent, signals};
use crate::ops::Ready;
use crate::ops::config::LogFormat;
use crate::ops::supervisor::Supervisor;

/// Runs a daemon, on all processors, until it ends or the token that it is given is cancelled by a signal. It has to say
/// when it is ready.
pub(super) fn run<F>(
    (format, filter): (LogFormat, &str),
    flags: &CommonFlags,
    console: Console,
    daemon: impl FnOnce(Ready, CancellationToken) -> F,
) -> Result<ExitStatus, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    logging::start(format, filter, console.err_colour())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let stop = signals::stop_requested()?;
        // After the handlers: what the end of the parent sends must find them.
        if flags.exit_with_parent {
            parent::exit_with_it()?;
        }
        let (ready, attended) = Supervisor::of_this_process().attend(stop.clone());
        let outcome = daemon(ready, stop).await;
        attended.ended().await;
        outcome
    });
    outcome.map(|()| ExitStatus::Done)
}
