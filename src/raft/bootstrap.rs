//! How a blank controller becomes a member: it founds a cluster, or it is enlisted. Nothing else does it.
//!
//! Only the lowest id of `initial_members` founds, and only after every one of them answered as blank: several
//! controllers that each initialize Raft with their own view would all succeed, and differ for good. Every step is
//! durable before the next, and can be repeated: identified -> cluster minted and assigned here -> the others enlisted
//! (each writes it to disk before it answers) -> all identified again -> Raft initialized. A founder that stops
//! between two of them goes on from there; one that finds any sign of another cluster stays as it is.

use std::collections::BTreeSet;

use tokio::time::Duration;

use super::errors::{EnlistRefusal, PeerError};
use super::identity::{self, Known, Parsed, Stranger};
use super::node::Node;
use super::peer_record::PeerRecord;
use super::settings::{Bootstrap, InitialMember};
use crate::domain::access::Caller;
use crate::domain::controller_list::{ClusterIdentity, Epoch};
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::membership::{self, Member, Unfoundable};
use crate::domain::retry::{self, Backoff};
use crate::proto::peer::Header;
use crate::storage::Assignment;

/// The same obstacle is logged at most this often.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// What keeps the founder from founding. It tries again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("waiting for controller {id}: {reason}")]
    Silent { id: ControllerId, reason: PeerError },
    #[error(
        "{at} answers as {found}, initial_members says {expected}: correct initial_members, which is the same on all"
    )]
    OtherName { at: String, found: String, expected: String },
    #[error("controller {id} is configured with `join = true`: give it the same initial_members as the others")]
    Joins { id: ControllerId },
    #[error("two of initial_members are one and the same process: give each its own address")]
    Twice,
    #[error(
        "controller {id} belongs to cluster {cluster} already, no second one is founded: if this controller was a \
         member of it, remove its old id there and add it again with `join = true`; if cluster {cluster} never came \
         to be, wipe the data directory of controller {id}"
    )]
    Taken { id: ControllerId, cluster: ClusterId },
    #[error("controller {id} was replaced while the cluster was founded: starting over with it")]
    Changed { id: ControllerId },
    #[error("{0}; nothing is founded before")]
    Unfoundable(#[from] Unfoundable),
    #[error("cannot write the new cluster to disk: {reason}")]
    Disk { reason: String },
}

/// Founds the cluster if that is this controller's part, or watches and says what is amiss while it is blank.
pub(super) async fn run(node: Node) {
    let Bootstrap::InitialMembers(members) = node.settings().bootstrap.clone() else { return };
    let Some(founder) = members.iter().map(|member| member.id).min() else { return };
    let founds = node.settings().id == Some(founder);
    let mut complaint: Option<(tokio::time::Instant, Obstacle)> = None;
    for attempt in 0.. {
        let result = if founds { found(&node, &members).await } else { watch(&node, &members).await };
        let Err(obstacle) = result else { return };
        let repeated = complaint.as_ref().is_some_and(|(at, said)| *said == obstacle && at.elapsed() < COMPLAINT_EVERY);
        if !repeated {
            tracing::warn!(%obstacle, "the cluster is not formed yet");
            complaint = Some((tokio::time::Instant::now(), obstacle));
        }
        tokio::time::sleep(retry::delay(Backoff::DIAL, attempt, node.random())).await;
    }
}

async fn found(node: &Node, members: &[InitialMember]) -> Result<(), Obstacle> {
    if node.is_initialized().await {
        return Ok(());
    }
    let others = identify_all(node, members).await?;
    let cluster = match node.me().cluster {
        Some(minted) => minted,
        None => (ClusterId::from_u128(node.random_u128()), Epoch::FIRST),
    };
    // Judge all of them before anything is changed anywhere.
    for (id, record) in &others {
        match record.cluster {
            Some(theirs) if theirs != cluster || record.id != Some(*id) || record.last_log.is_some() => {
                return Err(Obstacle::Taken { id: *id, cluster: theirs.0 });
            }
            _ => {}
        }
    }
    let own = node.settings().id.ok_or_else(|| Obstacle::Disk { reason: "no id is configured".to_owned() })?;
    judge_together(node, cluster, own, &others)?;
    let assignment = Assignment { cluster: cluster.0, epoch: cluster.1, id: own };
    node.assign(assignment).await.map_err(|reason| Obstacle::Disk { reason })?;
    for (id, record) in others.iter().filter(|(_, record)| record.is_blank()) {
        let silent = |reason| Obstacle::Silent { id: *id, reason };
        let at = members.iter().filter(|member| member.id == *id).map(|member| member.peer.clone()).collect::<Vec<_>>();
        node.enlist_at(&at, *id, record.incarnation).await.map_err(silent)?;
    }
    let enlisted = identify_all(node, members).await?;
    for ((id, record), (_, before)) in enlisted.iter().zip(&others) {
        let same =
            record.incarnation == before.incarnation && record.cluster == Some(cluster) && record.id == Some(*id);
        if !same || record.last_log.is_some() {
            return Err(Obstacle::Changed { id: *id });
        }
    }
    // Once more: one of them may have been started with other addresses meanwhile.
    judge_together(node, cluster, own, &enlisted)?;
    let all = enlisted.iter().map(|(id, record)| record.member(*id)).chain([node.record().member(own)]);
    initialize(node, all.collect(), cluster.0).await
}

