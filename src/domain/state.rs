//! The replicated state: what all applied log entries amount to. [`ClusterState::apply`] is the whole state machine.
//!
//! Deterministic: the same entries in the same order make equal states on every controller. Time comes from the entry
//! and never decreases, limits are constants of the feature level, and no map order is visible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::access::Standing;
use super::command::{
    Change, Command, CommandRefusal, LABEL_BYTES_MAX, Outcome, Registered, Registration, RegistrationRefusal,
};
use super::controller_list::{
    Applied, ClusterIdentity, ControllerList, Defect, KEY_BYTES_MAX, KEYS_PER_CONTROLLER_MAX, ListState,
};
use super::feature::{Announcement, FeatureLevel, SOFTWARE_VERSION_BYTES_MAX};
use super::ids::{BootId, ControllerId, RouterId};
use super::membership::Membership;
use super::negotiation::ProtocolRange;
use super::principal::Role;
use super::token::Tokens;

/// Most routers in a cluster.
pub const ROUTERS_MAX: usize = 1_000_000;
/// Most banned routers that a cluster remembers: a few MiB of ids in memory and in a snapshot.
pub const BANNED_ROUTERS_MAX: usize = 100_000;
/// How many earlier boots of a router are remembered, so that their delayed registrations are recognised.
pub const SUPERSEDED_BOOTS_MAX: usize = 8;

/// The sequence with which a router begins that has none on disk.
const FIRST_SEQUENCE: u64 = 1;

/// A place in the Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Raft term of the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
}

/// A membership together with the entry that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMembership {
    /// Where it stands in the log.
    pub position: LogPosition,
    /// Index of the membership entry before it.
    pub previous_log_index: Option<u64>,
    /// Voters and learners.
    pub membership: Membership,
}

/// What is known of a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterRecord {
    /// Its latest registration.
    pub registration: Registration,
    /// When it first registered: milliseconds since 1970, applied time.
    pub registered_ms: u64,
    /// When its registration last changed: milliseconds since 1970, applied time.
    pub updated_ms: u64,
    /// Boots before the current one, newest last; at most [`SUPERSEDED_BOOTS_MAX`].
    pub superseded_boots: Vec<BootId>,
}

/// The replicated state. Cloning is cheap enough for a snapshot: router records are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Last applied entry.
    pub applied: Option<LogPosition>,
    /// Applied time: milliseconds since 1970, the highest that any entry carried.
    pub time_ms: u64,
    /// Which cluster; `None` until its founding entry is applied.
    pub identity: Option<ClusterIdentity>,
    /// What the cluster may write; `None` until its founding entry is applied.
    pub level: Option<FeatureLevel>,
    /// Applied membership; `None` before the first membership entry. Unknown is not empty.
    pub membership: Option<AppliedMembership>,
    /// Every id that was ever committed. Never shrinks.
    pub used_ids: BTreeSet<ControllerId>,
    /// What the members' builds can read and write.
    pub announcements: BTreeMap<ControllerId, Announcement>,
    /// All routers.
    pub routers: BTreeMap<RouterId, Arc<RouterRecord>>,
    /// Routers that are refused; at most [`BANNED_ROUTERS_MAX`]. None of them is in `routers`.
    pub banned: BTreeSet<RouterId>,
    /// Join tokens: at most [`super::token::TOKENS_MAX`], expired ones included until the next is made.
    pub tokens: Tokens,
}

impl ClusterState {
    /// Applies a command. Entries come in log order, each once.
    pub fn apply(&mut self, position: LogPosition, command: &Command) -> Outcome {
        self.applied = Some(position);
        self.time_ms = self.time_ms.max(command.time_ms);
        match &command.change {
            Change::Found { identity, level } => self.found(*identity, *level),
            Change::Register(routers) => Outcome::Registered(routers.iter().map(|r| self.register(r)).collect()),
            Change::Forget(router) => Outcome::Forgotten { existed: self.routers.remove(router).is_some() },
            Change::Announce(announcement) => self.announce(announcement),
            Change::Ban(router) => self.ban(router),
            Change::Allow(router) => Outcome::Allowed { existed: self.banned.remove(router) },
            Change::CreateToken(token) => Outcome::TokenCreated(self.create_token(token)),
            Change::RedeemToken(redemption) => Outcome::TokenRedeemed(self.redeem_token(redemption)),
            Change::Raise(level) => self.raise(*level),
        }
    }

    /// Applies an entry without content, as a new leader writes one.
    pub fn apply_blank(&mut self, position: LogPosition) {
        self.applied = Some(position);
    }

    /// Applies a membership entry. The list follows from it: see [`ClusterState::list`].
    pub fn apply_membership(&mut self, position: LogPosition, membership: Membership) {
        self.applied = Some(position);
        self.used_ids.extend(membership.members().map(|member| member.id));
        self.announcements.retain(|id, _| membership.member(*id).is_some());
        let previous_log_index = self.membership.as_ref().map(|applied| applied.position.index);
        self.membership = Some(AppliedMembership { position, previous_log_index, membership });
    }

