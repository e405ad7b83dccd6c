//! Waiting for a condition, with a deadline: the only way in which a demo waits.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, timeout_at};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks again and again until the condition holds; the last reason why it did not is the error.
///
/// # Errors
/// The last reason, after the deadline.
pub(crate) async fn until<T>(
    deadline: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    let mut last = anyhow::anyhow!("nothing was seen yet");
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(error)) => last = error,
            Err(_) => bail!("within {deadline:?}: {last:#}"),
        }
        if Instant::now() >= end {
            bail!("within {deadline:?}: {last:#}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_to_hold_is_seen_and_one_that_does_not_says_why() {
        let mut looks = 0;
        let seen = until(Duration::from_secs(5), async || {
            looks += 1;
            anyhow::ensure!(looks == 3, "only {looks}");
            Ok(looks)
        });
        assert_eq!(seen.await.unwrap(), 3);
        let error = until(Duration::from_millis(1), async || bail!("no leader") as anyhow::Result<()>).await;
        assert!(error.unwrap_err().to_string().contains("no leader"));
    }
}
