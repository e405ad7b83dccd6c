//! What can be seen of a demo from outside, as plain values: the cluster as its controllers report it, and each router
//! as it reports itself. Made from the answers of public interfaces, compared and judged by pure functions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::proto::admin::{RouterStatus, StatusResponse};

/// The cluster, as the admin service reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClusterView {
    /// Who leads.
    pub(crate) leader: Option<u64>,
    /// The version of the committed list, as `EPOCH.INDEX`.
    pub(crate) list: Option<String>,
    /// How many controllers may fail.
    pub(crate) tolerance: u32,
    /// Its members by id.
    pub(crate) members: BTreeMap<u64, MemberView>,
    /// Whether a change of membership is half done.
    pub(crate) joint: bool,
    /// Its routers by id.
    pub(crate) routers: BTreeMap<String, RouterView>,
}

/// A member, as the admin service reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberView {
    pub(crate) name: String,
    pub(crate) voter: bool,
    pub(crate) up: bool,
    /// Of its software; empty: not known.
    pub(crate) version: String,
    pub(crate) lag_entries: u64,
}

/// A router, as the admin service reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouterView {
    pub(crate) registered: bool,
    /// The version that it acknowledged; empty: none.
    pub(crate) held: String,
    /// Where it has sessions.
    pub(crate) controllers: BTreeSet<u64>,
    /// Why it refused last; empty: it did not.
    pub(crate) last_refusal: String,
}

impl ClusterView {
    /// From the answers of the admin service.
    pub(crate) fn new(status: &StatusResponse, routers: &[RouterStatus]) -> Self {
        let member = |m: &crate::proto::admin::MemberStatus| MemberView {
            name: m.name.clone(),
            voter: m.role == "voter",
            up: m.state == "up",
            version: m.software_version.clone(),
            lag_entries: m.lag_entries,
        };
        let router = |r: &RouterStatus| RouterView {
            registered: r.registered,
            held: r.held.clone(),
            controllers: r.controllers.iter().copied().collect(),
            last_refusal: r.last_refusal.clone(),
        };
        Self {
            leader: Some(status.leader).filter(|id| *id != 0),
            list: (status.list_index != 0).then(|| format!("{}.{}", status.epoch, status.list_index)),
            tolerance: status.failure_tolerance,
            members: status.members.iter().map(|m| (m.id, member(m))).collect(),
            joint: status.voter_sets.len() > 1,
            routers: routers.iter().map(|r| (r.id.clone(), router(r))).collect(),
        }
    }

    /// How many members vote.
    pub(crate) fn voters(&self) -> usize {
        self.members.values().filter(|member| member.voter).count()
    }

    /// The name of a member.
    pub(crate) fn name(&self, id: u64) -> String {
        self.members.get(&id).map_or_else(|| format!("controller {id}"), |member| member.name.clone())
    }
}

/// A router, as its own HTTP API reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct RouterSelf {
    /// Where the list in use came from: `newest`, `previous` or `seeds`.
    pub(crate) source: String,
    /// The list in use.
    pub(crate) held: Option<HeldSelf>,
    /// Its sessions.
    pub(crate) sessions: Vec<SessionSelf>,
    /// What became of the offered lists since its start.
    pub(crate) offers: Offers,
}

/// A list, as a router reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct HeldSelf {
    /// As `EPOCH.INDEX`.
    pub(crate) version_text: String,
    /// Ids.
    pub(crate) controllers: BTreeSet<u64>,
}

/// A session, as a router reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SessionSelf {
    /// Who answers there.
    pub(crate) controller: Option<u64>,
    /// `active`, `warm` or `connecting`.
    pub(crate) state: String,
}

/// What became of offered lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Offers {
    pub(crate) adopted: u64,
    pub(crate) merged: u64,
    pub(crate) unchanged: u64,
    /// By reason.
    pub(crate) refused: BTreeMap<String, u64>,
}

impl Offers {
    /// All offers together.
    pub(crate) fn offered(&self) -> u64 {
        self.adopted + self.merged + self.unchanged + self.refused()
    }

    /// All refused ones.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// These and others.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.adopted += other.adopted;
        self.merged += other.merged;
        self.unchanged += other.unchanged;
        for (reason, count) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
        self
    }
}

impl RouterSelf {
    /// The version in use; empty when it holds none.
    pub(crate) fn version(&self) -> &str {
        self.held.as_ref().map_or("", |held| &held.version_text)
    }

    /// With whom it has sessions.
    pub(crate) fn reached(&self) -> BTreeSet<u64> {
        let open = self.sessions.iter().filter(|session| session.state != "connecting");
        open.filter_map(|session| session.controller).collect()
    }
}