    /// The list that the applied membership stands for.
    ///
    /// # Errors
    /// As [`ControllerList::derive`].
    pub fn list(&self) -> Result<ListState, Defect> {
        let Some(applied) = &self.membership else { return Ok(ListState::Unknown) };
        ControllerList::derive(
            &applied.membership,
            Applied {
                identity: self.identity.as_ref(),
                term: applied.position.term,
                log_index: applied.position.index,
                used_ids: &self.used_ids,
                previous_log_index: applied.previous_log_index,
            },
        )
    }

    /// The router protocols that every member can serve, so that failover never changes a router's dialect. A member
    /// that has not announced yet is taken to be a build like this one.
    #[must_use]
    pub fn protocols(&self) -> ProtocolRange {
        // What was announced has something in common. What this build serves may not: then others serve the routers.
        let announced = self.announced_protocols(None).unwrap_or(ProtocolRange::SUPPORTED);
        announced.intersect(ProtocolRange::SUPPORTED).unwrap_or(announced)
    }

    /// What all announcements have in common, without that of one controller.
    fn announced_protocols(&self, without: Option<ControllerId>) -> Option<ProtocolRange> {
        let others = self.announcements.values().filter(|announced| Some(announced.controller) != without);
        // Kept non-empty by `judge_announcement`.
        others.map(|announced| announced.protocols).reduce(|all, one| all.intersect(one).unwrap_or(all))
    }

    /// What [`Change::Announce`] would say to this announcement now.
    ///
    /// # Errors
    /// [`CommandRefusal`] as it would come out of the log.
    pub fn judge_announcement(&self, announcement: &Announcement) -> Result<(), CommandRefusal> {
        let member = self.membership.as_ref().and_then(|m| m.membership.member(announcement.controller));
        if member.is_none_or(|member| member.incarnation != announcement.incarnation) {
            return Err(CommandRefusal::NotAMember);
        }
        if announcement.software_version.len() > SOFTWARE_VERSION_BYTES_MAX {
            return Err(CommandRefusal::VersionTooLong);
        }
        let others = self.announced_protocols(Some(announcement.controller));
        if others.is_some_and(|others| others.intersect(announcement.protocols).is_none()) {
            return Err(CommandRefusal::NoCommonProtocol);
        }
        // Builds of earlier levels do not know this rule, so it must not decide what they apply as well.
        match self.level.filter(|level| *level >= FeatureLevel::THREE && !announcement.reads(*level)) {
            Some(level) => {
                let Announcement { level_min: min, level_max: max, .. } = *announcement;
                Err(CommandRefusal::OutsideLevel { min, max, level })
            }
            None => Ok(()),
        }
    }

    /// What [`Change::Ban`] would say to this router now.
    ///
    /// # Errors
    /// [`CommandRefusal`].
    pub fn judge_ban(&self, router: &RouterId) -> Result<(), CommandRefusal> {
        if !self.all_read(FeatureLevel::TWO) {
            return Err(CommandRefusal::NotAllUpgraded);
        }
        let full = self.banned.len() >= BANNED_ROUTERS_MAX && !self.banned.contains(router);
        if full { Err(CommandRefusal::BansFull) } else { Ok(()) }
    }

    /// What this state has against somebody. It may only deny: whoever it does not know may be newer than it is.
    #[must_use]
    pub fn standing(&self, role: &Role) -> Standing {
        match role {
            Role::Controller(id) => {
                let Some(applied) = &self.membership else { return Standing::default() };
                let (member, used) = (applied.membership.member(*id).is_some(), self.used_ids.contains(id));
                Standing { retired: used && !member, joining: !used && !member, banned: false }
            }
            Role::Router(router) => Standing { banned: self.banned.contains(router), ..Standing::default() },
            Role::Admin(_) => Standing::default(),
        }
    }

    /// Whether somebody is believed who says that a controller, which has applied this state, was removed: a member is,
    /// and whoever says what this state says already.
    #[must_use]
    pub fn believes_removal(&self, own: Option<ControllerId>, by: ControllerId) -> bool {
        let member = |id| self.membership.as_ref().is_some_and(|applied| applied.membership.member(id).is_some());
        member(by) || own.is_none_or(|own| !member(own))
    }

    /// What [`Change::Register`] would say to this registration now. A leader asks before it proposes: a repeated,
    /// identical registration costs no log entry.
    ///
    /// # Errors
    /// [`RegistrationRefusal`] as it would come out of the log.
    pub fn judge(&self, registration: &Registration) -> Result<Registered, RegistrationRefusal> {
        self.judge_within(registration, ROUTERS_MAX)
    }

