//! Writing to the log, and reading what is not stale: what only a leader can do.

use std::time::{Duration, Instant};

use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{EntryPayload, LinearizerOption};

use super::codec::{self, log_id_at};
use super::errors::ProposeError;
use super::life::RaftHandle;
use super::node::{Node, STOPPED};
use super::types::{Entry, TypeConfig};
use crate::domain::command::{Change, Command, Outcome};
use crate::domain::ids::ControllerId;
use crate::domain::state::LogPosition;
use crate::storage::log::ENTRY_BYTES_MAX;

/// Longest wait for the outcome of a proposal.
pub const PROPOSE_MS_MAX: u64 = 5_000;
/// How often a new leader looks whether a majority has answered it.
const ANSWERS_EVERY: Duration = Duration::from_millis(10);

impl Node {
    /// Proposes a change, and waits until it is applied here.
    ///
    /// # Errors
    /// [`ProposeError`]; after `Unknown` and `Deadline` the change may still take effect.
    pub async fn propose(&self, change: Change) -> Result<(LogPosition, Outcome), ProposeError> {
        let raft = self.running().map_err(|reason| ProposeError::NotRunning { reason })?;
        let command = Command { time_ms: self.clock_ms(), change };
        let bytes = entry_bytes(&command);
        if bytes > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes, limit: ENTRY_BYTES_MAX });
        }
        let deadline = Duration::from_millis(PROPOSE_MS_MAX);
        tokio::time::timeout(deadline, self.write(&raft, command))
            .await
            .unwrap_or(Err(ProposeError::Deadline { deadline }))
    }

    /// Writes a command. A leader of this moment has nobody's answer yet, and Raft refuses to write for it before it appends
    /// anything: its first answers are waited for.
    async fn write(&self, raft: &RaftHandle, command: Command) -> Result<(LogPosition, Outcome), ProposeError> {
        let first_answers = Instant::now() + Duration::from_millis(self.settings().election_max_ms);
        loop {
            match raft.client_write(command.clone()).await {
                Ok(written) => return Ok((codec::position(&written.log_id), written.data)),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    let error = elsewhere(&forward);
                    let new = error == ProposeError::NoQuorum && self.status().borrow().leads_without_answers();
                    if !new || Instant::now() >= first_answers {
                        return Err(error);
                    }
                    tokio::time::sleep(ANSWERS_EVERY).await;
                }
                Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(forward))) => {
                    return Err(ProposeError::Unknown { leader: leader(&forward) });
                }
                // The other refusals are of membership changes.
                Err(RaftError::APIError(_)) => return Err(ProposeError::Unknown { leader: None }),
                Err(RaftError::Fatal(_)) => return Err(ProposeError::NotRunning { reason: STOPPED }),
            }
        }
    }

    /// Returns once this controller is known to lead and has applied everything that was committed anywhere when this
    /// was called: what is read afterwards is not stale.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn read_barrier(&self, deadline: Duration) -> Result<(), ProposeError> {
        let raft = self.running().map_err(|reason| ProposeError::NotRunning { reason })?;
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(deadline);
        let barrier = async {
            let position = match raft.get_read_linearizer(option).await {
                Ok(position) => position,
                Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                    return Err(elsewhere(&forward));
                }
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                    return Err(ProposeError::NoQuorum);
                }
                Err(RaftError::Fatal(_)) => return Err(ProposeError::NotRunning { reason: STOPPED }),
            };
            let stopped = |_| ProposeError::NotRunning { reason: STOPPED };
            position.await_ready(&raft).await.map(drop).map_err(stopped)
        };
        tokio::time::timeout(deadline, barrier).await.unwrap_or(Err(ProposeError::Deadline { deadline }))
    }
}

fn leader(forward: &ForwardToLeader<TypeConfig>) -> Option<ControllerId> {
    forward.leader_id.and_then(ControllerId::new)
}

fn elsewhere(forward: &ForwardToLeader<TypeConfig>) -> ProposeError {
    match forward.reason {
        ForwardReason::LeaseExpired => ProposeError::NoQuorum,
        ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
            ProposeError::NotLeader { leader: leader(forward) }
        }
    }
}

/// How large a command's log entry will be, wherever in the log it comes to stand.
fn entry_bytes(command: &Command) -> usize {
    let log_id = log_id_at(LogPosition { term: u64::MAX, index: u64::MAX });
    codec::encode_entry(&Entry { log_id, payload: EntryPayload::Normal(command.clone()) }).len()
}
