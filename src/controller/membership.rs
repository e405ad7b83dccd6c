//! Changes of membership, on the leader: look at the cluster as it is, plan, carry out step by step, and say what
//! happens. What may be done is `domain::membership`'s to decide; how a step is done is Raft's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::Instant;

use super::admin::passed;
use super::backend::Backend;
use super::cluster_status::LIVE_WITHIN;
use super::relay;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::ControllerId;
use crate::domain::membership::{CAUGHT_UP_LAG_ENTRIES_MAX, Current, Member, Plan, Refusal, Request, Step, plan};
use crate::domain::state::ClusterState;
use crate::proto::admin;
use crate::raft::{ChangeError, PeerError, PeerRecord};
use crate::rpc::client;
use crate::rpc::control_plane::AdminError;
use crate::rpc::convert::change::Asked;
use crate::rpc::list_codec;

/// Longest wait for a learner to catch up, when the operator asked to wait.
pub(super) const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);
/// How often progress is looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the operator hears that the wait goes on.
const SAY_EVERY: Duration = Duration::from_secs(2);

type Report = mpsc::Sender<Result<admin::ChangeProgress, AdminError>>;

/// Tells the operator what happens. An operator who went away does not stop the change.
#[derive(Clone)]
struct Narrator(Report);

impl Narrator {
    async fn say(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::info!("membership change: {message}");
        let _ = self.0.send(Ok(admin::ChangeProgress { message, ..Default::default() })).await;
    }

    async fn end(&self, end: Result<admin::ChangeProgress, AdminError>) {
        if let Err(error) = &end {
            tracing::warn!(%error, "membership change ended");
        }
        let _ = self.0.send(end).await;
    }
}

/// Makes one change, on the leader.
pub(super) async fn run(
    backend: Arc<Backend>,
    turn: OwnedMutexGuard<()>,
    asked: Asked,
    wire: admin::ChangeRequest,
    hops: u32,
    report: Report,
) {
    let narrator = Narrator(report);
    let change = Changing { backend: &backend, narrator: narrator.clone(), wait: wire.wait };
    let end = match change.make(asked).await {
        Ok(End::Done(member)) => Ok(change.done(member)),
        // Leadership went to another controller as the first step: the rest is its to do.
        Ok(End::HandedOver(leader)) => {
            drop(turn);
            return hand_on(&backend, leader, wire, hops, narrator).await;
        }
        Err(error) => Err(error),
    };
    drop(turn);
    narrator.end(end).await;
}

async fn hand_on(backend: &Backend, leader: ControllerId, wire: admin::ChangeRequest, hops: u32, narrator: Narrator) {
    let stream = match backend.client_of(leader, hops) {
        Ok(mut client) => client.change(wire).await.map_err(|error| passed(leader, error)),
        Err(error) => Err(error),
    };
    match stream {
        Ok(stream) => pass_on(leader, stream, narrator.0).await,
        Err(error) => narrator.end(Err(error)).await,
    }
}

/// Passes the progress on of what another controller does.
pub(super) async fn pass_on<M>(
    leader: ControllerId,
    mut stream: client::Progress<M>,
    report: mpsc::Sender<Result<M, AdminError>>,
) {
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            // The leader hears of it by the end of this stream.
            () = report.closed() => return,
        };
        match next {
            Ok(Some(progress)) => {
                if report.send(Ok(progress)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                let _ = report.send(Err(passed(leader, error))).await;
                return;
            }
        }
    }
}

enum End {
    Done(ControllerId),
    HandedOver(ControllerId),
}

struct Changing<'a> {
    backend: &'a Arc<Backend>,
    narrator: Narrator,
    wait: bool,
}

