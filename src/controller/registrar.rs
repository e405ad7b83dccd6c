//! Registrations: any controller takes one, the leader writes it, and the router waits for the outcome, bounded.
//!
//! A registration that finds no leader is tried again until its deadline; repeating is safe, since boot id and sequence
//! make it idempotent. On the leader `gather` writes many of them with one log entry.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Code, Status};

use self::gather::{Gathered, QUEUE_MAX, Waiting};
use super::metrics::Metrics;
use super::relay;
use super::tasks::Tasks;
use crate::domain::command::{Registered, Registration};
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::retry::{Backoff, delay};
use crate::raft::Node;
use crate::rpc::control_plane::{NotServing, RegisterError};
use crate::rpc::status::reason_of;

mod gather;

/// How long a registration waits for a leader to confirm it: several elections long.
pub const REGISTRATION_WITHIN: Duration = Duration::from_secs(10);
/// How often a registration is forwarded: once to the leader, once more if it moved meanwhile.
pub const REGISTRATION_HOPS_MAX: u32 = 2;
/// Longest wait for one answer of a leader: a leader that died is found out sooner by its connection.
const FORWARD_WITHIN: Duration = Duration::from_secs(3);

/// Takes registrations. Clones share one queue.
#[derive(Clone)]
pub struct Registrar {
    node: Node,
    queue: mpsc::Sender<Waiting>,
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar").finish_non_exhaustive()
    }
}

/// What one attempt came to.
enum Attempt {
    Done(Registered),
    Failed(RegisterError),
    Again,
}

impl Registrar {
    /// Starts gathering; ends when the last clone is dropped.
    #[must_use]
    pub fn start(node: Node, metrics: Metrics, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tasks.spawn("registrations", gather::run(node.clone(), metrics, waiting));
        Self { node, queue }
    }

    /// Registers a router that came to this controller.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn register(&self, registration: Registration) -> Result<(Registered, ClusterId), RegisterError> {
        let began = Instant::now();
        let deadline = began + REGISTRATION_WITHIN;
        let registration = Arc::new(registration);
        for attempt in 0.. {
            let mut status = self.node.status();
            status.mark_unchanged();
            let cluster = self.cluster()?;
            match tokio::time::timeout_at(deadline, self.attempt(&registration, 0)).await {
                Ok(Attempt::Done(registered)) => return Ok((registered, cluster)),
                Ok(Attempt::Failed(why)) => return Err(why),
                Ok(Attempt::Again) => {}
                Err(_) => break,
            }
            let pause = delay(Backoff::PEER, attempt, self.node.random());
            if Instant::now() + pause >= deadline {
                break;
            }
            // At once when the leader changes, and now and then in any case.
            let _ = tokio::time::timeout(pause, changed_leader(&mut status)).await;
        }
        Err(RegisterError::NoLeader { waited: began.elapsed() })
    }

    /// Registers a router whose registration another controller forwarded here. That one waits and tries again, so this
    /// one does not.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn register_forwarded(
        &self,
        registration: Registration,
        hops: u32,
    ) -> Result<(Registered, ClusterId), RegisterError> {
        let began = Instant::now();
        let cluster = self.cluster()?;
        match tokio::time::timeout(FORWARD_WITHIN, self.attempt(&Arc::new(registration), hops)).await {
            Ok(Attempt::Done(registered)) => Ok((registered, cluster)),
            Ok(Attempt::Failed(why)) => Err(why),
            Ok(Attempt::Again) | Err(_) => Err(RegisterError::NoLeader { waited: began.elapsed() }),
        }
    }

    fn cluster(&self) -> Result<ClusterId, NotServing> {
        self.node.me().cluster.map(|(cluster, _)| cluster).ok_or(NotServing::NotMember)
    }

    async fn attempt(&self, registration: &Arc<Registration>, hops: u32) -> Attempt {
        let (leads, leader) = {
            let status = self.node.status();
            let status = status.borrow();
            (status.leads(), status.leader)
        };
        match leader {
            _ if leads => self.lead(registration.clone()).await,
            Some(leader) => self.forward(leader, registration, hops).await,
            None => Attempt::Again,
        }
    }

    async fn lead(&self, registration: Arc<Registration>) -> Attempt {
        let (answer, outcome) = oneshot::channel();
        if self.queue.try_send(Waiting { registration, answer }).is_err() {
            return Attempt::Failed(RegisterError::Overloaded { limit: QUEUE_MAX });
        }
        match outcome.await {
            Ok(Gathered::Judged(Ok(registered))) => Attempt::Done(registered),
            Ok(Gathered::Judged(Err(refusal))) => Attempt::Failed(refusal.into()),
            Ok(Gathered::NotWritten) | Err(_) => Attempt::Again,
        }
    }

    async fn forward(&self, leader: ControllerId, registration: &Registration, hops: u32) -> Attempt {
        if hops >= REGISTRATION_HOPS_MAX {
            return Attempt::Failed(RegisterError::TooManyHops { hops });
        }
        match relay::register(&self.node, leader, registration, hops + 1, FORWARD_WITHIN).await {
            Ok((registered, _)) => Attempt::Done(registered),
            // The leader's word about the registration itself; everything else may pass.
            Err(status) if is_final(&status) => Attempt::Failed(RegisterError::passed(&status)),
            Err(_) => Attempt::Again,
        }
    }
}

/// Whether the leader judged the registration itself, so that asking again cannot help. `ResourceExhausted` may be a full
/// queue or a full cluster: the router decides.
fn is_final(status: &Status) -> bool {
    let about_it = [
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::ResourceExhausted,
    ];
    reason_of(status).is_some() && about_it.contains(&status.code())
}

async fn changed_leader(status: &mut tokio::sync::watch::Receiver<crate::raft::Status>) {
    let before = status.borrow().leader;
    // The sender ends with the node; then nothing changes any more and the caller's pause ends the wait.
    if status.wait_for(|status| status.leader.is_some() && status.leader != before).await.is_err() {
        std::future::pending::<()>().await;
    }
}
