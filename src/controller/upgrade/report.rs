//! What operators are shown of an upgrade: builds, what is in the way, and, for a plan, what it does to routers and
//! whether every member can write it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::{Backend, members};
use crate::controller::relay;
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;
use crate::domain::membership::Member;
use crate::domain::negotiation::ProtocolRange;
use crate::domain::state::ClusterState;
use crate::domain::upgrade::{RouterEffect, blockers, newest, router_effect};
use crate::proto::admin;
use crate::rpc::control_plane::ControlPlane;
use crate::rpc::convert::upgrade as wire;

/// Most kinds of routers that are listed, the most frequent ones.
const ROUTER_BUILDS_MAX: usize = 50;
/// Most routers that a plan names; it counts all.
const AFFECTED_ROUTERS_MAX: usize = 100;
/// Longest wait for one member's trial: it writes and reads a whole state.
const TRIAL_WITHIN: Duration = Duration::from_secs(30);

impl Backend {
    /// As this controller sees it.
    pub(in crate::controller) async fn upgrade_report(&self, request: admin::UpgradeRequest) -> admin::UpgradeResponse {
        let seen = self.sights().await;
        // Its records are shared, so it is small; counting a million of them must not hold up what is applied.
        let state = self.node().read(ClusterState::clone);
        let level = FeatureLevel::new(request.level).unwrap_or_else(|| newest(&state, &seen));
        let build = |member: &Member| wire::build(member, state.announcements.get(&member.id), seen.get(&member.id));
        let done = state.level >= Some(level);
        let in_the_way = if done { Vec::new() } else { blockers(&state, level, &seen) };
        let plan = if request.plan { Some(self.plan_of(&state, level).await) } else { None };
        admin::UpgradeResponse {
            feature_level: state.level.map_or(0, FeatureLevel::get),
            target: level.get(),
            answered_by: self.node().me().id.map_or(0, ControllerId::get),
            leader: self.leader().leader.map_or(0, ControllerId::get),
            builds: members(&state).iter().map(build).collect(),
            blockers: in_the_way.iter().map(wire::blocker).collect(),
            router_builds: router_builds(&state),
            soak_ms: self.soak.needed_ms(),
            soaked_ms: self.soak.so_far_ms(level),
            plan,
        }
    }

    async fn plan_of(&self, state: &ClusterState, level: FeatureLevel) -> admin::UpgradePlan {
        let (now, then) = (state.protocols(), state.protocols_at(level));
        let mut plan = affected(state, now, then);
        let me = self.node().me().id;
        let try_on = |id: ControllerId| async move {
            let answer = if Some(id) == me {
                Ok(self.try_level(level).await)
            } else {
                relay::try_level(self.node(), id, level, TRIAL_WITHIN).await
            };
            match answer {
                Ok(answer) => admin::Trial { id: id.get(), bytes: answer.bytes, failure: answer.failure },
                Err(status) if status.code() == tonic::Code::Unimplemented => {
                    let failure = "its version knows no upgrades yet".to_owned();
                    admin::Trial { id: id.get(), bytes: 0, failure }
                }
                Err(status) => admin::Trial { id: id.get(), bytes: 0, failure: status.message().to_owned() },
            }
        };
        plan.trials = join_all(members(state).into_iter().map(|member| try_on(member.id))).await;
        plan
    }
}

fn router_builds(state: &ClusterState) -> Vec<admin::RouterBuilds> {
    let mut counts: BTreeMap<(&str, u32, u32), u64> = BTreeMap::new();
    for record in state.routers.values() {
        let (version, speaks) = (record.registration.software_version.as_str(), record.registration.protocols);
        *counts.entry((version, speaks.min().get(), speaks.max().get())).or_default() += 1;
    }
    let kind = |((version, protocol_min, protocol_max), count): ((&str, u32, u32), u64)| admin::RouterBuilds {
        software_version: version.to_owned(),
        protocol_min,
        protocol_max,
        count,
    };
    let mut kinds: Vec<_> = counts.into_iter().map(kind).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
    kinds.truncate(ROUTER_BUILDS_MAX);
    kinds
}

