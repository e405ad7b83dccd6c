//! How a controller stops: unready, leadership away, sessions away, ports closed, Raft stopped and flushed; in this
//! order, each step within its time, and all of them within [`STOP_WITHIN`]. Each step says that it is done.

use std::time::Duration;

use super::Running;

/// Longest stop: whoever stops a controller may kill it after that.
pub const STOP_WITHIN: Duration = Duration::from_secs(8);
/// Longest wait for a successor: an election takes less.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(1_500);
/// Sessions get this long to leave after the last farewell was said: a little more than they stay by themselves.
const LEAVE_WITHIN: Duration = Duration::from_millis(1_250);
/// Longest wait for Raft to stop and to flush: what Raft gets for itself, and time for one sync of the log.
const RAFT_STOPS_WITHIN: Duration = Duration::from_millis(2_500);

impl Running {
    /// Stops within [`STOP_WITHIN`].
    pub async fn stop(mut self) {
        self.unready();
        self.hand_over().await;
        self.drain().await;
        self.close_ports().await;
        self.stop_raft().await;
        self.services.stop_peers().await;
        tracing::info!("stopped");
    }

    fn unready(&self) {
        self.backend.stop_taking();
        tracing::info!("stopping: not ready any more");
    }

    async fn hand_over(&self) {
        let leads = self.backend.node().status().borrow().leads();
        let Some(to) = self.backend.successor().filter(|_| leads) else { return };
        match tokio::time::timeout(HAND_OVER_WITHIN, self.backend.node().hand_over(to)).await {
            Ok(Ok(())) => tracing::info!(%to, "stopping: leadership handed over"),
            Ok(Err(error)) => tracing::warn!(%to, %error, "stopping: leadership was not handed over"),
            Err(_) => tracing::warn!(%to, "stopping: leadership was not handed over in time"),
        }
    }

    async fn drain(&self) {
        let spread = self.backend.hub().drain();
        if tokio::time::timeout(spread + LEAVE_WITHIN, self.backend.hub().emptied()).await.is_err() {
            tracing::info!(sessions = self.backend.hub().session_count(), "stopping: sessions did not leave in time");
        }
        tracing::info!("stopping: sessions drained");
    }

    async fn close_ports(&mut self) {
        self.services.stop_outside().await;
        tracing::info!("stopping: ports of routers and operators closed");
    }

    async fn stop_raft(&self) {
        self.tasks.stop();
        if tokio::time::timeout(RAFT_STOPS_WITHIN, self.backend.node().shutdown()).await.is_err() {
            tracing::warn!("stopping: Raft did not stop in time; what was acknowledged is on disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::hub::FAREWELL_SPREAD_MAX;
    use crate::controller::services::CLOSE_WITHIN;
    use crate::raft::RAFT_ENDS_MS_MAX;
    use crate::rpc::session::STAYS_AFTER_GOODBYE;

    #[test]
    fn the_longest_stop_is_within_its_time() {
        // The ports of routers and operators first, the peer port at the end.
        let closing = CLOSE_WITHIN * 2;
        let longest = HAND_OVER_WITHIN + FAREWELL_SPREAD_MAX + LEAVE_WITHIN + closing + RAFT_STOPS_WITHIN;
        assert!(longest < STOP_WITHIN, "{longest:?}");
    }

    #[test]
    fn what_waits_for_something_waits_longer_than_it_takes() {
        assert!(LEAVE_WITHIN > STAYS_AFTER_GOODBYE);
        let flush = Duration::from_millis(500);
        assert!(RAFT_STOPS_WITHIN >= Duration::from_millis(RAFT_ENDS_MS_MAX) + flush, "the log is flushed after it");
    }
}
