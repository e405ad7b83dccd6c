//! The client's side of log replication: one long-lived stream for many of openraft's sessions.
//!
//! openraft opens a session for each heartbeat and for each change of what it replicates, and drops a heartbeat that
//! takes too long. The stream outlives them: a session first waits for whatever an earlier one was still owed, so that a
//! member that hangs is asked once and not ten times a second. The deadline of each answer is kept here, since openraft
//! does not enforce one on streams.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::base::BoxStream;
use openraft::errors::{RPCError, Timeout};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::convert;
use super::lane::{Lane, Lanes};
use crate::proto::peer::{AppendRequest, AppendResponse};
use crate::raft::types::TypeConfig;

/// Messages that wait for the connection to take them, on one lane.
const APPENDS_QUEUED_MAX: usize = 16;
/// Messages that were sent and not answered yet, on one lane. openraft's receiving side holds 64.
const APPENDS_UNANSWERED_MAX: usize = 64;
/// Longest time for opening a stream, connecting included.
const APPEND_OPEN_MS_MAX: u64 = 2_000;
/// Longest time for an answer: the follower syncs its disk before it gives one.
const APPEND_ANSWER_MS_MAX: u64 = 3_000;

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// An open append stream.
pub(super) struct Wire {
    requests: mpsc::Sender<AppendRequest>,
    answers: Streaming<AppendResponse>,
    /// Deadlines of the answers that are still to come, oldest first.
    owed: VecDeque<Instant>,
}

impl Wire {
    async fn open(lane: &Lane) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(APPENDS_QUEUED_MAX);
        let answers = lane.client().append(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Self { requests, answers, owed: VecDeque::new() })
    }
}

/// One of openraft's sessions.
pub(super) struct Session<'s, S> {
    lanes: &'s Lanes,
    lane: &'s Lane,
    wire: &'s mut Option<Wire>,
    input: S,
    input_ended: bool,
    unsent: VecDeque<AppendRequest>,
    /// How many of the answers to come were asked for by an earlier session.
    inherited: usize,
}

/// What happens next in a session.
enum Next {
    Asked(Option<AppendEntriesRequest<TypeConfig>>),
    Answered(Result<Option<AppendResponse>, Status>),
    Sent,
    Late,
    Unconnected,
}

impl<'s, S> Session<'s, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    /// A session on the stream that the one before has left, if any. Another one is opened only once there is something
    /// to say: openraft's own pause after an error sits in the stream of its requests.
    pub(super) fn start(
        lanes: &'s Lanes,
        lane: &'s Lane,
        wire: &'s mut Option<Wire>,
        input: S,
    ) -> BoxStream<'s, Answer> {
        let inherited = wire.as_ref().map_or(0, |wire| wire.owed.len());
        let session = Self { lanes, lane, wire, input, input_ended: false, unsent: VecDeque::new(), inherited };
        Box::pin(futures::stream::unfold(Some(session), |session| async { session?.step().await }))
    }

    /// The next answer for openraft, and the session while it goes on.
    async fn step(mut self) -> Option<(Answer, Option<Self>)> {
        loop {
            if self.input_ended && self.unsent.is_empty() && self.owed() == 0 {
                return None;
            }
            match self.next().await {
                Next::Asked(Some(request)) => {
                    self.unsent.extend(convert::append(&request, &self.lane.header(), self.lanes.time_ms()));
                }
                Next::Asked(None) => self.input_ended = true,
                Next::Sent => {}
                Next::Unconnected => match open(self.lane).await {
                    Ok(wire) => (*self.wire, self.inherited) = (Some(wire), 0),
                    Err(error) => return Some((Err(error), None)),
                },
                // Nothing was asked: the member has closed a stream that was idle, and the next message opens another.
                Next::Answered(Ok(None)) if self.owed() == 0 => *self.wire = None,
                Next::Answered(answer) => match self.hear(answer) {
                    Ok(None) => {}
                    Ok(Some(answer)) => {
                        let goes_on = answer.is_ok();
                        return Some((Ok(answer), goes_on.then_some(self)));
                    }
                    Err(status) => {
                        let reason = super::reason(&status);
                        self.lane.gate.failed(&reason);
                        *self.wire = None;
                        return Some((Err(convert::unreachable(reason).into()), None));
                    }
                },
                Next::Late => {
                    self.lane.gate.failed("it does not answer in time");
                    *self.wire = None;
                    return Some((Err(self.timeout()), None));
                }
            }
        }
    }

    async fn next(&mut self) -> Next {
        let Self { wire, input, input_ended, unsent, inherited, .. } = self;
        let Some(Wire { requests, answers, owed }) = wire.as_mut() else {
            return if unsent.is_empty() { Next::Asked(input.next().await) } else { Next::Unconnected };
        };
        let may_send = !unsent.is_empty() && *inherited == 0 && owed.len() < APPENDS_UNANSWERED_MAX;
        let deadline = owed.front().copied();
        tokio::select! {
            biased;
            answer = answers.message() => Next::Answered(answer),
            // Without a place the server has ended the stream; its reason is the next thing that it says.
            Ok(place) = requests.reserve(), if may_send => {
                if let Some(request) = unsent.pop_front() {
                    place.send(request);
                    owed.push_back(Instant::now() + Duration::from_millis(APPEND_ANSWER_MS_MAX));
                }
                Next::Sent
            }
            request = input.next(), if unsent.is_empty() && !*input_ended => Next::Asked(request),
            () = until(deadline) => Next::Late,
        }
    }

    fn owed(&self) -> usize {
        self.wire.as_ref().map_or(0, |wire| wire.owed.len())
    }

    /// An answer for this session, or `None` for one that nobody waits for any more. One that ends the session drops
    /// its stream too: the server has ended it, or nobody knows its state.
    fn hear(
        &mut self,
        answer: Result<Option<AppendResponse>, Status>,
    ) -> Result<Option<StreamAppendResult<TypeConfig>>, Status> {
        let answer = answer?.ok_or_else(|| Status::unavailable("it ended the stream"))?;
        let result = convert::parse_append_result(&answer)?;
        self.lane.gate.succeeded();
        if let Some(wire) = self.wire.as_mut() {
            wire.owed.pop_front();
        }
        if result.is_err() {
            *self.wire = None;
        }
        let mine = self.inherited == 0;
        self.inherited = self.inherited.saturating_sub(1);
        Ok(mine.then_some(result))
    }

    fn timeout(&self) -> RPCError<TypeConfig> {
        let target = self.lane.header().target.map_or(0, |target| target.id);
        let timeout = Duration::from_millis(APPEND_ANSWER_MS_MAX);
        Timeout { action: openraft::RPCTypes::AppendEntries, id: self.lanes.own_id(), target, timeout }.into()
    }
}

async fn open(lane: &Lane) -> Result<Wire, RPCError<TypeConfig>> {
    let attempt = lane.gate.pass().await;
    let opened = tokio::time::timeout(Duration::from_millis(APPEND_OPEN_MS_MAX), Wire::open(lane)).await;
    let reason = match opened {
        Ok(Ok(wire)) => {
            attempt.goes_on();
            return Ok(wire);
        }
        Ok(Err(status)) => super::reason(&status),
        Err(_) => format!("no stream within {APPEND_OPEN_MS_MAX} ms"),
    };
    attempt.failed(&reason);
    Err(convert::unreachable(reason).into())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
