//! What a daemon tells the service manager that started it (`sd_notify`): that it serves, how it is, that it is alive,
//! and that it stops. Without one (`NOTIFY_SOCKET`) nobody is told anything.
//!
//! ```text
//! starting: have patience -> READY, STATUS -> STATUS when it changes, WATCHDOG while it is alive -> STOPPING
//! ```
//!
//! Everything is said from one task on the daemon's main runtime: one that is stuck says nothing, and is restarted.
//! It does not know controllers or routers: these hand over their [`Vitals`] when they serve.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Check, Seldom};

/// How much time a start asks for, in microseconds: several times the pause until it asks again.
const PATIENCE_US: u32 = 30_000_000;
/// The end of a process waits this long for its last words.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// How often something is said, and how long it may take.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// A start asks for more time: opening a large data directory takes it.
    patience_every: Duration,
    /// A start that takes longer gets no more time: it hangs.
    start_max: Duration,
    /// A new status is told at most this often.
    status_every: Duration,
    /// A manager that does not take what it is told within this time misses it.
    told_within: Duration,
}

impl Pace {
    const DEFAULT: Self = Self {
        patience_every: Duration::from_secs(10),
        start_max: Duration::from_secs(30 * 60),
        status_every: Duration::from_secs(1),
        told_within: Duration::from_secs(2),
    };
}

/// How a daemon is, for as long as it serves.
#[derive(Clone)]
pub struct Vitals {
    /// Whether it still makes progress.
    pub alive: Check,
    /// One line for an operator: what it does at this moment.
    pub status: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").field("alive", &self.alive).finish_non_exhaustive()
    }
}

/// With this a daemon says that it serves.
#[derive(Debug)]
pub struct Ready(oneshot::Sender<Vitals>);

impl Ready {
    /// It serves: its ports are open, and what it has stored is loaded.
    pub fn serving(self, vitals: Vitals) {
        // Without a service manager nobody listens.
        let _ = self.0.send(vitals);
    }
}

/// The service manager of this process, if it has one that wants to be told.
#[derive(Debug)]
pub struct Supervisor {
    ear: Option<UnixDatagram>,
    /// How often it has to hear that the process is alive.
    watchdog: Option<Duration>,
    complaint: Seldom,
    /// [`Pace::DEFAULT`], except in tests.
    pace: Pace,
}

impl Supervisor {
    /// As the environment says it.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::at(std::env::var_os("NOTIFY_SOCKET").as_deref().map(Path::new), sd_notify::watchdog_enabled())
    }

    fn at(path: Option<&Path>, watchdog: Option<Duration>) -> Self {
        let ear = path.and_then(|path| match listening(path) {
            Ok(ear) => Some(ear),
            Err(error) => {
                let at = path.display();
                tracing::warn!(%at, %error, "the service manager is not told how this process is; look at NOTIFY_SOCKET");
                None
            }
        });
        Self { ear, watchdog, complaint: Seldom::new(), pace: Pace::DEFAULT }
    }

    /// Begins to tell, until [`Attended::ended`].
    #[must_use]
    pub fn attend(self, stop: CancellationToken) -> (Ready, Attended) {
        let (ready, vitals) = oneshot::channel();
        let end = CancellationToken::new();
        let task = self.ear.is_some().then(|| tokio::spawn(self.watch(vitals, stop, end.clone())));
        (Ready(ready), Attended { end, task })
    }

    async fn watch(self, vitals: oneshot::Receiver<Vitals>, stop: CancellationToken, end: CancellationToken) {
        let serves = tokio::select! {
            () = stop.cancelled() => None,
            () = end.cancelled() => None,
            serves = self.start(vitals) => serves,
        };
        if let Some(vitals) = &serves {
            tokio::select! {
                () = stop.cancelled() => {}
                () = end.cancelled() => {}
                () = self.serve(vitals) => {}
            }
        }
        self.say(&[NotifyState::Stopping, NotifyState::Status("stopping")]).await;
        if let Some(vitals) = &serves {
            end.run_until_cancelled(self.prove(vitals)).await;
        }
    }

    /// Until the daemon serves. `None`: it ended instead.
    async fn start(&self, mut vitals: oneshot::Receiver<Vitals>) -> Option<Vitals> {
        let (began, mut ticks) = (Instant::now(), ticks(self.pace.patience_every));
        loop {
            tokio::select! {
                vitals = &mut vitals => return vitals.ok(),
                _ = ticks.tick() => if began.elapsed() <= self.pace.start_max {
                    self.say(&[NotifyState::ExtendTimeoutUsec(PATIENCE_US), NotifyState::Status("starting")]).await;
                },
            }
        }
    }

    /// Says that it serves, and then whatever changes. Never returns.
    async fn serve(&self, vitals: &Vitals) {
        let mut told = (vitals.status)();
        self.say(&[NotifyState::Ready, NotifyState::Status(&told)]).await;
        let follow = async {
            let mut ticks = ticks(self.pace.status_every);
            loop {
                ticks.tick().await;
                let now = (vitals.status)();
                if now != told {
                    told = now;
                    self.say(&[NotifyState::Status(&told)]).await;
                }
            }
        };
        tokio::join!(follow, self.prove(vitals));
    }

    /// Signs of life, and only while there is life. Never returns.
    async fn prove(&self, vitals: &Vitals) {
        let Some(within) = self.watchdog else { return std::future::pending().await };
        let mut ticks = ticks(sign_every(within));
        loop {
            ticks.tick().await;
            match (vitals.alive.run)() {
                Ok(()) => self.say(&[NotifyState::Watchdog]).await,
                Err(reason) => tracing::error!(reason, "the service manager gets no sign of life, and restarts this"),
            }
        }
    }

    async fn say(&self, states: &[NotifyState<'_>]) {
        let Some(ear) = &self.ear else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        let told = tokio::time::timeout(self.pace.told_within, ear.send(message.as_bytes())).await;
        if let Err(error) = told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            && self.complaint.now()
        {
            tracing::warn!(%error, "the service manager did not take what it was told; look at NOTIFY_SOCKET");
        }
    }
}

fn listening(path: &Path) -> io::Result<UnixDatagram> {
    let ear = UnixDatagram::unbound()?;
    ear.connect(path)?;
    Ok(ear)
}

/// Twice in the manager's time: one sign may come late.
fn sign_every(within: Duration) -> Duration {
    within / 2
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A process whose service manager is told.
#[derive(Debug)]
pub struct Attended {
    end: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Attended {
    /// The daemon has ended, and the process is about to: that is told too, if it was not yet.
    pub async fn ended(self) {
        self.end.cancel();
        if let Some(task) = self.task {
            let _ = tokio::time::timeout(LAST_WORDS_WITHIN, task).await;
        }
    }
}

#[cfg(test)]
mod tests;