/// No list follows from records that clash, and none that follows could ever be repaired: so they are judged first.
fn judge_together(
    node: &Node,
    (cluster, epoch): (ClusterId, Epoch),
    own: ControllerId,
    others: &[(ControllerId, PeerRecord)],
) -> Result<(), Obstacle> {
    let members = others.iter().map(|(id, record)| record.member(*id)).chain([node.record().member(own)]);
    let mut members: Vec<_> = members.collect();
    members.sort_by_key(|member| member.id);
    let identity = ClusterIdentity { cluster, epoch, recovery: None };
    membership::found(&identity, members, &|list| node.judge(list))?;
    Ok(())
}

async fn initialize(node: &Node, members: Vec<Member>, cluster: ClusterId) -> Result<(), Obstacle> {
    let disk = |reason: String| Obstacle::Disk { reason };
    let raft = node.running().map_err(|reason| disk(reason.to_owned()))?;
    let count = members.len();
    let nodes = members.into_iter().map(|member| (member.id.get(), member));
    match raft.initialize(nodes.collect::<std::collections::BTreeMap<_, _>>()).await {
        Ok(()) => {
            tracing::info!(%cluster, controllers = count, "founded a cluster");
            Ok(())
        }
        Err(_) if node.is_initialized().await => Ok(()),
        Err(error) => Err(disk(error.to_string())),
    }
}

/// All initial members but this one, each of which answered as what the configuration says it is.
async fn identify_all(node: &Node, members: &[InitialMember]) -> Result<Vec<(ControllerId, PeerRecord)>, Obstacle> {
    let mut records = Vec::with_capacity(members.len());
    let mut seen = BTreeSet::from([node.me().incarnation]);
    for member in members.iter().filter(|member| node.settings().id != Some(member.id)) {
        let id = member.id;
        let record = node.identify(&member.peer, Some(id)).await.map_err(|reason| Obstacle::Silent { id, reason })?;
        if !seen.insert(record.incarnation) {
            return Err(Obstacle::Twice);
        }
        if record.name != member.name {
            let (found, expected) = (record.name.as_str().to_owned(), member.name.as_str().to_owned());
            return Err(Obstacle::OtherName { at: member.peer.to_string(), found, expected });
        }
        if record.joins && record.is_blank() {
            return Err(Obstacle::Joins { id });
        }
        records.push((id, record));
    }
    Ok(records)
}

/// A controller that does not found waits to be enlisted. One that was wiped waits in vain, and says so.
async fn watch(node: &Node, members: &[InitialMember]) -> Result<(), Obstacle> {
    if !node.me().is_blank() {
        return Ok(());
    }
    let mut formed = None;
    for member in members.iter().filter(|member| node.settings().id != Some(member.id)) {
        let id = member.id;
        let record = node.identify(&member.peer, Some(id)).await.map_err(|reason| Obstacle::Silent { id, reason })?;
        // While a cluster is being founded, its members have its id and no entry yet.
        formed = formed.or(record.cluster.filter(|_| record.last_log.is_some()).map(|(cluster, _)| (id, cluster)));
    }
    match formed {
        Some((id, cluster)) if node.me().is_blank() => Err(Obstacle::Taken { id, cluster }),
        _ => Err(Obstacle::Silent {
            id: members.iter().map(|member| member.id).min().unwrap_or(members[0].id),
            reason: PeerError::Unreachable {
                at: "the founder".to_owned(),
                reason: "it has not enlisted this controller yet".to_owned(),
            },
        }),
    }
}

/// Whether this controller lets itself be enlisted, and as what.
pub(super) fn judge_enlistment(
    node: &Node,
    caller: &Caller,
    header: Option<&Header>,
) -> Result<Assignment, EnlistRefusal> {
    let Parsed { sender, target: (id, incarnation) } = Parsed::new(header)?;
    if !caller.may_speak_for_controller(sender.id) {
        return Err(Stranger::OtherCertificate { caller: caller.to_string(), id: sender.id }.into());
    }
    let me = node.me();
    if incarnation != me.incarnation {
        return Err(Stranger::OtherIncarnation { id, meant: incarnation, own: me.incarnation }.into());
    }
    let (cluster, epoch) = sender.cluster;
    let assignment = Assignment { cluster, epoch, id };
    if let Some((own_cluster, own_epoch)) = me.cluster {
        if (own_cluster, own_epoch) != sender.cluster || me.id != Some(id) {
            return Err(EnlistRefusal::Taken { cluster: own_cluster, epoch: own_epoch });
        }
        // A repeated question after a lost answer. From now on whoever asks is admitted as in every other message.
        node.read(|state| identity::admit(&me, Known::new(state, node.hears()), caller, header))?;
        return Ok(assignment);
    }
    if let Some(configured) = node.settings().id.filter(|configured| *configured != id) {
        return Err(EnlistRefusal::OtherId { configured, offered: id });
    }
    if let Bootstrap::InitialMembers(members) = &node.settings().bootstrap
        && let Some(founder) = members.iter().map(|member| member.id).min()
        && (sender.id != founder || id == founder)
    {
        return Err(EnlistRefusal::NotTheFounder { sender: sender.id, founder });
    }
    Ok(assignment)
}
