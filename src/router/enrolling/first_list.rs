//! The first list of a router that was just enrolled: the agent itself runs until it holds one that is on the disk.
//!
//! There is no second way to a list: what is adopted here was judged and saved as ever after.

use std::time::Duration;

use crate::ops::events::Event;
use crate::router::agent::{Agent, AgentError, Parts};
use crate::router::config::RouterConfig;
use crate::router::status::{AgentStatus, HeldStatus, SessionState, SessionStatus};

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum FirstListError {
    /// The agent does not start.
    #[error(transparent)]
    Start(#[from] AgentError),
    /// Nobody gave one.
    #[error("no controller gave a list within {} s{why}", within.as_secs())]
    Late {
        /// How long it was tried.
        within: Duration,
        /// What was heard meanwhile.
        why: String,
    },
}

/// Runs the router until it has a session and a list on its disk, at most for this long.
///
/// # Errors
/// [`FirstListError`].
pub async fn first_list(config: RouterConfig, within: Duration) -> Result<HeldStatus, FirstListError> {
    let quiet = RouterConfig { http: None, output: Default::default(), alerts: None, ..config };
    let agent = Agent::start(quiet, Parts::default()).await?;
    let mut status = agent.status();
    let settling = status.wait_for(|status| settled(status).is_some());
    let held = match tokio::time::timeout(within, settling).await {
        Ok(Ok(status)) => settled(&status).cloned(),
        Ok(Err(_)) | Err(_) => None,
    };
    let refused: Vec<_> = agent.events().kept().iter().filter_map(|kept| refusal(&kept.event)).collect();
    agent.stop().await;
    held.ok_or_else(|| {
        let why = refused.last().map_or_else(String::new, |refusal| format!(" that this router takes: {refusal}"));
        FirstListError::Late { within, why }
    })
}

/// The list in use, when it is on the disk and a controller of its cluster serves this router.
fn settled(status: &AgentStatus) -> Option<&HeldStatus> {
    let serves = |session: &SessionStatus| !session.foreign && session.state != SessionState::Connecting;
    status.held.as_ref().filter(|_| status.saved && status.sessions.iter().any(serves))
}

fn refusal(event: &Event) -> Option<String> {
    match event {
        Event::OfferRefused { hint, .. } => Some(format!("{event}; {hint}")),
        Event::NotSaved { message } => Some(message.clone()),
        _ => None,
    }
}
