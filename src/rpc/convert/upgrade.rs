//! Upgrades on the wire: hashes of states, builds, what is in the way, and what becomes of routers.

use crate::domain::agreement::{Agreement, Checkpoint, Checkpoints, StateHash};
use crate::domain::feature::Announcement;
use crate::domain::ids::RouterId;
use crate::domain::membership::Member;
use crate::domain::state::LogPosition;
use crate::domain::upgrade::{Blocker, RouterEffect, Sight};
use crate::proto::{admin, relay};

/// Hashes of one controller's state, for another one.
#[must_use]
pub fn checkpoints(kept: &Checkpoints) -> relay::CheckpointsResponse {
    let wire = |kept: &Checkpoint| relay::Checkpoint {
        term: kept.position.term,
        index: kept.position.index,
        scheme: kept.hash.scheme,
        sha256: kept.hash.sha256.to_vec(),
    };
    relay::CheckpointsResponse { checkpoints: kept.since(None).map(wire).collect() }
}

/// Hashes that another controller sent. One that is none counts as a place that was not hashed.
#[must_use]
pub fn checkpoints_from_wire(answer: relay::CheckpointsResponse) -> Checkpoints {
    let hashed = |wire: relay::Checkpoint| {
        let position = LogPosition { term: wire.term, index: wire.index };
        Some(Checkpoint { position, hash: StateHash { scheme: wire.scheme, sha256: wire.sha256.try_into().ok()? } })
    };
    answer.checkpoints.into_iter().filter_map(hashed).collect()
}

/// A member's build, as it answers, or else as it was announced.
#[must_use]
pub fn build(member: &Member, announced: Option<&Announcement>, sight: Option<&Sight>) -> admin::Build {
    let running = sight.and_then(|sight| sight.runs.as_ref());
    let (state, compared_at) = match sight.map_or(Agreement::Unknown, |sight| sight.agreement) {
        Agreement::Equal { index } => ("equal", index),
        Agreement::Differs { index } => ("differs", index),
        Agreement::Unknown => ("unknown", 0),
    };
    let known = running.or(announced);
    admin::Build {
        id: member.id.get(),
        name: member.name.to_string(),
        software_version: known.map(|build| build.software_version.clone()).unwrap_or_default(),
        running: running.is_some(),
        level_min: known.map_or(0, |build| build.level_min.get()),
        level_max: known.map_or(0, |build| build.level_max.get()),
        protocol_min: known.map_or(0, |build| build.protocols.min().get()),
        protocol_max: known.map_or(0, |build| build.protocols.max().get()),
        state: state.to_owned(),
        compared_at,
    }
}

/// What is in the way of a level.
#[must_use]
pub fn blocker(blocker: &Blocker) -> admin::Blocker {
    admin::Blocker {
        reason: blocker.code().to_owned(),
        controller: blocker.controller().map_or(0, |controller| controller.get()),
        message: blocker.to_string(),
        hint: blocker.hint().to_owned(),
    }
}

/// What becomes of a router.
#[must_use]
pub fn affected(id: &RouterId, software_version: &str, effect: RouterEffect) -> admin::AffectedRouter {
    let (from, to) = match effect {
        RouterEffect::Refused => (0, 0),
        RouterEffect::Dialect { from, to } => (from.get(), to.get()),
    };
    admin::AffectedRouter { id: id.to_string(), software_version: software_version.to_owned(), from, to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_survive_their_way_and_what_is_none_is_left_out() {
        let at = |index| Checkpoint {
            position: LogPosition { term: 2, index },
            hash: StateHash { scheme: 1, sha256: [index as u8; 32] },
        };
        let kept: Checkpoints = [at(3), at(9)].into_iter().collect();
        let mut wire = checkpoints(&kept);
        assert_eq!(checkpoints_from_wire(wire.clone()), kept);
        wire.checkpoints[0].sha256.pop();
        assert_eq!(checkpoints_from_wire(wire), [at(9)].into_iter().collect());
    }
}
