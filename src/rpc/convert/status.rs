//! What operators are shown of members and routers, to the wire.

use std::time::Duration;

use crate::domain::controller_list::{HeldVersion, Role};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::RouterId;
use crate::domain::membership::{Member, Membership};
use crate::domain::state::RouterRecord;
use crate::proto::{admin, relay};
use crate::rpc::list_codec::held_from_wire;
use crate::rpc::session::LiveSession;

/// What is known of a member at the moment, beside its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberHealth {
    /// Whether it answers; `None` when nobody asked.
    pub up: Option<bool>,
    /// Version of its build; empty when not known.
    pub software_version: String,
    /// Its last applied index.
    pub applied_index: u64,
    /// How far it is behind the leader's log.
    pub lag_entries: u64,
    /// How long ago it was heard.
    pub last_contact: Option<Duration>,
    /// Its live router sessions.
    pub sessions: u64,
}

/// A member's line in `cluster status`.
#[must_use]
pub fn member(member: &Member, role: Role, health: MemberHealth) -> admin::MemberStatus {
    let texts = |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect();
    let state = match health.up {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    };
    admin::MemberStatus {
        id: member.id.get(),
        name: member.name.to_string(),
        role: role.to_string(),
        state: state.to_owned(),
        software_version: health.software_version,
        applied_index: health.applied_index,
        lag_entries: health.lag_entries,
        last_contact_ms: health.last_contact.map(millis),
        peer: texts(&member.peer),
        router: texts(&member.router),
        admin: texts(&member.admin),
        sessions: health.sessions,
    }
}

/// Raft's voter sets.
#[must_use]
pub fn voter_sets(membership: &Membership) -> Vec<admin::VoterSet> {
    let ids = |set: &std::collections::BTreeSet<crate::domain::ids::ControllerId>| admin::VoterSet {
        ids: set.iter().map(|id| id.get()).collect(),
    };
    membership.voter_sets().iter().map(ids).collect()
}

/// A session, as one controller tells another.
#[must_use]
pub fn live_session(live: &LiveSession) -> relay::LiveSession {
    let facts = live.facts();
    relay::LiveSession {
        router_id: live.router.to_string(),
        protocol: live.protocol.get(),
        held: facts.held.map(Into::into),
        last_heard_ms: millis(facts.heard.elapsed()),
        software_version: live.software_version.clone(),
        source: facts.source,
        reached_controllers: facts.reached,
        last_refusal: facts.last_refusal,
    }
}

/// A router's line in `routers list`: its registration, where there is one, its live sessions by controller, and
/// whether it is banned.
#[must_use]
pub fn router(
    id: &RouterId,
    record: Option<&RouterRecord>,
    sessions: &[(u64, relay::LiveSession)],
    current: impl Fn(&HeldVersion) -> bool,
    banned: bool,
) -> admin::RouterStatus {
    let latest = sessions.iter().map(|(_, session)| session).min_by_key(|session| session.last_heard_ms);
    let held = latest.and_then(|session| session.held.as_ref()).and_then(held_from_wire);
    let registered_version = || record.map(|record| record.registration.software_version.clone()).unwrap_or_default();
    let refusal = sessions.iter().map(|(_, session)| &session.last_refusal).find(|refusal| !refusal.is_empty());
    admin::RouterStatus {
        id: id.to_string(),
        software_version: latest.map_or_else(registered_version, |session| session.software_version.clone()),
        protocol: latest.map_or(0, |session| session.protocol),
        held: held.map(|held| held.version.to_string()).unwrap_or_default(),
        current: held.as_ref().is_some_and(current),
        controllers: sessions.iter().map(|(controller, _)| *controller).collect(),
        last_heard_ms: latest.map(|session| session.last_heard_ms),
        labels: record.map(|record| record.registration.labels.clone()).unwrap_or_default(),
        registered_ms: record.map_or(0, |record| record.registered_ms),
        updated_ms: record.map_or(0, |record| record.updated_ms),
        source: latest.map(|session| session.source.clone()).unwrap_or_default(),
        reached_controllers: latest.map(|session| session.reached_controllers.clone()).unwrap_or_default(),
        last_refusal: refusal.cloned().unwrap_or_default(),
        registered: record.is_some(),
        banned,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
