//! What the two sides of a session say, between wire and domain.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{InvalidRequest, registration};
use crate::domain::controller_list::{Digest, HeldVersion};
use crate::domain::ids::{BootId, RouterId};
use crate::domain::negotiation::{Agreed, Dialect, Incompatible, ProtocolRange, ProtocolVersion};
use crate::proto::router as wire;
use crate::proto::router::controller_message::Kind;
use crate::rpc::control_plane::{LeaderSight, NotServing, Standing};
use crate::rpc::list_codec::held_from_wire;
use crate::rpc::session::{Facts, Farewell, LiveSession, REACHED_MAX, excerpt};
use crate::rpc::status::{not_serving_hint, not_serving_reason};

/// When a router that was refused because of a passing state should try again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// When a banned router should try again: its ban is lifted by a person.
const BANNED_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Most capabilities that are looked at.
const CAPABILITIES_MAX: usize = 64;
/// Longest name of one, in bytes.
const CAPABILITY_BYTES_MAX: usize = 64;

/// A hello that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Who says it.
    pub router: RouterId,
    /// Which start of its process; `None` when it does not say, as routers of protocol 1.
    pub boot: Option<BootId>,
    /// Version of its build.
    pub software_version: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// What it holds.
    pub held: Option<HeldVersion>,
}

/// Checks a hello. A hello without any version is one of protocol 1.
///
/// # Errors
/// [`InvalidRequest`].
pub fn opening(hello: wire::Hello) -> Result<Opening, InvalidRequest> {
    Ok(Opening {
        router: RouterId::new(hello.router_id)?,
        boot: BootId::from_slice(&hello.boot_id),
        software_version: excerpt(&hello.software_version),
        dialect: Dialect {
            protocols: registration::protocols(hello.protocol_min, hello.protocol_max)?,
            capabilities: hello.capabilities.into_iter().take(CAPABILITIES_MAX).collect::<BTreeSet<_>>(),
            needs: needs(hello.required_capabilities)?,
        },
        held: hello.held.as_ref().and_then(held_from_wire),
    })
}

/// What is left out of these would not be refused, so too many are an error.
fn needs(names: Vec<String>) -> Result<BTreeSet<String>, InvalidRequest> {
    if names.len() > CAPABILITIES_MAX || names.iter().any(|name| name.len() > CAPABILITY_BYTES_MAX) {
        return Err(InvalidRequest::Capabilities);
    }
    Ok(names.into_iter().collect())
}

/// The session begins.
#[must_use]
pub fn welcome(standing: &Standing, agreed: &Agreed, leader: LeaderSight, heartbeat: Duration) -> Kind {
    Kind::Welcome(wire::Welcome {
        protocol: agreed.protocol.get(),
        capabilities: agreed.capabilities.iter().cloned().collect(),
        cluster_id: standing.cluster.to_bytes().to_vec(),
        controller_id: standing.me.get(),
        leader_hint: leader.leader.map_or(0, crate::domain::ids::ControllerId::get),
        heartbeat_ms: millis(heartbeat),
    })
}

/// What both sides have, and what to do.
#[must_use]
pub fn incompatible(why: &Incompatible, served: ProtocolRange) -> Kind {
    let refused = refused(why.code(), why.to_string(), why.hint(), Some(served));
    Kind::Refused(match why {
        Incompatible::Protocol { theirs, .. } => {
            wire::Refused { offered_min: theirs.min().get(), offered_max: theirs.max().get(), ..refused }
        }
        Incompatible::Capability { missing, ours } => {
            let (missing, ours) = (missing.iter().cloned().collect(), ours.iter().cloned().collect());
            wire::Refused { missing_capabilities: missing, capabilities: ours, ..refused }
        }
    })
}

/// An unusable hello.
#[must_use]
pub fn invalid(why: &str, hint: &str) -> Kind {
    Kind::Refused(refused("invalid", why.to_owned(), hint, None))
}

/// No hello in time.
#[must_use]
pub fn hello_missing(waited: Duration) -> Kind {
    let message = format!("no hello came within {} s", waited.as_secs());
    Kind::Refused(refused("no_hello", message, "send Hello as the first message of a session", None))
}

/// Nobody is served here now.
#[must_use]
pub fn not_serving(why: NotServing) -> Kind {
    let mut refused = refused(not_serving_reason(why), why.to_string(), not_serving_hint(why), None);
    refused.retry_after_ms = millis(if why == NotServing::Banned { BANNED_RETRY_AFTER } else { RETRY_AFTER });
    Kind::Refused(refused)
}

fn refused(reason: &str, message: String, hint: &str, ours: Option<ProtocolRange>) -> wire::Refused {
    let ours = ours.unwrap_or(ProtocolRange::SUPPORTED);
    wire::Refused {
        reason: reason.to_owned(),
        message,
        hint: hint.to_owned(),
        supported_min: ours.min().get(),
        supported_max: ours.max().get(),
        ..wire::Refused::default()
    }
}

/// The session ends, and the router is told why.
#[must_use]
pub fn goodbye(farewell: Farewell) -> Kind {
    let (reason, hint, retry_after) = match farewell {
        Farewell::Superseded => {
            ("superseded", "if this repeats, two routers use one id: give each its own", Duration::ZERO)
        }
        Farewell::Draining { .. } => ("draining", "this controller stops: use another one", RETRY_AFTER),
        Farewell::NotMember => ("not_member", "this controller was removed: use another one", Duration::ZERO),
        Farewell::Banned => ("banned", not_serving_hint(NotServing::Banned), BANNED_RETRY_AFTER),
    };
    Kind::Goodbye(wire::Goodbye {
        reason: reason.to_owned(),
        hint: hint.to_owned(),
        retry_after_ms: millis(retry_after),
    })
}

/// What a controller says at every heartbeat.
#[must_use]
pub fn heartbeat(digest: Option<Digest>, leader: LeaderSight) -> Kind {
    let age = leader.contact_age.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    Kind::Heartbeat(wire::ControllerHeartbeat {
        digest: digest.map(Into::into),
        leader_contact_age_ms: age,
        leader_hint: leader.leader.map_or(0, crate::domain::ids::ControllerId::get),
    })
}

/// Takes over what a router's heartbeat says.
pub fn hear_heartbeat(live: &LiveSession, heartbeat: wire::RouterHeartbeat) {
    let held = heartbeat.held.as_ref().and_then(held_from_wire);
    let versioned = live.protocol >= ProtocolVersion::STRUCTURED;
    live.hear(|facts: &mut Facts| {
        // An absent version says that it holds nothing, which is news too; but not of one that knows no versions.
        if versioned || held.is_some() {
            facts.held = held;
        }
        facts.source = excerpt(&heartbeat.source);
        facts.reached = heartbeat.reached_controllers.into_iter().take(REACHED_MAX).collect();
    });
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
