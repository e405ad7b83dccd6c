//! Two live routers with one id, on different controllers: the one that registered last stays.
//!
//! Registrations are what all controllers see. Each looks among its own sessions for those of an earlier start of the
//! router's process; within one controller the hub knows without them.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use crate::domain::state::ClusterState;
use crate::rpc::session::LiveSession;

/// At most this often all sessions are compared with the registrations.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Sessions that are compared in one go: applying waits meanwhile.
const SESSIONS_PER_READ: usize = 256;

/// Ends sessions that an applied registration made outdated, for ever.
pub(super) async fn follow_registrations(backend: Arc<Backend>) {
    let mut status = backend.node().status();
    let mut seen = None;
    loop {
        let applied = status.borrow_and_update().applied;
        if applied != seen {
            seen = applied;
            backend.end_outdated();
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Whether a session's router has registered from a later start of its process.
pub(super) fn is_outdated(state: &ClusterState, session: &LiveSession) -> bool {
    let record = state.routers.get(&session.router);
    session.boot.zip(record).is_some_and(|(boot, record)| record.superseded_boots.contains(&boot))
}

impl Backend {
    fn end_outdated(&self) {
        for some in self.hub().sessions().chunks(SESSIONS_PER_READ) {
            let outdated: Vec<_> =
                self.node().read(|state| some.iter().filter(|session| is_outdated(state, session)).cloned().collect());
            outdated.iter().for_each(|session| self.hub().outdated(session));
        }
    }
}
