//! Who speaks to whom: every peer message states it, and nothing reaches Raft before it was compared here.
//!
//! Pure. A controller's own view of the membership may only *deny* (retired ids, and known ids under another
//! incarnation): a controller that was away must accept a leader that it has never heard of. One that hears a leader which
//! it knows was not away, and denies whoever was never a member.

use std::collections::BTreeSet;

use crate::domain::access::Caller;
use crate::domain::controller_list::Epoch;
use crate::domain::ids::{ClusterId, ControllerId, Incarnation};
use crate::domain::membership::{Member, Membership};
use crate::domain::state::ClusterState;
use crate::proto::peer::{Header, Party};

/// Who this controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id; `None` until it was assigned.
    pub id: Option<ControllerId>,
    /// Which formatting of its data directory.
    pub incarnation: Incarnation,
    /// Its cluster and epoch; `None` while it is blank.
    pub cluster: Option<(ClusterId, Epoch)>,
}

impl Identity {
    /// Whether it belongs to no cluster yet.
    #[must_use]
    pub const fn is_blank(&self) -> bool {
        self.cluster.is_none()
    }

    /// The header of a message to the controller with this id and incarnation.
    pub(super) fn header(&self, id: ControllerId, incarnation: Incarnation) -> Header {
        let (cluster, epoch) =
            self.cluster.map_or((Vec::new(), 0), |(cluster, epoch)| (cluster.to_bytes().to_vec(), epoch.get()));
        Header {
            cluster_id: cluster,
            epoch,
            sender: Some(party(self.id, self.incarnation)),
            target: Some(party(Some(id), incarnation)),
        }
    }

    /// The header of a message to a member.
    pub(super) fn header_to(&self, member: &Member) -> Header {
        self.header(member.id, member.incarnation)
    }
}

/// What the applied state says against a sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Applied membership; `None` before the first.
    pub(super) membership: Option<&'a Membership>,
    /// Every id that was ever a member's.
    pub(super) used_ids: &'a BTreeSet<ControllerId>,
    /// The leader that this controller hears at this moment, which may be itself.
    pub(super) hears: Option<ControllerId>,
}

impl<'a> Known<'a> {
    pub(super) fn new(state: &'a ClusterState, hears: Option<ControllerId>) -> Self {
        let membership = state.membership.as_ref().map(|applied| &applied.membership);
        Self { membership, used_ids: &state.used_ids, hears }
    }
}

/// Why a peer message is refused before Raft sees it. The text goes to both sides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// Something that every message states is missing or malformed.
    #[error("a peer message without a usable {what}: is it really a controller that listens and speaks there?")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
    /// The sender's certificate is another one's.
    #[error("{caller} may not speak for controller {id}: give each controller the certificate of its own id")]
    OtherCertificate {
        /// Whose certificate it is.
        caller: String,
        /// Who the sender says it is.
        id: ControllerId,
    },
    /// This controller is in no cluster.
    #[error(
        "the controller there is blank (incarnation {incarnation}), it belongs to no cluster: if it was a member, its \
         data directory was wiped; remove its old id with `pilothouse cluster remove`, then add it again with \
         `join = true` and `pilothouse cluster add`"
    )]
    Blank {
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// Another cluster.
    #[error("the message is for cluster {theirs}, this controller belongs to cluster {own}: check the peer addresses")]
    OtherCluster {
        /// The sender's.
        theirs: ClusterId,
        /// The receiver's.
        own: ClusterId,
    },
    /// Another life of the cluster.
    #[error(
        "the message is of epoch {theirs}, this controller is in epoch {own}: the one of the lower epoch missed a \
         recovery; wipe its data directory and add it again"
    )]
    OtherEpoch {
        /// The sender's.
        theirs: Epoch,
        /// The receiver's.
        own: Epoch,
    },
    /// Meant for another controller.
    #[error("the message is for controller {meant}, this is controller {own}: two members have the same peer address")]
    OtherTarget {
        /// Whom the sender meant.
        meant: ControllerId,
        /// Who received it.
        own: ControllerId,
    },
    /// Meant for an earlier formatting of the data directory.
    #[error(
        "the message is for incarnation {meant} of controller {id}, this is incarnation {own}: its data directory was \
         replaced, and it may not return under its old id; remove controller {id} and add it again as a new one"
    )]
    OtherIncarnation {
        /// Of which controller.
        id: ControllerId,
        /// Whom the sender meant.
        meant: Incarnation,
        /// Who received it.
        own: Incarnation,
    },
    /// The sender uses this controller's own id.
    #[error(
        "the sender calls itself controller {id}, which is this controller's own id: give every controller its own"
    )]
    SameId {
        /// The id.
        id: ControllerId,
    },
    /// The sender was a member once.
    #[error(
        "controller {id} was removed from the cluster, and its id is never used again: stop it, or wipe its data \
         directory and add it as a new controller"
    )]
    Retired {
        /// The sender.
        id: ControllerId,
    },
    /// The sender was never a member, and this controller was not away.
    #[error(
        "controller {id} is not a member of the cluster, which controller {leader} leads: an operator adds it with \
         `pilothouse cluster add`"
    )]
    NotAMember {
        /// The sender.
        id: ControllerId,
        /// Whom this controller hears.
        leader: ControllerId,
    },
    /// The sender is a member under another incarnation.
    #[error(
        "the sender is incarnation {theirs} of controller {id}, the member is incarnation {known}: its data directory \
         was replaced; remove controller {id} and add it again as a new one"
    )]
    Impostor {
        /// The id.
        id: ControllerId,
        /// The sender's.
        theirs: Incarnation,
        /// The member's.
        known: Incarnation,
    },
}

