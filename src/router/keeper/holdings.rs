//! What a router holds, and how adopting, merging and hearing from controllers changes it. Pure.

use super::{Answer, Speaker};
use crate::domain::acceptance::{Held, HeldList};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId};
use crate::router::candidates::Known;
use crate::router::generations::{Generation, Loaded, RESERVE_MAX, Reserved, Trust};
use crate::router::status::Source;

/// Everything that a router holds.
#[derive(Debug, Clone)]
pub struct Holdings {
    /// As the judge of offers sees it.
    pub held: Held,
    /// The list in use, with its bytes.
    pub current: Option<Generation>,
    /// The list before it.
    pub previous: Option<HeldList>,
    /// Whom the router belongs to, and what it does not go behind.
    pub trust: Trust,
    /// Every controller that it held since it last had contact with a member of the newest list; the newest last.
    pub reserve: Vec<Reserved>,
    /// Where the list in use came from.
    pub source: Source,
    /// The controllers of the configuration.
    pub seeds: Vec<Endpoint>,
}

impl Holdings {
    /// The best of what a data directory held.
    #[must_use]
    pub fn from_loaded(loaded: Loaded, seeds: Vec<Endpoint>) -> Self {
        let (source, current, previous) = match (loaded.current, loaded.previous) {
            (Some(current), previous) => (Source::Newest, Some(current), previous),
            (None, Some(previous)) => (Source::Previous, Some(previous), None),
            (None, None) => (Source::Seeds, None, None),
        };
        let held = Held {
            cluster: loaded.trust.cluster,
            floor: loaded.trust.floor,
            list: current.as_ref().map(|current| current.held.clone()),
            ..Held::default()
        };
        let previous = previous.map(|previous| previous.held);
        Self { held, current, previous, trust: loaded.trust, reserve: loaded.reserve, source, seeds }
    }

    /// These holdings, unless what was held earlier in this process is newer: a disk that lags behind takes no router
    /// back. Also returns whether it lags.
    #[must_use]
    pub fn resumed(mut self, earlier: Option<&Self>) -> (Self, bool) {
        let Some(earlier) = earlier else { return (self, false) };
        // Meanwhile the operator may have made the router belong to another cluster.
        if self.trust.cluster.is_some_and(|now| earlier.trust.cluster != Some(now)) {
            return (self, false);
        }
        let version = |holdings: &Self| holdings.held.list.as_ref().map(|held| held.list.version());
        let floor = |holdings: &Self| holdings.trust.floor.map(|floor| floor.version);
        if version(&self) < version(earlier) {
            return (earlier.clone(), true);
        }
        let lags = floor(&self) < floor(earlier);
        if lags {
            (self.trust.floor, self.held.floor) = (earlier.trust.floor, earlier.trust.floor);
        }
        (self, lags)
    }

    /// Holds this list from now on. What it replaces goes into the reserve, except for what it says is retired.
    pub fn adopt(&mut self, generation: Generation) {
        self.trust.raise(&generation);
        let replaced = self.held.list.replace(generation.held.clone());
        for controller in replaced.iter().flat_map(|replaced| replaced.list.controllers()) {
            self.reserve.retain(|reserved| reserved.id != controller.id || reserved.endpoints != controller.endpoints);
            self.reserve.push(Reserved { id: controller.id, endpoints: controller.endpoints.clone() });
        }
        self.reserve.retain(|reserved| !self.trust.retired.contains(&reserved.id));
        let excess = self.reserve.len().saturating_sub(RESERVE_MAX);
        self.reserve.drain(..excess);
        self.held.cluster = self.trust.cluster;
        self.held.floor = self.trust.floor;
        self.held.hints.clear();
        self.previous = replaced.or(self.previous.take());
        self.current = Some(generation);
        self.source = Source::Newest;
    }

    /// Somebody was heard. Contact with a member of the newest list, where that list says it is, clears the reserve:
    /// the list has proved itself. Returns whether it did.
    pub fn contact(&mut self, from: &Speaker) -> bool {
        let member = from.id.filter(|id| self.is_member(from.cluster, *id));
        let member = member.and_then(|id| self.held.list.as_ref()?.list.get(id));
        let proved = member.is_some_and(|member| member.endpoints.contains(&from.endpoint));
        let clears = proved && self.source == Source::Newest && !self.reserve.is_empty();
        if clears {
            self.reserve.clear();
        }
        clears
    }

    /// Whether somebody whom the newest list names was heard: whatever the router fell back to, it needs no more.
    #[must_use]
    pub fn is_confirmed_by(&self, from: &Speaker) -> bool {
        self.source == Source::Newest && from.id.is_some_and(|id| self.is_member(from.cluster, id))
    }

    /// Whether the list in use names this controller of this cluster.
    #[must_use]
    pub fn is_member(&self, cluster: Option<ClusterId>, id: ControllerId) -> bool {
        let list = self.held.list.as_ref().map(|held| &held.list);
        list.is_some_and(|list| cluster == Some(list.identity().cluster) && list.get(id).is_some())
    }

    /// What sessions choose from.
    #[must_use]
    pub fn known(&self) -> Known {
        Known {
            cluster: self.trust.cluster,
            list: self.held.list.as_ref().map(|held| held.list.clone()),
            reserve: self.reserve.clone(),
            previous: self.previous.as_ref().map(|previous| previous.list.clone()),
            hints: self.held.hints.clone(),
            seeds: self.seeds.clone(),
            retired: self.trust.retired.clone(),
        }
    }

    /// The acknowledgement of what is held.
    pub(super) fn acknowledged(&self) -> Answer {
        let held = self.held.list.as_ref().expect("only called when a structured list is held");
        Answer::Ack { version: Some(held.list.version()), digest: held.digest }
    }

    /// For log lines.
    pub(super) fn version_text(&self) -> String {
        self.held.list.as_ref().map_or_else(|| "none".into(), |held| held.list.version().to_string())
    }
}
