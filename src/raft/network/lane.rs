//! One connection to one member for one purpose. A large append or a snapshot never stands in a heartbeat's way, and
//! after each failure there is a pause: Raft's library does not make one while a connection cannot be had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::dial::{self, Addresses};
use crate::domain::controller_list::CONTROLLERS_MAX;
use crate::domain::ids::{ControllerId, Incarnation};
use crate::domain::membership::Member;
use crate::domain::retry::{self, Backoff};
use crate::proto::peer::Header;
use crate::proto::peer::raft_peer_client::RaftPeerClient;
use crate::raft::identity::Identity;
use crate::raft::settings::Seams;

/// The same failure is logged at most this often for one lane.
const COMPLAINT_EVERY: Duration = Duration::from_secs(30);
/// Most different failures of one lane that are logged within that time.
const COMPLAINTS_MAX: usize = 4;

/// Once there are this many lanes, those of former members go: a full cluster has no more.
const LANES_MAX: usize = CONTROLLERS_MAX * 5;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::raft) enum Purpose {
    /// Votes and leadership.
    Control,
    /// Heartbeats.
    Heartbeat,
    /// Log entries.
    Replication,
    /// Snapshots.
    Snapshot,
    /// Whatever else controllers say to each other.
    Relay,
}

/// Looks a member up in the newest applied membership.
pub(in crate::raft) type Records = Arc<dyn Fn(ControllerId) -> Option<Member> + Send + Sync>;

/// All connections of one controller to the others: one for each member and purpose.
pub(in crate::raft) struct Lanes {
    me: Identity,
    seams: Seams,
    records: Records,
    open: Mutex<BTreeMap<(ControllerId, Purpose), Arc<Lane>>>,
}

impl Lanes {
    pub(in crate::raft) fn new(me: Identity, seams: Seams, records: Records) -> Self {
        Self { me, seams, records, open: Mutex::default() }
    }

    /// The lane to a member. `record` is what the caller knows of it, which may be newer than what is applied here.
    pub(in crate::raft) fn lane(&self, record: &Member, purpose: Purpose) -> Arc<Lane> {
        let key = (record.id, purpose);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = open.get(&key).filter(|lane| lane.incarnation_is(record)) {
            lane.learn(record);
            return Arc::clone(lane);
        }
        if open.len() >= LANES_MAX {
            open.retain(|(id, _), _| *id == record.id || (self.records)(*id).is_some());
        }
        let lane = Arc::new(Lane::new(self, record));
        open.insert(key, Arc::clone(&lane));
        lane
    }

    /// A member spoke just now: there is no reason to wait before it is spoken to.
    pub(in crate::raft) fn heard_from(&self, id: ControllerId) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, lane) in open.range((id, Purpose::Control)..=(id, Purpose::Relay)) {
            lane.gate.open();
        }
    }

    pub(super) fn time_ms(&self) -> u64 {
        (self.seams.clock)()
    }

    pub(super) fn own_id(&self) -> u64 {
        self.me.id.map_or(0, ControllerId::get)
    }
}

/// One connection to one member for one purpose.
pub(in crate::raft) struct Lane {
    channel: Channel,
    header: Header,
    incarnation: Incarnation,
    record: Arc<Mutex<Member>>,
    pub(super) gate: Gate,
}

impl Lane {
    fn new(lanes: &Lanes, record: &Member) -> Self {
        let known = Arc::new(Mutex::new(record.clone()));
        let addresses = addresses(Arc::clone(&lanes.records), record.id, Arc::clone(&known));
        Self {
            channel: dial::channel(Arc::clone(&lanes.seams.dialer), Some(record.id), addresses),
            header: lanes.me.header_to(record),
            incarnation: record.incarnation,
            record: known,
            gate: Gate::new(record.id, Arc::clone(&lanes.seams.random)),
        }
    }

    fn incarnation_is(&self, record: &Member) -> bool {
        self.incarnation == record.incarnation
    }

    fn learn(&self, record: &Member) {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone_from(record);
    }

    pub(super) fn header(&self) -> Header {
        self.header.clone()
    }

    pub(in crate::raft) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn client(&self) -> RaftPeerClient<Channel> {
        super::limited(self.channel.clone())
    }
}

/// The newest applied record says where a member is; before the first one that names it, the caller's record does.
fn addresses(records: Records, id: ControllerId, known: Arc<Mutex<Member>>) -> Addresses {
    Arc::new(move || match records(id) {
        Some(applied) => applied.peer,
        None => known.lock().unwrap_or_else(PoisonError::into_inner).peer.clone(),
    })
}

/// Lets nobody through for a while after a failure, longer each time, with jitter.
pub(super) struct Gate {
    to: ControllerId,
    random: Arc<dyn Fn() -> u32 + Send + Sync>,
    state: Mutex<Pause>,
    opened: Notify,
}

#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
    said: Vec<(Instant, String)>,
}

impl Gate {
    fn new(to: ControllerId, random: Arc<dyn Fn() -> u32 + Send + Sync>) -> Self {
        Self { to, random, state: Mutex::default(), opened: Notify::new() }
    }

    /// Waits until the pause after the last failure is over.
    pub(super) async fn pass(&self) -> Attempt<'_> {
        loop {
            let opened = self.opened.notified();
            let Some(until) = self.pause().until.filter(|until| *until > Instant::now()) else {
                return Attempt { gate: self, decided: false };
            };
            tokio::select! {
                biased;
                () = opened => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// It did not work. The next one waits.
    pub(super) fn failed(&self, reason: &str) {
        let mut pause = self.pause();
        let now = Instant::now();
        pause.until = Some(now + retry::delay(Backoff::PEER, pause.failures, (self.random)()));
        pause.failures = pause.failures.saturating_add(1);
        pause.said.retain(|(at, _)| *at + COMPLAINT_EVERY > now);
        if pause.said.len() < COMPLAINTS_MAX && !pause.said.iter().any(|(_, said)| said == reason) {
            tracing::warn!(controller = self.to.get(), reason, "cannot speak to a controller; it is tried again");
            pause.said.push((now, reason.to_owned()));
        }
    }

    /// It worked.
    pub(super) fn succeeded(&self) {
        let mut pause = self.pause();
        if pause.failures > 0 {
            tracing::info!(controller = self.to.get(), "a controller can be spoken to again");
            *pause = Pause::default();
        }
    }

    /// Ends the pause. The next failure makes one as long as it would have been.
    fn open(&self) {
        if self.pause().until.take().is_some() {
            self.opened.notify_waiters();
        }
    }

    fn pause(&self) -> std::sync::MutexGuard<'_, Pause> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody speaks to the member. One who gives up before there is an outcome has failed: Raft's library drops what
/// takes too long, and without a pause a member that hangs would be asked anew ten times a second.
pub(super) struct Attempt<'g> {
    gate: &'g Gate,
    decided: bool,
}

impl Attempt<'_> {
    /// It worked.
    pub(super) fn succeeded(mut self) {
        self.decided = true;
        self.gate.succeeded();
    }

    /// It did not work. The next one waits.
    pub(super) fn failed(mut self, reason: &str) {
        self.decided = true;
        self.gate.failed(reason);
    }

    /// It got as far as it goes by itself; what follows decides.
    pub(super) fn goes_on(mut self) {
        self.decided = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.decided {
            self.gate.failed("no answer in time");
        }
    }
}
