//! What a leader does because it leads: one task that watches leadership.
//!
//! - A joint change that a dead leader left behind is finished: Raft's library never does so by itself.
//! - A new cluster gets its identity and first feature level, as a log entry.
//! - What each member's build can read and write becomes a log entry. The leader asks the members (`Identify`) when it
//!   begins to lead and every few seconds after, so that members need no way to propose.
//! - Now and then everybody takes a hash of the state at one place of the log, so that replicas that have parted ways are
//!   found.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, ServerState};
use tokio::time::Instant;

use super::life::RaftHandle;
use super::network::ask;
use super::node::Node;
use crate::domain::command::Change;
use crate::domain::controller_list::ClusterIdentity;
use crate::domain::feature::FeatureLevel;
use crate::domain::membership::Member;

/// How often a leader looks after its duties.
const ROUND_EVERY: Duration = Duration::from_millis(500);
/// How often a leader asks all members what their builds can do.
const ANNOUNCEMENTS_EVERY: Duration = Duration::from_secs(5);
/// A change that stays joint this long under the leader that began it has lost its second half.
const JOINT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest time for one entry.
const ENTRY_PATIENCE: Duration = Duration::from_secs(5);

/// What a leader remembers of its rounds; forgotten when it ceases to lead.
#[derive(Default)]
struct Term {
    number: u64,
    joint_since: Option<Instant>,
    inherited_checked: bool,
    announced_at: Option<Instant>,
    checkpoint_at: Option<Instant>,
}

/// Runs until the node stops.
pub(super) async fn run(node: Node, raft: RaftHandle) {
    let mut metrics = raft.metrics();
    let mut term = Term::default();
    loop {
        let leads = {
            let now = metrics.borrow_and_update();
            (now.state == ServerState::Leader).then_some(now.current_term)
        };
        match leads {
            Some(number) => {
                if number != term.number {
                    term = Term { number, ..Term::default() };
                }
                round(&node, &raft, &mut term).await;
                tokio::time::sleep(ROUND_EVERY).await;
            }
            None => {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn round(node: &Node, raft: &RaftHandle, term: &mut Term) {
    finish_joint(raft, term).await;
    // What is read below is what this leader inherited, whole.
    if node.read_barrier(ENTRY_PATIENCE).await.is_err() {
        return;
    }
    found(node).await;
    if term.announced_at.is_none_or(|at| at.elapsed() >= ANNOUNCEMENTS_EVERY) {
        term.announced_at = Some(Instant::now());
        announce(node).await;
    }
    // Whatever was announced meanwhile was hashed as well; a quiet term begins with what the one before has hashed.
    let since = *term.checkpoint_at.get_or_insert_with(Instant::now);
    if since.elapsed() >= node.settings().checkpoint_every && node.read(|state| state.level.is_some()) {
        term.checkpoint_at = Some(Instant::now());
        // Should it fail, the next one comes in a while, and whoever raises a level takes one first.
        let _ = node.take_checkpoint().await;
    }
}

/// At the beginning of a term a joint change can only be another leader's.
async fn finish_joint(raft: &RaftHandle, term: &mut Term) {
    let joint = raft.metrics().borrow_watched().membership_config.get_joint_config().len() > 1;
    if !joint {
        // From now on a joint change is this leader's own, which has its time.
        term.joint_since = None;
        term.inherited_checked = true;
        return;
    }
    let since = *term.joint_since.get_or_insert_with(Instant::now);
    if term.inherited_checked && since.elapsed() < JOINT_PATIENCE {
        return;
    }
    tracing::warn!(term = term.number, "finishing a membership change that was left half-way");
    let change = raft.change_membership(ChangeMembers::AddVoterIds([].into()), true);
    match tokio::time::timeout(ENTRY_PATIENCE, change).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "could not finish it yet"),
        Err(_) => tracing::warn!("could not finish it in time; it is tried again"),
    }
}

async fn found(node: &Node) {
    let Some((cluster, epoch)) = node.me().cluster else { return };
    if node.read(|state| state.identity.is_some()) {
        return;
    }
    let identity = ClusterIdentity { cluster, epoch, recovery: None };
    match node.propose(Change::Found { identity, level: FeatureLevel::ONE }).await {
        Ok(_) => tracing::info!(%cluster, %epoch, level = FeatureLevel::ONE.get(), "gave the cluster its identity"),
        Err(error) => tracing::warn!(%error, "could not give the cluster its identity yet; it is tried again"),
    }
}

async fn announce(node: &Node) {
    let members: Vec<Member> = node.read(|state| {
        state.membership.as_ref().map_or_else(Vec::new, |applied| applied.membership.members().cloned().collect())
    });
    for member in members {
        let own = node.me().id == Some(member.id);
        let record =
            if own { Ok(node.record()) } else { ask::identify_any(node.dialer(), member.id, &member.peer).await };
        // Whoever cannot be asked now is asked in the next round.
        let Ok(record) = record else { continue };
        let announcement = record.announcement(member.id);
        let known = node.read(|state| state.announcements.get(&member.id) == Some(&announcement));
        if known || record.incarnation != member.incarnation {
            continue;
        }
        // It would be refused in the log as well, and cost an entry in every round.
        if let Err(refusal) = node.read(|state| state.judge_announcement(&announcement)) {
            tracing::warn!(%refusal, controller = member.id.get(), "a controller's version is not announced");
            continue;
        }
        if let Err(error) = node.propose(Change::Announce(announcement)).await {
            tracing::debug!(%error, controller = member.id.get(), "could not announce a controller's version yet");
            return;
        }
    }
}