impl From<Stranger> for tonic::Status {
    fn from(stranger: Stranger) -> Self {
        match stranger {
            Stranger::Incomplete { .. } => Self::invalid_argument(stranger.to_string()),
            Stranger::Blank { .. } => Self::failed_precondition(stranger.to_string()),
            _ => Self::permission_denied(stranger.to_string()),
        }
    }
}

/// Who sent a message, once it was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) id: ControllerId,
    pub(super) incarnation: Incarnation,
    pub(super) cluster: (ClusterId, Epoch),
}

/// A header's parts, all of them well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) sender: Sender,
    pub(super) target: (ControllerId, Incarnation),
}

impl Parsed {
    /// # Errors
    /// [`Stranger::Incomplete`].
    pub(super) fn new(header: Option<&Header>) -> Result<Self, Stranger> {
        let missing = |what| Stranger::Incomplete { what };
        let header = header.ok_or(missing("header"))?;
        let cluster = ClusterId::from_slice(&header.cluster_id).ok_or(missing("cluster id"))?;
        let epoch = Epoch::new(header.epoch).ok_or(missing("epoch"))?;
        let (id, incarnation) = parse(header.sender.as_ref()).ok_or(missing("sender"))?;
        let target = parse(header.target.as_ref()).ok_or(missing("target"))?;
        Ok(Self { sender: Sender { id, incarnation, cluster: (cluster, epoch) }, target })
    }
}

/// Compares what a message states with who this controller is and what it has applied.
///
/// # Errors
/// [`Stranger`], which says what is wrong and what to do.
pub(super) fn admit(
    own: &Identity,
    known: Known<'_>,
    caller: &Caller,
    header: Option<&Header>,
) -> Result<Sender, Stranger> {
    let Parsed { sender, target: (meant, meant_incarnation) } = Parsed::new(header)?;
    if !caller.may_speak_for_controller(sender.id) {
        return Err(Stranger::OtherCertificate { caller: caller.to_string(), id: sender.id });
    }
    let (Some((cluster, epoch)), Some(id)) = (own.cluster, own.id) else {
        return Err(Stranger::Blank { incarnation: own.incarnation });
    };
    if sender.cluster.0 != cluster {
        return Err(Stranger::OtherCluster { theirs: sender.cluster.0, own: cluster });
    }
    if sender.cluster.1 != epoch {
        return Err(Stranger::OtherEpoch { theirs: sender.cluster.1, own: epoch });
    }
    if meant != id {
        return Err(Stranger::OtherTarget { meant, own: id });
    }
    if meant_incarnation != own.incarnation {
        return Err(Stranger::OtherIncarnation { id, meant: meant_incarnation, own: own.incarnation });
    }
    if sender.id == id {
        return Err(Stranger::SameId { id });
    }
    deny(known, &sender).map_or(Ok(sender), Err)
}

/// What the applied membership has against a sender, if anything.
fn deny(known: Known<'_>, sender: &Sender) -> Option<Stranger> {
    let id = sender.id;
    match known.membership?.member(id) {
        Some(member) if member.incarnation != sender.incarnation => {
            Some(Stranger::Impostor { id, theirs: sender.incarnation, known: member.incarnation })
        }
        Some(_) => None,
        None if known.used_ids.contains(&id) => Some(Stranger::Retired { id }),
        // Whoever hears a leader that it knows was not away, and misses nobody.
        None => {
            let leader = known.hears.filter(|leader| *leader != id)?;
            known.membership?.member(leader).map(|_| Stranger::NotAMember { id, leader })
        }
    }
}

fn party(id: Option<ControllerId>, incarnation: Incarnation) -> Party {
    Party { id: id.map_or(0, ControllerId::get), incarnation: incarnation.to_bytes().to_vec() }
}

fn parse(party: Option<&Party>) -> Option<(ControllerId, Incarnation)> {
    let party = party?;
    Some((ControllerId::new(party.id)?, Incarnation::from_slice(&party.incarnation)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_used_is_denied_also_by_a_controller_that_hears_no_leader() {
        let id = |id| ControllerId::new(id).unwrap();
        let membership = Membership::new(Vec::new(), []);
        let used_ids = BTreeSet::from([id(1), id(4)]);
        let known = Known { membership: Some(&membership), used_ids: &used_ids, hears: None };
        let cluster = (ClusterId::from_u128(1), Epoch::FIRST);
        let sender = |id| Sender { id, incarnation: Incarnation::from_u128(1), cluster };
        assert_eq!(deny(known, &sender(id(4))), Some(Stranger::Retired { id: id(4) }));
        assert_eq!(deny(known, &sender(id(5))), None, "it may have been added meanwhile");
    }
}
