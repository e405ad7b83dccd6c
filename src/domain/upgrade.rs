//! Raising the feature level: whether it may be, what is in the way, and what it changes for routers.
//!
//! What the log knows decides ([`ClusterState::judge_raise`], once more while it is applied). What only the moment knows
//! (who answers, with which build, and with which state) is asked before anything is proposed ([`blockers`]).

use std::collections::BTreeMap;
use std::fmt;

use super::agreement::Agreement;
use super::command::{CommandRefusal, Outcome};
use super::feature::{Announcement, FeatureLevel};
use super::ids::ControllerId;
use super::negotiation::{ProtocolRange, ProtocolVersion};
use super::state::ClusterState;

/// What is seen of one member at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The build that answers; `None`: nobody does.
    pub runs: Option<Announcement>,
    /// What its state's hash says, compared with that of whoever looks.
    pub agreement: Agreement,
}

/// What is in the way of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// A change of membership is half done.
    JointChange,
    /// A member does not answer. What it will run when it comes back is not known.
    Down {
        /// Which one.
        controller: ControllerId,
    },
    /// A member runs a build that cannot read the level.
    CannotRead {
        /// Which one.
        controller: ControllerId,
        /// Version of its build.
        version: String,
        /// Oldest level that it reads.
        min: FeatureLevel,
        /// Newest level that it reads.
        max: FeatureLevel,
    },
    /// What a member runs is not in the log yet: the leader writes it there within seconds.
    NotAnnounced {
        /// Which one.
        controller: ControllerId,
        /// Version of the build that it runs.
        version: String,
    },
    /// A member's state is not that of whoever looked.
    StateDiffers {
        /// Which one.
        controller: ControllerId,
        /// At which log index.
        index: u64,
    },
    /// A member's state could not be compared yet.
    NotCompared {
        /// Which one.
        controller: ControllerId,
    },
}

impl Blocker {
    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::JointChange => "joint_change",
            Self::Down { .. } => "down",
            Self::CannotRead { .. } => "cannot_read",
            Self::NotAnnounced { .. } => "not_announced",
            Self::StateDiffers { .. } => "state_differs",
            Self::NotCompared { .. } => "not_compared",
        }
    }

    /// Whose it is, when it is one member's.
    #[must_use]
    pub const fn controller(&self) -> Option<ControllerId> {
        match self {
            Self::JointChange => None,
            Self::Down { controller }
            | Self::CannotRead { controller, .. }
            | Self::NotAnnounced { controller, .. }
            | Self::StateDiffers { controller, .. }
            | Self::NotCompared { controller } => Some(*controller),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::JointChange => "wait until it is done: `pilothouse cluster status` shows one voter set then",
            Self::Down { .. } => "start it, or take it out with `pilothouse cluster remove`",
            Self::CannotRead { .. } => "install the newer version there and start it again",
            Self::NotAnnounced { .. } => "wait a few seconds for the leader",
            Self::StateDiffers { .. } => {
                "do not finalize: one of the two is wrong; compare with the other members, remove the one that differs \
                 from a majority, wipe its data directory, and add it again under a new id"
            }
            Self::NotCompared { .. } => "it is compared again within seconds, once it has caught up",
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JointChange => f.write_str("a membership change is under way"),
            Self::Down { controller } => write!(f, "controller {controller} does not answer"),
            Self::CannotRead { controller, version, min, max } => {
                write!(f, "controller {controller} runs {version}, which reads feature levels {min} to {max}")
            }
            Self::NotAnnounced { controller, version } => {
                write!(f, "that controller {controller} runs {version} is not written down yet")
            }
            Self::StateDiffers { controller, index } => {
                write!(f, "the state of controller {controller} differs at log index {index}")
            }
            Self::NotCompared { controller } => write!(f, "the state of controller {controller} is not compared yet"),
        }
    }
}

/// Everything that is in the way of this level, at most one thing for each member. A member that is not among those seen
/// does not answer.
#[must_use]
pub fn blockers(state: &ClusterState, level: FeatureLevel, seen: &BTreeMap<ControllerId, Sight>) -> Vec<Blocker> {
    let Some(applied) = &state.membership else { return Vec::new() };
    let joint = applied.membership.is_joint().then_some(Blocker::JointChange);
    let of_member = |controller| {
        let sight = seen.get(&controller).filter(|sight| sight.runs.is_some());
        let Some(Sight { runs: Some(runs), agreement }) = sight else { return Some(Blocker::Down { controller }) };
        let version = || runs.software_version.clone();
        if !runs.reads(level.raised_by()) {
            let (min, max) = (runs.level_min, runs.level_max);
            return Some(Blocker::CannotRead { controller, version: version(), min, max });
        }
        if state.announcements.get(&controller) != Some(runs) {
            return Some(Blocker::NotAnnounced { controller, version: version() });
        }
        match agreement {
            Agreement::Equal { .. } => None,
            Agreement::Differs { index } => Some(Blocker::StateDiffers { controller, index: *index }),
            Agreement::Unknown => Some(Blocker::NotCompared { controller }),
        }
    };
    joint.into_iter().chain(applied.membership.members().filter_map(|member| of_member(member.id))).collect()
}

