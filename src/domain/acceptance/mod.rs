//! May this offered list replace the held one? The router's rule, and the controller's before it sends.
//!
//! The order of the checks is the order of section 7 of the design: decodes and within limits; not empty, every
//! controller reachable, everything unique; same cluster; not below the floor; no conflict; from a member while any
//! member answers; then adopt. It does not know who keeps the held list or where.

mod refusal;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use self::refusal::{LATE_WITHIN, Refusal};
use super::controller_list::{ControllerList, Defect, Digest, HeldVersion, LIST_BYTES_MAX, ListVersion, OfferedList};
use super::endpoint::Endpoint;
use super::ids::{ClusterId, ControllerId, RecoveryId};
#[doc(hidden)]
pub use super::samples::offer_refusals as samples;

/// Most addresses in the hint set that protocol 1 offers fill: as many as a list has controllers.
pub const HINTS_MAX: usize = 64;

/// The highest version that was ever adopted. Outlives the list itself: kept in a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Nothing below this is taken.
    pub version: ListVersion,
    /// Which recovery began the floor's epoch.
    pub recovery: Option<RecoveryId>,
    /// Digest of the list at the floor.
    pub digest: Digest,
}

/// What the judge of an offer already has.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The cluster that it belongs to; `None` before the first list, or after `router trust`.
    pub cluster: Option<ClusterId>,
    /// The highest version that was ever adopted.
    pub floor: Option<Floor>,
    /// The list in use.
    pub list: Option<HeldList>,
    /// Whether any member of the held list answers at the moment.
    pub member_answers: bool,
    /// Addresses that protocol 1 offers added.
    pub hints: BTreeSet<Endpoint>,
}

impl Held {
    /// What somebody has who adopted this list and never another.
    #[must_use]
    pub fn of(list: HeldList) -> Self {
        let cluster = Some(list.list.identity().cluster);
        Self { cluster, floor: Some(list.floor()), list: Some(list), ..Self::default() }
    }
}

/// A list together with the digest of the bytes that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldList {
    /// The list.
    pub list: Arc<ControllerList>,
    /// Digest over its canonical bytes.
    pub digest: Digest,
}

impl HeldList {
    /// The floor that adopting this list sets.
    #[must_use]
    pub fn floor(&self) -> Floor {
        Floor { version: self.list.version(), recovery: self.list.identity().recovery, digest: self.digest }
    }

    /// Its name: cluster, version and digest.
    #[must_use]
    pub fn held_version(&self) -> HeldVersion {
        HeldVersion { cluster: self.list.identity().cluster, version: self.list.version(), digest: Some(self.digest) }
    }
}

/// Who offers a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offerer {
    /// A controller that identified itself.
    Controller(ControllerId),
    /// Whoever does not say, or our own controller before it sends.
    Unidentified,
}

impl fmt::Display for Offerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(id) => write!(f, "controller {id}"),
            Self::Unidentified => f.write_str("a sender that does not identify itself"),
        }
    }
}

/// An offered list: who offers it, and what was decoded.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Who offers it.
    pub from: Offerer,
    /// Size of the encoded list, in bytes.
    pub encoded_bytes: usize,
    /// What the bytes turned out to be.
    pub content: Content,
}

/// What the bytes of an offer turned out to be.
#[derive(Debug, Clone)]
pub enum Content {
    /// Not decodable.
    Undecodable {
        /// The decoder's words.
        detail: String,
    },
    /// Protocol 1: addresses without cluster, roles or ids.
    Flat {
        /// In the sender's order.
        addresses: Vec<String>,
    },
    /// Protocol 2: the structured list.
    Structured {
        /// As decoded.
        list: Box<OfferedList>,
        /// Computed here, over the bytes that came.
        computed: Digest,
        /// What the sender said that it is; `None` when it did not say.
        stated: Option<Digest>,
    },
}

/// What to do with an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Hold this list from now on.
    Adopt(HeldList),
    /// Keep the held list, and remember these addresses as hints (protocol 1).
    Merge(BTreeSet<Endpoint>),
    /// It says what is held already.
    Unchanged,
    /// Keep what is held; log, count, raise an event and answer NACK.
    Refuse(Refusal),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt(held) => write!(f, "adopt version {}", held.list.version()),
            Self::Merge(hints) => write!(f, "keep the held list and {} addresses as hints", hints.len()),
            Self::Unchanged => f.write_str("unchanged"),
            Self::Refuse(refusal) => write!(f, "refuse ({}): {refusal}", refusal.code()),
        }
    }
}

/// Judges an offer. Pure and idempotent: what it adopts it then finds unchanged.
#[must_use]
pub fn decide(held: &Held, offer: &Offer) -> Verdict {
    judge(held, offer).unwrap_or_else(Verdict::Refuse)
}