    /// The same, in a cluster that holds so many routers.
    pub(super) fn judge_within(
        &self,
        registration: &Registration,
        routers_max: usize,
    ) -> Result<Registered, RegistrationRefusal> {
        let router = || registration.router.clone();
        if self.banned.contains(&registration.router) {
            return Err(RegistrationRefusal::Banned { router: router() });
        }
        check_limits(registration)?;
        let Some(record) = self.routers.get(&registration.router) else {
            let full = self.routers.len() >= routers_max;
            return if full { Err(RegistrationRefusal::Full { limit: routers_max }) } else { Ok(Registered::New) };
        };
        let known = &record.registration;
        if record.superseded_boots.contains(&registration.boot) {
            return Err(RegistrationRefusal::Stale { router: router() });
        }
        // A router keeps its sequence on disk and goes on from it after a restart: another boot that is not beyond the
        // known one is an older boot whose registration was delayed. Only a fresh directory begins at 1 again.
        let restarted = known.boot != registration.boot && registration.sequence == FIRST_SEQUENCE;
        if restarted || known.sequence < registration.sequence {
            return Ok(Registered::Updated);
        }
        if known.boot != registration.boot {
            return Err(RegistrationRefusal::Stale { router: router() });
        }
        if known.sequence > registration.sequence {
            return Err(RegistrationRefusal::Stale { router: router() });
        }
        if known == registration {
            Ok(Registered::Unchanged)
        } else {
            Err(RegistrationRefusal::Conflict { router: router() })
        }
    }

    /// Whether every member's build reads this level. A member that has not announced yet is taken to be a build like
    /// this one.
    pub(super) fn all_read(&self, level: FeatureLevel) -> bool {
        self.level >= Some(level) || self.announcements.values().all(|announced| announced.level_max >= level)
    }

    /// Something of this level is applied: a build that cannot read it has no place here any more.
    pub(super) fn raise_to(&mut self, level: FeatureLevel) {
        self.level = self.level.map(|current| current.max(level));
    }

    fn found(&mut self, identity: ClusterIdentity, level: FeatureLevel) -> Outcome {
        if self.identity.is_some() {
            return Outcome::Refused(CommandRefusal::AlreadyFounded);
        }
        self.identity = Some(identity);
        self.level = Some(level);
        Outcome::Done
    }

    fn ban(&mut self, router: &RouterId) -> Outcome {
        if let Err(refusal) = self.judge_ban(router) {
            return Outcome::Refused(refusal);
        }
        self.raise_to(FeatureLevel::TWO);
        self.banned.insert(router.clone());
        // Else one that it still has would make it a certificate as soon as the ban is lifted.
        self.tokens.retain(|_, token| token.subject != *router);
        Outcome::Banned { existed: self.routers.remove(router).is_some() }
    }

    fn announce(&mut self, announcement: &Announcement) -> Outcome {
        if let Err(refusal) = self.judge_announcement(announcement) {
            return Outcome::Refused(refusal);
        }
        self.announcements.insert(announcement.controller, announcement.clone());
        Outcome::Done
    }

    fn register(&mut self, registration: &Registration) -> Result<Registered, RegistrationRefusal> {
        let registered = self.judge(registration)?;
        if registered == Registered::Unchanged {
            return Ok(registered);
        }
        let before = self.routers.get(&registration.router);
        let record = RouterRecord {
            registration: registration.clone(),
            registered_ms: before.map_or(self.time_ms, |record| record.registered_ms),
            updated_ms: self.time_ms,
            superseded_boots: before.map_or_else(Vec::new, |record| superseded(record, registration.boot)),
        };
        self.routers.insert(registration.router.clone(), Arc::new(record));
        Ok(registered)
    }
}

fn superseded(record: &RouterRecord, boot: BootId) -> Vec<BootId> {
    let mut boots = record.superseded_boots.clone();
    if record.registration.boot != boot {
        boots.push(record.registration.boot);
    }
    let excess = boots.len().saturating_sub(SUPERSEDED_BOOTS_MAX);
    boots.drain(..excess);
    boots
}

fn check_limits(registration: &Registration) -> Result<(), RegistrationRefusal> {
    let over = |what, limit| RegistrationRefusal::OverLimit { router: registration.router.clone(), what, limit };
    let label_bytes: usize = registration.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if label_bytes > LABEL_BYTES_MAX {
        return Err(over("the size of the labels", LABEL_BYTES_MAX));
    }
    if registration.keys.len() > KEYS_PER_CONTROLLER_MAX {
        return Err(over("the number of public keys", KEYS_PER_CONTROLLER_MAX));
    }
    if registration.keys.iter().any(|key| key.bytes.len() > KEY_BYTES_MAX) {
        return Err(over("the size of a public key", KEY_BYTES_MAX));
    }
    if registration.software_version.len() > SOFTWARE_VERSION_BYTES_MAX {
        return Err(over("the software version", SOFTWARE_VERSION_BYTES_MAX));
    }
    Ok(())
}
