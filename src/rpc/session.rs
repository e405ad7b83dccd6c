//! A router's live session, as the services and the hub share it: who it is, what it holds, when it was last heard.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::domain::controller_list::HeldVersion;
use crate::domain::ids::{BootId, RouterId};
use crate::domain::negotiation::ProtocolVersion;

/// Most controllers that a router may name as reached: as many as a list holds.
pub const REACHED_MAX: usize = crate::domain::controller_list::CONTROLLERS_MAX;
/// A session that was told that its controller stops stays open this long, so that its router can have another one
/// before it lets go of this one. It fits into a stop of 8 s.
pub const STAYS_AFTER_GOODBYE: Duration = Duration::from_secs(1);
/// A router that says nothing for so many heartbeats is gone, or stuck: it loses its seat.
pub const MISSED_HEARTBEATS_MAX: u32 = 20;
/// Longest text that is kept of what a router says of itself, in characters.
pub const TEXT_CHARS_MAX: usize = 200;

/// One router's live stream on this controller.
#[derive(Debug)]
pub struct LiveSession {
    /// Whose.
    pub router: RouterId,
    /// Which start of its process; `None` when it did not say.
    pub boot: Option<BootId>,
    /// Version of its build.
    pub software_version: String,
    /// What was agreed.
    pub protocol: ProtocolVersion,
    facts: Mutex<Facts>,
    ending: watch::Sender<Option<Farewell>>,
}

/// What changes while a session lives.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the router holds, as it last said.
    pub held: Option<HeldVersion>,
    /// When it was last heard.
    pub heard: Instant,
    /// Where its list came from.
    pub source: String,
    /// Controllers that it has reached.
    pub reached: Vec<u64>,
    /// Reason of its last refusal; empty: none since the last acknowledgement.
    pub last_refusal: String,
}

/// Why a session ends, as the router is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// A newer session of the same router took its place.
    Superseded,
    /// The controller stops; sessions leave one by one within this time.
    Draining {
        /// Over how long the leaving is spread.
        spread: Duration,
    },
    /// The controller was removed from the cluster.
    NotMember,
    /// The router was banned.
    Banned,
}

impl LiveSession {
    /// A session that was just heard for the first time.
    #[must_use]
    pub fn new(
        router: RouterId,
        boot: Option<BootId>,
        software_version: &str,
        protocol: ProtocolVersion,
        held: Option<HeldVersion>,
    ) -> Self {
        let facts = Facts {
            held,
            heard: Instant::now(),
            source: String::new(),
            reached: Vec::new(),
            last_refusal: String::new(),
        };
        let software_version = excerpt(software_version);
        Self { router, boot, software_version, protocol, facts: facts.into(), ending: watch::Sender::new(None) }
    }

    /// What is known now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// The router was heard, and says this.
    pub fn hear(&self, update: impl FnOnce(&mut Facts)) {
        let mut facts = self.lock();
        facts.heard = Instant::now();
        update(&mut facts);
    }

    /// How long the router has said nothing.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.lock().heard.elapsed()
    }

    /// Ends this session with a farewell. Whether nothing had ended it before: the first farewell is the one that is said.
    pub fn end(&self, farewell: Farewell) -> bool {
        self.ending.send_if_modified(|ending| ending.is_none() && ending.replace(farewell).is_none())
    }

    /// Why this session ends, once it has to, whatever becomes of the others.
    #[must_use]
    pub fn ending(&self) -> watch::Receiver<Option<Farewell>> {
        self.ending.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a text that came from outside.
#[must_use]
pub fn excerpt(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
