//! Whom to try, and in which order: the held list, the reserve, the previous generation, hints, and the seeds last.
//!
//! Pure: who is in use, who failed before and which numbers were drawn are arguments. A router that follows this order
//! for ever is never stranded while any controller that it ever knew is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::generations::Reserved;
use crate::domain::controller_list::ControllerList;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId};

/// Where a candidate is known from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The list in use.
    Held,
    /// Held since the last contact with a member of the newest list.
    Reserve,
    /// The list before it.
    Previous,
    /// Addresses that protocol 1 offers added.
    Hints,
    /// The router's own configuration.
    Seeds,
}

impl Tier {
    /// Stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Reserve => "reserve",
            Self::Previous => "previous",
            Self::Hints => "hints",
            Self::Seeds => "seeds",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything that a router knows about where controllers are.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The cluster that the router belongs to; `None` before the first list.
    pub cluster: Option<ClusterId>,
    /// The list in use.
    pub list: Option<Arc<ControllerList>>,
    /// Held since the last contact with a member of the newest list; the newest last.
    pub reserve: Vec<Reserved>,
    /// The list before it.
    pub previous: Option<Arc<ControllerList>>,
    /// Addresses that protocol 1 offers added.
    pub hints: BTreeSet<Endpoint>,
    /// The router's own configuration.
    pub seeds: Vec<Endpoint>,
    /// Controllers that were removed from the cluster.
    pub retired: BTreeSet<ControllerId>,
}

/// What the other sessions do, and what happened before.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Controllers that another session is on, or tries.
    pub busy: BTreeSet<ControllerId>,
    /// Endpoints that another session is on, or tries.
    pub busy_endpoints: BTreeSet<Endpoint>,
    /// Who answered at an endpoint that no list names.
    pub aliases: BTreeMap<Endpoint, ControllerId>,
    /// How often in a row an endpoint failed.
    pub failures: BTreeMap<Endpoint, u32>,
}

/// An endpoint to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub endpoint: Endpoint,
    /// Who should answer there, where that is known.
    pub controller: Option<ControllerId>,
    /// Where it is known from.
    pub tier: Tier,
}

impl Known {
    /// Whether the list in use names this controller of this cluster.
    #[must_use]
    pub fn is_member(&self, cluster: Option<ClusterId>, id: ControllerId) -> bool {
        let names = |list: &Arc<ControllerList>| cluster == Some(list.identity().cluster) && list.get(id).is_some();
        self.list.as_ref().is_some_and(names)
    }

    /// Whether this is another cluster than the one that the router belongs to.
    #[must_use]
    pub fn is_foreign(&self, cluster: Option<ClusterId>) -> bool {
        self.cluster.is_some_and(|ours| cluster.is_some_and(|theirs| theirs != ours))
    }

    /// All candidates, best first: by tier; within one those that failed least, then by their controller's own order of
    /// preference, then at random. No controller that another session uses, no endpoint twice.
    pub fn candidates(&self, now: &Circumstances, mut random: impl FnMut() -> u32) -> Vec<Candidate> {
        let mut seen = BTreeSet::new();
        let mut ranked: Vec<_> = self
            .all()
            .filter(|(candidate, _)| !now.uses(candidate) && seen.insert(candidate.endpoint.clone()))
            .map(|(candidate, rank)| {
                let failures = now.failures.get(&candidate.endpoint).copied().unwrap_or(0);
                ((candidate.tier, failures, rank, random()), candidate)
            })
            .collect();
        ranked.sort_by_key(|(order, _)| *order);
        ranked.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// Every candidate with its rank among its controller's endpoints, best tier first.
    fn all(&self) -> impl Iterator<Item = (Candidate, usize)> + '_ {
        let listed = |tier, list: &Option<Arc<ControllerList>>| {
            let of = |list: &Arc<ControllerList>| -> Vec<_> {
                list.controllers().iter().flat_map(|c| ranked(tier, c.id, &c.endpoints)).collect()
            };
            list.as_ref().map(of).unwrap_or_default()
        };
        let reserve = self.reserve.iter().flat_map(|c| ranked(Tier::Reserve, c.id, &c.endpoints));
        let alive = |(candidate, _): &(Candidate, usize)| {
            candidate.controller.is_none_or(|controller| !self.retired.contains(&controller))
        };
        let anonymous = |tier| {
            move |endpoint: &Endpoint| {
                (Candidate { endpoint: endpoint.clone(), controller: self.owner(endpoint), tier }, 0)
            }
        };
        listed(Tier::Held, &self.list)
            .into_iter()
            .chain(reserve)
            .chain(listed(Tier::Previous, &self.previous))
            .filter(alive)
            .chain(self.hints.iter().map(anonymous(Tier::Hints)))
            .chain(self.seeds.iter().map(anonymous(Tier::Seeds)))
    }

    /// Who answers at an endpoint, as far as the list in use says.
    fn owner(&self, endpoint: &Endpoint) -> Option<ControllerId> {
        self.list.as_ref()?.controllers().iter().find(|c| c.endpoints.contains(endpoint)).map(|c| c.id)
    }
}

fn ranked(tier: Tier, id: ControllerId, endpoints: &[Endpoint]) -> impl Iterator<Item = (Candidate, usize)> {
    endpoints
        .iter()
        .enumerate()
        .map(move |(rank, endpoint)| (Candidate { endpoint: endpoint.clone(), controller: Some(id), tier }, rank))
}

impl Circumstances {
    fn uses(&self, candidate: &Candidate) -> bool {
        self.busy_endpoints.contains(&candidate.endpoint)
            || candidate.controller.is_some_and(|controller| self.busy.contains(&controller))
            || self.aliases.get(&candidate.endpoint).is_some_and(|controller| self.busy.contains(controller))
    }
}

#[cfg(test)]
mod tests;
