//! What a router says of itself: a snapshot for its HTTP API, its library users and its heartbeats. Plain values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::candidates::Tier;
use super::generations::Reserved;
use crate::domain::acceptance::HeldList;
use crate::domain::controller_list::{ControllerList, ListVersion};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId, RouterId};

/// Where the list in use came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The newest saved list, or one that was adopted since the start.
    Newest,
    /// The one before it: the newest could not be used.
    Previous,
    /// None is held: only the configured seeds are known.
    Seeds,
}

impl Source {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Newest, Self::Previous, Self::Seeds];

    /// Stable name, in metrics and heartbeats.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Previous => "previous",
            Self::Seeds => "seeds",
        }
    }
}

/// A router at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct AgentStatus {
    /// Its id.
    pub router: RouterId,
    /// Version of its build.
    pub software_version: &'static str,
    /// Where the list in use came from.
    pub source: Source,
    /// The list in use; `None` before the first one.
    pub held: Option<HeldStatus>,
    /// Whether the list in use is on the disk.
    pub saved: bool,
    /// The cluster that it belongs to.
    pub cluster: Option<ClusterId>,
    /// Nothing older than this is adopted.
    pub floor: Option<ListVersion>,
    /// Its sessions, the active one first.
    pub sessions: Vec<SessionStatus>,
    /// What became of the offered lists.
    pub offers: OfferCounts,
    /// Controllers to fall back to.
    pub reserve: Vec<Reserved>,
    /// Addresses that protocol 1 offers added.
    pub hints: usize,
    /// Whether the cluster acknowledged this router's registration since its start.
    pub registered: bool,
}

/// The list in use, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldStatus {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which version.
    pub version: ListVersion,
    /// As in logs: `epoch.index`.
    pub version_text: String,
    /// First bytes of the digest, as in logs.
    pub digest: String,
    /// Whom it names.
    pub controllers: Vec<ControllerId>,
}

impl HeldStatus {
    /// Of a list.
    #[must_use]
    pub fn of(held: &HeldList) -> Self {
        let list: &ControllerList = &held.list;
        Self {
            cluster: list.identity().cluster,
            version: list.version(),
            version_text: list.version().to_string(),
            digest: held.digest.to_string(),
            controllers: list.controllers().iter().map(|controller| controller.id).collect(),
        }
    }
}

/// What became of the offered lists since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OfferCounts {
    /// Replaced the held list.
    pub adopted: u64,
    /// Added hints (protocol 1).
    pub merged: u64,
    /// Said what was held already.
    pub unchanged: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionStatus {
    /// Where it is, or tries to be.
    pub endpoint: Endpoint,
    /// Who answers there; `None` until it said so.
    pub controller: Option<ControllerId>,
    /// Whether it is of another cluster than the router's: then nothing of it is of use.
    pub foreign: bool,
    /// Where the controller is known from.
    pub known_from: Tier,
    /// How far it got.
    pub state: SessionState,
}

/// How far a session got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// The one that the router leans on.
    Active,
    /// Open, for the moment when the active one ends.
    Warm,
    /// On its way.
    Connecting,
}

impl AgentStatus {
    /// Of a router that has not read anything yet.
    #[must_use]
    pub fn blank(router: RouterId) -> Self {
        Self {
            router,
            software_version: super::SOFTWARE_VERSION,
            source: Source::Seeds,
            held: None,
            saved: true,
            cluster: None,
            floor: None,
            sessions: Vec::new(),
            offers: OfferCounts::default(),
            reserve: Vec::new(),
            hints: 0,
            registered: false,
        }
    }

    /// The controllers with which it has a session.
    pub fn reached(&self) -> impl Iterator<Item = ControllerId> {
        let open = |session: &&SessionStatus| session.state != SessionState::Connecting;
        self.sessions.iter().filter(open).filter_map(|session| session.controller)
    }
}
