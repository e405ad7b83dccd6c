//! Which sessions are good enough to be had, or to be left for. Pure.

use super::dial::Live;
use crate::router::candidates::Known;

/// Which sessions are good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Any at all.
    Any,
    /// With a member of the held list; and one that sees a leader, when the session that is to be left does.
    Member {
        /// Whether the present one sees a leader.
        led: bool,
    },
    /// With a controller that sees a leader, which the present one does not.
    Leader,
}

/// What matters of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether the held list names it.
    pub(super) member: bool,
    /// Whether it is of another cluster than the router.
    pub(super) foreign: bool,
    /// Whether it is in contact with a leader.
    pub(super) sees_leader: bool,
}

impl Standing {
    pub(super) fn of(live: &Live, known: &Known) -> Self {
        let speaker = &live.speaker;
        Self {
            member: speaker.id.is_some_and(|id| known.is_member(speaker.cluster, id)),
            foreign: known.is_foreign(speaker.cluster),
            sees_leader: live.sees_leader,
        }
    }
}

impl Wanted {
    /// Whether this one will do. None is left for one that is no better.
    pub(super) const fn accepts(self, found: Standing) -> bool {
        match self {
            Self::Any => true,
            Self::Member { led } => found.member && (found.sees_leader || !led),
            Self::Leader => found.sees_leader && !found.foreign,
        }
    }

    /// Whether a member is looked for.
    pub(super) const fn is_member(self) -> bool {
        matches!(self, Self::Member { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_is_left_for_one_that_is_no_better() {
        let standing = |member, foreign, sees_leader| Standing { member, foreign, sees_leader };
        let (follower, cut_off) = (standing(true, false, true), standing(true, false, false));
        let (outsider, foreigner) = (standing(false, false, true), standing(false, true, true));
        for (wanted, accepted) in [
            (Wanted::Any, [true, true, true, true]),
            (Wanted::Member { led: true }, [true, false, false, false]),
            (Wanted::Member { led: false }, [true, true, false, false]),
            (Wanted::Leader, [true, false, true, false]),
        ] {
            let found = [follower, cut_off, outsider, foreigner];
            assert_eq!(found.map(|found| wanted.accepts(found)), accepted, "{wanted:?}");
        }
    }
}
