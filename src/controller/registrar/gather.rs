//! On the leader: many registrations, one log entry; and none at all for those that say nothing new.
//!
//! One batch is under way at a time, so while one is written the next one fills: batches grow with the load, and a
//! lone registration waits for nobody. It also means that nothing is in flight when a registration is judged.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, oneshot};

use crate::controller::metrics::Metrics;
use crate::domain::command::{
    Change, Outcome, REGISTRATIONS_PER_ENTRY_MAX, Registered, Registration, RegistrationRefusal,
};
use crate::raft::Node;
use crate::rpc::convert::registration;

/// Most registrations that wait for their batch.
pub(super) const QUEUE_MAX: usize = 16 * 1024;
/// Most bytes of registrations in one log entry: a quarter of the largest entry, so that an append stays quick.
pub(super) const REGISTRATION_BYTES_PER_ENTRY_MAX: usize = 256 * 1024;
/// Longest wait for the confirmation that this controller still leads.
const BARRIER_WITHIN: Duration = Duration::from_secs(2);

/// A registration whose router waits.
pub(super) struct Waiting {
    pub(super) registration: Arc<Registration>,
    pub(super) answer: oneshot::Sender<Gathered>,
}

/// What came of it.
pub(super) enum Gathered {
    /// The cluster's answer.
    Judged(Result<Registered, RegistrationRefusal>),
    /// Leadership was lost, or there is no majority. It may have been written all the same.
    NotWritten,
}

type Judgement = Result<Registered, RegistrationRefusal>;

/// Until the queue is closed.
pub(super) async fn run(node: Node, metrics: Metrics, mut queue: mpsc::Receiver<Waiting>) {
    let mut left_over = None;
    while let Some(first) = next(&mut left_over, &mut queue).await {
        let mut batch = vec![first];
        let mut bytes = size(&batch[0]);
        while batch.len() < REGISTRATIONS_PER_ENTRY_MAX {
            let Ok(waiting) = queue.try_recv() else { break };
            bytes += size(&waiting);
            if bytes > REGISTRATION_BYTES_PER_ENTRY_MAX {
                left_over = Some(waiting);
                break;
            }
            batch.push(waiting);
        }
        // Whoever gave up meanwhile is not written for.
        batch.retain(|waiting| !waiting.answer.is_closed());
        settle(&node, &metrics, batch).await;
    }
}

async fn next(left_over: &mut Option<Waiting>, queue: &mut mpsc::Receiver<Waiting>) -> Option<Waiting> {
    match left_over.take() {
        Some(waiting) => Some(waiting),
        None => queue.recv().await,
    }
}

fn size(waiting: &Waiting) -> usize {
    registration::to_wire(&waiting.registration).encoded_len()
}

/// Answers what needs no entry, writes the rest.
async fn settle(node: &Node, metrics: &Metrics, batch: Vec<Waiting>) {
    let mut judged = judge(node, batch);
    // What this state calls known or refused counts only if this controller still leads and its state is the newest.
    if judged.iter().any(|(_, judgement)| !needs_entry(judgement)) {
        let waiting: Vec<_> = judged.into_iter().map(|(waiting, _)| waiting).collect();
        if node.read_barrier(BARRIER_WITHIN).await.is_err() {
            waiting.into_iter().for_each(|waiting| answer(waiting, Gathered::NotWritten));
            return;
        }
        judged = judge(node, waiting);
    }
    let (to_write, settled): (Vec<_>, Vec<_>) = judged.into_iter().partition(|(_, judgement)| needs_entry(judgement));
    for (waiting, judgement) in settled {
        metrics.registration(&judgement);
        answer(waiting, Gathered::Judged(judgement));
    }
    if !to_write.is_empty() {
        write(node, metrics, to_write.into_iter().map(|(waiting, _)| waiting).collect()).await;
    }
}

fn judge(node: &Node, batch: Vec<Waiting>) -> Vec<(Waiting, Judgement)> {
    node.read(|state| batch.into_iter().map(|w| (state.judge(&w.registration), w)).map(|(j, w)| (w, j)).collect())
}

fn needs_entry(judgement: &Judgement) -> bool {
    matches!(judgement, Ok(Registered::New | Registered::Updated))
}

async fn write(node: &Node, metrics: &Metrics, batch: Vec<Waiting>) {
    let registrations = batch.iter().map(|waiting| Registration::clone(&waiting.registration)).collect();
    metrics.registration_entry();
    match node.propose(Change::Register(registrations)).await {
        Ok((_, Outcome::Registered(outcomes))) if outcomes.len() == batch.len() => {
            for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                metrics.registration(&outcome);
                answer(waiting, Gathered::Judged(outcome));
            }
        }
        Ok((at, outcome)) => {
            tracing::error!(?at, %outcome, "registrations came back with an outcome of something else: report this");
            batch.into_iter().for_each(|waiting| answer(waiting, Gathered::NotWritten));
        }
        Err(error) => {
            tracing::debug!(%error, registrations = batch.len(), "registrations were not written; their senders try again");
            batch.into_iter().for_each(|waiting| answer(waiting, Gathered::NotWritten));
        }
    }
}

fn answer(waiting: Waiting, gathered: Gathered) {
    // A router that gave up does not hear it.
    let _ = waiting.answer.send(gathered);
}
