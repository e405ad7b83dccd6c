//! Whether a process still makes progress: the one judgement behind `/livez` and the service manager's watchdog.
//!
//! Whoever does the work is asked again and again, and each answer is a proof. Silence for too long means that it is
//! stuck, whatever else still answers. It does not know what is asked.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Check;

/// Silence for longer is no life. A disk may take as long for one sync before the process ends by itself, and a core that
/// saves its vote waits for two: a disk that is slow and works is not helped by restarts.
pub const LIVE_WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// When somebody last answered. Clones share it.
#[derive(Debug, Clone)]
pub struct Liveness {
    who: &'static str,
    /// [`LIVE_WITHIN`] and [`ASKED_EVERY`], except in tests.
    within: Duration,
    asked_every: Duration,
    answered: Arc<Mutex<Instant>>,
}

impl Liveness {
    /// Of somebody who has to answer from now on.
    #[must_use]
    pub fn of(who: &'static str) -> Self {
        Self { who, within: LIVE_WITHIN, asked_every: ASKED_EVERY, answered: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Asks for ever. Without an answer it waits, and the silence grows.
    pub async fn follow<F: Future<Output = bool>>(self, ask: impl Fn() -> F) {
        loop {
            if ask().await {
                *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            tokio::time::sleep(self.asked_every).await;
        }
    }

    /// The judgement, as a question to ask at any time.
    #[must_use]
    pub fn check(&self) -> Check {
        let Self { who, within, answered, .. } = self.clone();
        Check::new("progress", move || {
            let at = *answered.lock().unwrap_or_else(PoisonError::into_inner);
            judge(who, at.elapsed(), within)
        })
    }
}

fn judge(who: &str, silent: Duration, within: Duration) -> Result<(), String> {
    if silent <= within {
        return Ok(());
    }
    Err(format!("{who} has not answered for {} s: it is stuck; restart this process", silent.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn silence_for_too_long_is_no_life() {
        assert_eq!(judge("Raft", LIVE_WITHIN, LIVE_WITHIN), Ok(()));
        let stuck = judge("Raft", LIVE_WITHIN + Duration::from_secs(1), LIVE_WITHIN).unwrap_err();
        assert_eq!(stuck, "Raft has not answered for 61 s: it is stuck; restart this process");
    }

    fn impatient() -> Liveness {
        Liveness {
            within: Duration::from_millis(200),
            asked_every: Duration::from_millis(5),
            ..Liveness::of("the keeper")
        }
    }

    async fn wait_for(check: &Check, alive: bool) {
        let seen = async {
            while (check.run)().is_ok() != alive {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the judgement follows the answers");
    }

    #[tokio::test]
    async fn an_answer_is_life_again_and_a_question_that_hangs_is_silence() {
        let (liveness, answers) = (impatient(), Arc::new(AtomicBool::new(false)));
        let check = liveness.check();
        let asked = answers.clone();
        let following = tokio::spawn(liveness.follow(move || {
            let answers = asked.load(Ordering::Relaxed);
            async move { answers }
        }));
        assert_eq!((check.run)(), Ok(()), "it has time for its first answer");
        wait_for(&check, false).await;
        answers.store(true, Ordering::Relaxed);
        wait_for(&check, true).await;
        following.abort();

        let liveness = impatient();
        let check = liveness.check();
        let following = tokio::spawn(liveness.follow(std::future::pending::<bool>));
        wait_for(&check, false).await;
        following.abort();
    }
}