fn judge(held: &Held, offer: &Offer) -> Result<Verdict, Refusal> {
    if offer.encoded_bytes > LIST_BYTES_MAX {
        return Err(Refusal::Oversized { bytes: offer.encoded_bytes });
    }
    match &offer.content {
        Content::Undecodable { detail } => Err(Refusal::Undecodable { detail: detail.clone() }),
        Content::Flat { addresses } => merge(held, offer.from, addresses),
        Content::Structured { list, computed, stated } => {
            if stated.is_some_and(|stated| stated.same_content(computed) == Some(false)) {
                return Err(Refusal::DigestMismatch);
            }
            let list = Arc::new(ControllerList::try_from(OfferedList::clone(list))?);
            adopt(held, offer.from, HeldList { list, digest: *computed })
        }
    }
}

fn adopt(held: &Held, from: Offerer, offered: HeldList) -> Result<Verdict, Refusal> {
    let identity = offered.list.identity();
    if let Some(cluster) = held.cluster.filter(|cluster| *cluster != identity.cluster) {
        return Err(Refusal::ForeignCluster { held: cluster, offered: identity.cluster });
    }
    // A list of the cluster that was left behind by `router trust` says nothing about lists of the new one.
    let current = held.list.as_ref().filter(|current| current.list.identity().cluster == identity.cluster);
    // The held list is a floor of its own: the floor's file may have been lost, or be older.
    for floor in held.floor.into_iter().chain(current.map(HeldList::floor)) {
        check_floor(&floor, &offered)?;
    }
    if let Some(current) = current {
        if current.list.version() == offered.list.version() {
            return Ok(Verdict::Unchanged);
        }
        check_offerer(&current.list, held.member_answers, from)?;
    }
    Ok(Verdict::Adopt(offered))
}

fn check_floor(floor: &Floor, offered: &HeldList) -> Result<(), Refusal> {
    let version = offered.list.version();
    // First, since indexes of one epoch can only be compared within one recovery.
    if version.epoch == floor.version.epoch && offered.list.identity().recovery != floor.recovery {
        return Err(Refusal::RecoveryConflict { version });
    }
    if version < floor.version {
        return Err(Refusal::Stale { floor: floor.version, offered: version });
    }
    if version == floor.version && offered.digest.same_content(&floor.digest) == Some(false) {
        return Err(Refusal::Conflict { version });
    }
    Ok(())
}

fn check_offerer(current: &ControllerList, member_answers: bool, from: Offerer) -> Result<(), Refusal> {
    if let Offerer::Controller(from) = from {
        if current.retired().contains(&from) {
            return Err(Refusal::Retired { from });
        }
        if current.get(from).is_some() {
            return Ok(());
        }
    }
    if member_answers { Err(Refusal::Outsider { from }) } else { Ok(()) }
}

/// Protocol 1 has no cluster id and no removals that could be believed: it only ever adds hints, and only those that
/// say something beyond the held list.
///
/// A sender of protocol 1 has no means of saying who it is. Unlike a structured list, what it offers replaces nothing
/// and is tried last, so it is heard even while members answer; one that does say who it is has to be welcome.
fn merge(held: &Held, from: Offerer, addresses: &[String]) -> Result<Verdict, Refusal> {
    if addresses.is_empty() {
        return Err(Defect::Empty.into());
    }
    let mut offered = parse_flat(addresses)?;
    if let Some(current) = &held.list {
        let listed = current.list.controllers().iter().flat_map(|controller| &controller.endpoints);
        listed.for_each(|endpoint| _ = offered.remove(endpoint));
        if let Offerer::Controller(_) = from {
            check_offerer(&current.list, held.member_answers, from)?;
        }
    }
    if offered.len() > HINTS_MAX {
        return Err(Refusal::HintsFull { count: offered.len() });
    }
    // What is offered now is news. Where both do not fit, hints that this sender does not name make room.
    let room = HINTS_MAX - offered.len();
    let kept: Vec<_> = held.hints.difference(&offered).take(room).cloned().collect();
    let hints: BTreeSet<_> = offered.into_iter().chain(kept).collect();
    Ok(if hints == held.hints { Verdict::Unchanged } else { Verdict::Merge(hints) })
}

fn parse_flat(addresses: &[String]) -> Result<BTreeSet<Endpoint>, Refusal> {
    let mut offered = BTreeSet::new();
    let mut places = BTreeSet::new();
    for (position, address) in (1..).zip(addresses) {
        let endpoint: Endpoint = address.parse().map_err(|reason| Refusal::BadAddress { position, reason })?;
        if !places.insert(endpoint.authority()) {
            return Err(Defect::DuplicateEndpoint { endpoint }.into());
        }
        offered.insert(endpoint);
    }
    Ok(offered)
}
