//! Banned routers: what operators decide about them, and the end of their sessions on this controller.
//!
//! Who is banned is replicated, so each controller ends its own sessions as soon as it has applied a ban. Connections,
//! which may outlive a session, are for the ports to close: they follow [`Backend::standings`] too.

use std::sync::Arc;

use tokio::sync::watch;

use super::backend::Backend;
use crate::domain::access::Standing;
use crate::domain::ids::RouterId;
use crate::domain::principal::Role;
use crate::rpc::control_plane::NotServing;
use crate::rpc::session::Farewell;

/// Sessions that are compared in one go: applying waits meanwhile.
const SESSIONS_PER_READ: usize = 256;

/// Ends the sessions of routers that were banned, for ever.
pub(super) async fn follow_bans(backend: Arc<Backend>) {
    let mut standings = backend.standings();
    loop {
        standings.borrow_and_update();
        backend.end_banned();
        if standings.changed().await.is_err() {
            return;
        }
    }
}

impl Backend {
    /// Rises whenever what was applied here may have changed who is retired or banned: whoever keeps something of
    /// somebody then asks [`Backend::standing_of`] again.
    #[must_use]
    pub fn standings(&self) -> watch::Receiver<u64> {
        self.node().standings()
    }

    /// What the state that is applied here has against somebody.
    #[must_use]
    pub fn standing_of(&self, role: &Role) -> Standing {
        self.node().read(|state| state.standing(role))
    }

    pub(super) fn check_ban(&self, router: &RouterId) -> Result<(), NotServing> {
        if self.node().read(|state| state.banned.contains(router)) { Err(NotServing::Banned) } else { Ok(()) }
    }

    pub(super) async fn until_banned(&self, router: &RouterId) {
        let mut standings = self.standings();
        if standings.wait_for(|_| self.check_ban(router).is_err()).await.is_err() {
            // The node is gone: nobody is banned any more.
            std::future::pending::<()>().await;
        }
    }

    fn end_banned(&self) {
        if self.node().read(|state| state.banned.is_empty()) {
            return;
        }
        for some in self.hub().sessions().chunks(SESSIONS_PER_READ) {
            let banned: Vec<_> = self
                .node()
                .read(|state| some.iter().filter(|session| state.banned.contains(&session.router)).cloned().collect());
            for session in banned {
                if session.end(Farewell::Banned) {
                    tracing::info!(router = %session.router, "end the session of a banned router");
                }
            }
        }
    }
}
