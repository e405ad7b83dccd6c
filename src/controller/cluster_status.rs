//! The cluster as this controller sees it: membership and list from applied state, health from whoever answers now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backend::Backend;
use super::membership::next_id;
use crate::domain::ids::ControllerId;
use crate::domain::membership::Membership;
use crate::domain::state::{AppliedMembership, LogPosition};
use crate::proto::admin;
use crate::proto::relay::SessionsResponse;
use crate::raft::Status;
use crate::rpc::control_plane::ControlPlane;
use crate::rpc::convert::status::{self, MemberHealth};

/// A member that a leader has not heard for this long counts as down.
pub(super) const LIVE_WITHIN: Duration = Duration::from_secs(2);

impl Backend {
    /// The cluster as this controller sees it.
    pub(super) async fn cluster_status(&self) -> admin::StatusResponse {
        let raft = self.node().status().borrow().clone();
        let answers: BTreeMap<_, _> = self.ask_members(true, "").await.into_iter().collect();
        let me = self.node().me();
        let announced = |id: &ControllerId| {
            self.node().read(|state| state.announcements.get(id).map(|announced| announced.software_version.clone()))
        };
        let health = |id: ControllerId| {
            let mut health = if Some(id) == me.id { self.own_health(&raft) } else { health(&raft, id, &answers) };
            if health.software_version.is_empty() {
                health.software_version = announced(&id).unwrap_or_default();
            }
            health
        };
        let (membership, routers, level) = self
            .node()
            .read(|state| (state.membership.clone(), state.routers.len(), state.level.map_or(0, |level| level.get())));
        let membership = membership.map_or_else(Membership::default, |AppliedMembership { membership, .. }| membership);
        let healths: BTreeMap<_, _> = membership.members().map(|member| (member.id, health(member.id))).collect();
        let up: BTreeSet<_> = healths.iter().filter(|(_, health)| health.up == Some(true)).map(|(id, _)| *id).collect();
        let list = self.hub().newest().map(|newest| newest.held().list.version());
        let index = |position: Option<LogPosition>| position.map_or(0, |position| position.index);
        admin::StatusResponse {
            cluster_id: me.cluster.map(|(cluster, _)| cluster.to_bytes().to_vec()).unwrap_or_default(),
            epoch: me.cluster.map_or(0, |(_, epoch)| epoch.get()),
            list_index: list.map_or(0, |version| version.index),
            leader: self.leader().leader.map_or(0, ControllerId::get),
            term: raft.term,
            answered_by: me.id.map_or(0, ControllerId::get),
            failure_tolerance: u32::try_from(membership.failure_tolerance(&up)).unwrap_or(u32::MAX),
            feature_level: level,
            routers: routers as u64,
            members: healths
                .into_iter()
                .filter_map(|(id, health)| Some(status::member(membership.member(id)?, membership.role(id), health)))
                .collect(),
            voter_sets: status::voter_sets(&membership),
            committed_index: index(raft.committed),
            next_id: me.cluster.map_or(0, |_| self.node().read(next_id).get()),
        }
    }

    fn own_health(&self, raft: &Status) -> MemberHealth {
        let applied = raft.applied.map_or(0, |applied| applied.index);
        MemberHealth {
            up: Some(true),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            applied_index: applied,
            lag_entries: raft.last_log.unwrap_or(0).saturating_sub(applied),
            last_contact: Some(Duration::ZERO),
            sessions: self.hub().session_count() as u64,
        }
    }
}

fn health(raft: &Status, id: ControllerId, answers: &BTreeMap<ControllerId, Option<SessionsResponse>>) -> MemberHealth {
    let contact = raft.members.get(&id).and_then(|progress| progress.contact).map(|at| at.elapsed());
    let answer = answers.get(&id).and_then(Option::as_ref);
    let applied_index = answer.map_or(0, |answer| answer.applied_index);
    let behind = raft.last_log.unwrap_or(0).saturating_sub(applied_index);
    MemberHealth {
        up: Some(answer.is_some() || contact.is_some_and(|age| age <= LIVE_WITHIN)),
        software_version: answer.map(|answer| answer.software_version.clone()).unwrap_or_default(),
        applied_index,
        lag_entries: raft.lag_entries(id).unwrap_or(behind),
        last_contact: contact,
        sessions: answer.map_or(0, |answer| answer.count),
    }
}
