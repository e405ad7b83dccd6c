//! How the keeper brings what is held to the disk: within a bound, again after a failure, one write at a time.
//!
//! A disk that fails or hangs never holds up the list itself. It does not know what an offer is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Keeper, chain};
use crate::domain::retry::{self, Backoff};
use crate::ops::events::{Event, Kind, Subject};
use crate::router::generations::{Generations, Registered, SaveError};

/// How soon, and at most how seldom, a list that could not be saved is saved again.
const SAVE_AGAIN: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// A save that takes longer counts as failed: several times what a busy disk needs, and less than sessions wait.
pub(super) const SAVE_MAX: Duration = Duration::from_secs(5);

/// Where the data directory is.
pub(super) enum Saving {
    /// Here.
    Idle(Generations),
    /// With a thread that a disk does not let go. It comes back when that ends.
    Hung(PathBuf, JoinHandle<Generations>),
    /// With the write that the keeper waits for.
    Lent,
}

/// A save that failed and is to be repeated.
pub(super) struct Unsaved {
    attempts: u32,
    pub(super) next: Instant,
}

impl Unsaved {
    /// Nothing was tried yet.
    pub(super) fn new(random: u32) -> Self {
        Self { attempts: 0, next: Instant::now() + retry::delay(SAVE_AGAIN, 0, random) }
    }
}

impl Keeper {
    /// Saves what is held. A failure changes nothing but the disk's lag: it is said, and tried again.
    pub(super) async fn save(&mut self) {
        let Some(generation) = self.holdings.current.clone() else {
            self.unsaved = None;
            return;
        };
        let (trust, reserve) = (self.holdings.trust.clone(), self.holdings.reserve.clone());
        let saved = self.on_disk(move |generations| generations.save(&generation, &trust, &reserve)).await;
        match saved {
            Ok(()) => {
                if self.unsaved.take().is_some() {
                    tracing::info!(version = %self.holdings.version_text(), "saved the list that was held in memory only");
                }
                self.instruments.events.resolve(Kind::NotSaved, &Subject::Itself);
            }
            Err(error) => self.failed_to_save(&error),
        }
        self.instruments.saved(self.unsaved.is_none());
    }

    fn failed_to_save(&mut self, error: &SaveError) {
        let attempts = self.unsaved.as_ref().map_or(0, |unsaved| unsaved.attempts + 1);
        if attempts == 0 {
            self.instruments.events.raise(Event::NotSaved { message: chain(error) });
        } else {
            tracing::warn!(error = chain(error), attempts, "still cannot save the held list; will try again");
        }
        let next = Instant::now() + retry::delay(SAVE_AGAIN, attempts, (self.random)());
        self.unsaved = Some(Unsaved { attempts, next });
    }

    pub(super) async fn save_reserve(&mut self) {
        let reserve = self.holdings.reserve.clone();
        if let Err(error) = self.on_disk(move |generations| generations.save_reserve(&reserve)).await {
            tracing::warn!(
                error = chain(&error),
                "could not save the reserve; after a restart it is larger than it need be"
            );
        }
    }

    pub(super) async fn save_registration(&mut self, registered: Registered) {
        if let Err(error) = self.on_disk(move |generations| generations.save_registration(registered)).await {
            tracing::warn!(
                error = chain(&error),
                "could not save the registration's number; it is drawn anew at each start"
            );
        }
    }

    /// Disks may take long: they wait on a thread of their own. The keeper itself waits, so the order stays, but not for
    /// ever: a write that hangs goes on by itself, and until it ends every other one fails at once.
    async fn on_disk(
        &mut self,
        work: impl FnOnce(&Generations) -> Result<(), SaveError> + Send + 'static,
    ) -> Result<(), SaveError> {
        let generations = self.borrow_directory().await?;
        let dir = generations.dir().to_path_buf();
        let (done, outcome) = tokio::sync::oneshot::channel();
        let mut writing = tokio::task::spawn_blocking(move || {
            // Nobody listens any more after `SAVE_MAX`: the next attempt finds out by itself.
            let _ = done.send(work(&generations));
            generations
        });
        match tokio::time::timeout(self.save_max, &mut writing).await {
            Ok(Ok(generations)) => {
                self.saving = Saving::Idle(generations);
                outcome.await.expect("the write ended, and said how")
            }
            Ok(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            Err(_) => {
                self.saving = Saving::Hung(dir.clone(), writing);
                Err(hung(dir))
            }
        }
    }

    async fn borrow_directory(&mut self) -> Result<Generations, SaveError> {
        match std::mem::replace(&mut self.saving, Saving::Lent) {
            Saving::Idle(generations) => Ok(generations),
            Saving::Hung(dir, writing) if !writing.is_finished() => {
                self.saving = Saving::Hung(dir.clone(), writing);
                Err(hung(dir))
            }
            Saving::Hung(_, writing) => {
                writing.await.map_err(|panicked| std::panic::resume_unwind(panicked.into_panic()))
            }
            Saving::Lent => unreachable!("the keeper waits for each save before it begins the next"),
        }
    }
}

fn hung(path: PathBuf) -> SaveError {
    SaveError { step: "finish writing in time to", path, source: io::ErrorKind::TimedOut.into() }
}