/// The level to which an upgrade leads: the newest that any member's build can write.
#[must_use]
pub fn newest(state: &ClusterState, seen: &BTreeMap<ControllerId, Sight>) -> FeatureLevel {
    let running = seen.values().filter_map(|sight| sight.runs.as_ref());
    let known = state.announcements.values().chain(running).map(|build| build.level_max);
    known.chain(state.level).max().unwrap_or(FeatureLevel::ONE)
}

/// Why a controller is not taken in: its build does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It cannot read what the cluster writes, or the cluster not what it writes.
    #[error(
        "its build, {version}, reads feature levels {min} to {max}; this cluster writes level {level}, and its controllers \
         read {from} to {to}"
    )]
    Level {
        /// Version of its build.
        version: String,
        /// Oldest level that it reads.
        min: FeatureLevel,
        /// Newest level that it reads.
        max: FeatureLevel,
        /// What the cluster writes.
        level: FeatureLevel,
        /// Oldest level that all members read.
        from: FeatureLevel,
        /// Newest level that all members read.
        to: FeatureLevel,
    },
    /// With it the cluster would serve fewer protocols, and routers would lose their dialect.
    #[error("its build, {version}, serves router protocols {serves}; this cluster serves {served}")]
    Protocols {
        /// Version of its build.
        version: String,
        /// What it serves.
        serves: ProtocolRange,
        /// What the cluster serves.
        served: ProtocolRange,
    },
}

impl Misfit {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Level { level, .. } => format!("install a version that reads level {level}"),
            Self::Protocols { .. } => "install a neighbouring version".to_owned(),
        }
    }
}

/// What becomes of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterEffect {
    /// It has no protocol in common with the cluster any more.
    Refused,
    /// It is spoken to in another protocol.
    Dialect {
        /// Before.
        from: ProtocolVersion,
        /// From then on.
        to: ProtocolVersion,
    },
}

/// What becomes of a router that speaks these protocols when the cluster serves others; `None`: nothing.
#[must_use]
pub fn router_effect(speaks: ProtocolRange, now: ProtocolRange, then: ProtocolRange) -> Option<RouterEffect> {
    let Some(to) = then.intersect(speaks) else { return Some(RouterEffect::Refused) };
    let from = now.intersect(speaks)?;
    (from.max() != to.max()).then_some(RouterEffect::Dialect { from: from.max(), to: to.max() })
}

impl ClusterState {
    /// The router protocols that the cluster serves once every member runs a build of this level: what those serve that
    /// do, and this build for the rest.
    #[must_use]
    pub fn protocols_at(&self, level: FeatureLevel) -> ProtocolRange {
        let upgraded = self.announcements.values().filter(|announced| announced.reads(level));
        let served = upgraded.map(|announced| announced.protocols);
        served.fold(ProtocolRange::SUPPORTED, |all, one| all.intersect(one).unwrap_or(all))
    }

    /// Whether a controller of this build may become a member: it reads what the cluster writes, and serves all that the
    /// cluster serves.
    ///
    /// # Errors
    /// [`Misfit`], with both sides' ranges.
    pub fn judge_build(&self, build: &Announcement) -> Result<(), Misfit> {
        let version = || build.software_version.clone();
        if let Some(level) = self.level.filter(|level| !build.reads(*level)) {
            let (min, max) = (build.level_min, build.level_max);
            let members = || self.announcements.values();
            let from = members().map(|member| member.level_min).max().unwrap_or(level);
            let to = members().map(|member| member.level_max).min().unwrap_or(level);
            return Err(Misfit::Level { version: version(), min, max, level, from, to });
        }
        let (serves, served) = (build.protocols, self.protocols());
        if !serves.covers(served) {
            return Err(Misfit::Protocols { version: version(), serves, served });
        }
        Ok(())
    }

    /// What [`Change::Raise`](super::command::Change::Raise) would say to this level now: what the cluster may write then.
    ///
    /// # Errors
    /// [`CommandRefusal`] as it would come out of the log.
    pub fn judge_raise(&self, level: FeatureLevel) -> Result<FeatureLevel, CommandRefusal> {
        let (Some(current), Some(applied)) = (self.level, &self.membership) else {
            return Err(CommandRefusal::NoLevel { level });
        };
        if current >= level {
            return Ok(current);
        }
        // Here nobody is taken to be a build like this one: a member that has said nothing may be any.
        let needed = level.raised_by();
        let unread = |id: &ControllerId| !self.announcements.get(id).is_some_and(|announced| announced.reads(needed));
        match applied.membership.members().map(|member| member.id).find(unread) {
            Some(controller) => Err(CommandRefusal::CannotRead { controller, level: needed }),
            None => Ok(level),
        }
    }

    pub(super) fn raise(&mut self, level: FeatureLevel) -> Outcome {
        match self.judge_raise(level) {
            Ok(level) => {
                self.raise_to(level);
                Outcome::Raised(level)
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }
}