impl Changing<'_> {
    async fn make(&self, asked: Asked) -> Result<End, AdminError> {
        self.backend.barrier().await?;
        self.backend.await_first_answers().await;
        let (request, added) = match asked {
            Asked::Add { peer } => {
                let member = self.newcomer(&peer).await?;
                (Request::Add(member.clone()), Some(member.id))
            }
            Asked::Change(request) => (request, None),
        };
        if let (Request::Promote(id), true) = (&request, self.wait) {
            self.await_caught_up(*id).await?;
        }
        let plan = self.plan(&request)?;
        if let Some(next) = self.carry_out(plan).await? {
            return Ok(End::HandedOver(next));
        }
        if let (Some(id), true) = (added, self.wait) {
            self.await_caught_up(id).await?;
        }
        Ok(End::Done(added.unwrap_or_else(|| subject(&request))))
    }

    fn done(&self, member: ControllerId) -> admin::ChangeProgress {
        let live: BTreeSet<_> = self.backend.node().status().borrow().live(LIVE_WITHIN).collect();
        let tolerance = |state: &ClusterState| {
            state.membership.as_ref().map_or(0, |applied| applied.membership.failure_tolerance(&live))
        };
        admin::ChangeProgress {
            message: "done".to_owned(),
            done: true,
            member: member.get(),
            failure_tolerance: u32::try_from(self.backend.node().read(tolerance)).unwrap_or(u32::MAX),
        }
    }

    /// The record of the blank controller at an address, under an id that was never used.
    async fn newcomer(&self, peer: &Endpoint) -> Result<Member, AdminError> {
        let refuse =
            |reason: String, hint: &str| AdminError::NotAddable { peer: peer.to_string(), reason, hint: hint.into() };
        self.narrator.say(format!("asking {peer} who it is")).await;
        let absent = |why: PeerError| {
            refuse(
                why.to_string(),
                "start the controller there with `join = true`, and name its peer port (listen.peer)",
            )
        };
        let record = self.backend.node().identify(peer, None).await.map_err(absent)?;
        let known = self.backend.node().read(|state| {
            let applied = state.membership.as_ref()?;
            applied.membership.members().find(|m| m.incarnation == record.incarnation).map(|m| m.id)
        });
        if let Some(id) = known {
            return Err(Refusal::AlreadyMember { id }.into());
        }
        let taken = self.taken_before(&record);
        let taken = taken.map_err(|reason| refuse(reason, "wipe its data directory first"))?;
        if !record.joins {
            return Err(refuse("it does not wait to be added".into(), "set join = true in its configuration"));
        }
        let build = record.announcement(record.id.unwrap_or_else(|| self.backend.node().read(next_id)));
        let fits = self.backend.node().read(|state| state.judge_build(&build));
        fits.map_err(|why| refuse(why.to_string(), &why.hint()))?;
        for advertised in &record.peer {
            let same = self.backend.node().identify(advertised, record.id).await.map_err(|why| {
                refuse(format!("it advertises {advertised}, where nobody answers ({why})"), "correct advertise.peer")
            })?;
            if same.incarnation != record.incarnation {
                let reason = format!("it advertises {advertised}, where {} listens", same.name);
                return Err(refuse(reason, "correct advertise.peer"));
            }
        }
        // A certificate is for one id: whoever has one takes no other. The plan refuses an id that was ever used.
        let id = taken.or(record.id).unwrap_or_else(|| self.backend.node().read(next_id));
        Ok(record.member(id))
    }

    /// The id that it took in an earlier attempt to add it, which then failed: it took it durably, and keeps it. One
    /// that has seen an entry was a member, and whoever was one does not come back.
    fn taken_before(&self, record: &PeerRecord) -> Result<Option<ControllerId>, String> {
        let Some((cluster, epoch)) = record.cluster else { return Ok(None) };
        let unused = |id: &ControllerId| self.backend.node().read(|state| !state.used_ids.contains(id));
        let ours = self.backend.node().me().cluster == Some((cluster, epoch)) && record.last_log.is_none();
        match record.id.filter(unused) {
            Some(id) if ours => Ok(Some(id)),
            _ => Err(format!("it belongs to cluster {cluster} already")),
        }
    }

    fn plan(&self, request: &Request) -> Result<Plan, AdminError> {
        let raft = self.backend.node().status().borrow().clone();
        let leader = raft.id.filter(|_| raft.leads()).ok_or(AdminError::NoLeader)?;
        let live: BTreeSet<_> = raft.live(LIVE_WITHIN).collect();
        let lag_entries: BTreeMap<_, _> =
            raft.members.keys().filter_map(|id| Some((*id, raft.lag_entries(*id)?))).collect();
        let newest = self.backend.hub().newest();
        let judge = |list: &crate::domain::controller_list::ControllerList| {
            list_codec::judge(list, newest.as_deref().map(list_codec::Publication::held))
        };
        self.backend.node().read(|state| {
            let (Some(applied), Some(identity)) = (&state.membership, &state.identity) else {
                return Err(AdminError::NoLeader);
            };
            let current = Current {
                membership: &applied.membership,
                position: applied.position,
                identity,
                used_ids: &state.used_ids,
                leader,
                live: &live,
                lag_entries: &lag_entries,
            };
            Ok(plan(&current, request, &judge)?)
        })
    }

    /// Whom leadership was handed to, if that was the first step: then the rest is not done here.
    async fn carry_out(&self, plan: Plan) -> Result<Option<ControllerId>, AdminError> {
        let mut precondition = plan.precondition;
        for step in &plan.steps {
            let what = describe(step);
            self.narrator.say(what.clone()).await;
            match step {
                Step::HandOver { to } => {
                    self.backend.node().hand_over(*to).await.map_err(|why| failed(&what, &why))?;
                    return Ok(Some(*to));
                }
                Step::TellRemoved(member) => {
                    if let Err(status) = relay::tell_removed(self.backend.node(), member).await {
                        let why = status.message();
                        self.narrator.say(format!("it could not be told, and will find out by itself: {why}")).await;
                    }
                }
                step => {
                    let done = self.backend.node().carry_out(step, precondition).await;
                    precondition = done.map_err(|why| failed(&what, &why))?;
                }
            }
        }
        Ok(None)
    }

    /// Until the leader hears the member, and it lags by no more than a promotion allows.
    async fn await_caught_up(&self, id: ControllerId) -> Result<(), AdminError> {
        let deadline = Instant::now() + CATCH_UP_WITHIN;
        let mut say_at = Instant::now();
        loop {
            let raft = self.backend.node().status().borrow().clone();
            if !raft.leads() {
                return Err(AdminError::NoLeader);
            }
            let lag = raft.lag_entries(id).filter(|_| raft.live(LIVE_WITHIN).any(|live| live == id));
            if lag.is_some_and(|lag| lag <= CAUGHT_UP_LAG_ENTRIES_MAX) {
                return Ok(());
            }
            let member = |state: &ClusterState| {
                state.membership.as_ref().is_some_and(|applied| applied.membership.member(id).is_some())
            };
            if !self.backend.node().read(member) {
                return Err(Refusal::NotAMember { id }.into());
            }
            if Instant::now() >= deadline {
                return Err(Refusal::NotCaughtUp { id, lag_entries: lag }.into());
            }
            if Instant::now() >= say_at {
                let lag = lag.map_or_else(|| "is not heard yet".into(), |lag| format!("lags by {lag} entries"));
                self.narrator.say(format!("waiting for controller {id} to catch up: it {lag}")).await;
                say_at = Instant::now() + SAY_EVERY;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// One above the highest that was ever used.
pub(super) fn next_id(state: &ClusterState) -> ControllerId {
    let highest = state.used_ids.last().map_or(0, |id| id.get());
    ControllerId::new(highest.saturating_add(1)).expect("one above anything is not 0")
}

fn subject(request: &Request) -> ControllerId {
    match request {
        Request::Add(member) => member.id,
        Request::Promote(id) | Request::Demote(id) | Request::Remove(id) | Request::Readdress { id, .. } => *id,
    }
}

fn describe(step: &Step) -> String {
    let ids = |ids: &BTreeSet<ControllerId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match step {
        Step::HandOver { to } => format!("handing leadership to controller {to}"),
        Step::AddLearner(member) => format!("adding {} as learner {}", member.name, member.id),
        Step::SetVoters(voters) => format!("changing the voters to {}", ids(voters)),
        Step::AwaitApplied(id) => format!("waiting until controller {id} has applied this"),
        Step::ReplaceMember(member) => format!("changing the addresses of controller {}", member.id),
        Step::ConfirmAddresses { id, .. } => format!("making sure that controller {id} is at its new addresses"),
        Step::RemoveLearner(id) => format!("removing controller {id}"),
        Step::TellRemoved(member) => format!("telling controller {} that it was removed", member.id),
    }
}

fn failed(step: &str, why: &ChangeError) -> AdminError {
    match why {
        ChangeError::InProgress => Refusal::ChangeInProgress.into(),
        why => AdminError::StepFailed { step: step.to_owned(), reason: why.to_string() },
    }
}