/// What becomes of the registered routers when the cluster serves other protocols.
fn affected(state: &ClusterState, now: ProtocolRange, then: ProtocolRange) -> admin::UpgradePlan {
    let mut plan = admin::UpgradePlan {
        protocol_min: now.min().get(),
        protocol_max: now.max().get(),
        protocol_min_then: then.min().get(),
        protocol_max_then: then.max().get(),
        ..admin::UpgradePlan::default()
    };
    for (id, record) in &state.routers {
        let Some(effect) = router_effect(record.registration.protocols, now, then) else { continue };
        match effect {
            RouterEffect::Refused => plan.refused += 1,
            RouterEffect::Dialect { .. } => plan.changed += 1,
        }
        if plan.routers.len() < AFFECTED_ROUTERS_MAX {
            plan.routers.push(wire::affected(id, &record.registration.software_version, effect));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::command::Registration;
    use crate::domain::ids::{BootId, RouterId};
    use crate::domain::negotiation::ProtocolVersion;
    use crate::domain::state::RouterRecord;

    fn range(min: u32, max: u32) -> ProtocolRange {
        ProtocolRange::new(ProtocolVersion::new(min).unwrap(), ProtocolVersion::new(max).unwrap()).unwrap()
    }

    fn state(routers: impl IntoIterator<Item = (&'static str, ProtocolRange)>) -> ClusterState {
        let record = |number: usize, version: &str, protocols| {
            let router = RouterId::new(format!("edge-{number:03}")).unwrap();
            let registration = Registration {
                router: router.clone(),
                boot: BootId::from_u128(1),
                sequence: 1,
                software_version: version.to_owned(),
                protocols,
                labels: BTreeMap::new(),
                keys: vec![],
            };
            let record = RouterRecord { registration, registered_ms: 1, updated_ms: 1, superseded_boots: vec![] };
            (router, Arc::new(record))
        };
        let records =
            routers.into_iter().enumerate().map(|(number, (version, speaks))| record(number, version, speaks));
        ClusterState { routers: records.collect(), ..ClusterState::default() }
    }

    #[test]
    fn a_plan_counts_every_router_that_notices_and_names_the_first() {
        let state = state([("1", range(1, 1)), ("2", range(1, 2)), ("3", range(1, 3)), ("3", range(1, 3))]);
        let plan = affected(&state, range(1, 2), range(2, 3));
        assert_eq!((plan.refused, plan.changed), (1, 2));
        let named: Vec<_> = plan.routers.iter().map(|router| (router.id.as_str(), router.from, router.to)).collect();
        assert_eq!(named, [("edge-000", 0, 0), ("edge-002", 2, 3), ("edge-003", 2, 3)]);
        assert_eq!((plan.protocol_min, plan.protocol_max_then), (1, 3));
    }

    #[test]
    fn what_is_listed_is_bounded_and_what_is_counted_is_not() {
        let state = state((0..AFFECTED_ROUTERS_MAX + 7).map(|_| ("1", range(1, 1))));
        let plan = affected(&state, range(1, 2), range(2, 2));
        assert_eq!((plan.routers.len(), plan.refused), (AFFECTED_ROUTERS_MAX, AFFECTED_ROUTERS_MAX as u64 + 7));
    }

    #[test]
    fn routers_are_counted_by_kind_the_most_frequent_first() {
        let state = state([("1", range(1, 1)), ("2", range(1, 2)), ("2", range(1, 2))]);
        let kinds = router_builds(&state);
        let kinds: Vec<_> = kinds.iter().map(|kind| (kind.software_version.as_str(), kind.count)).collect();
        assert_eq!(kinds, [("2", 2), ("1", 1)]);
    }
}
