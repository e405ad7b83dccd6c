//! openraft's own storage suite, on sled and on the twin in memory.
//!
//! The suite makes nodes by `Default`, which a [`Member`] deliberately does not have: an adapter gives the suite a node
//! without content, and the store a member record made of its id. Everything else passes through unchanged.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::alias::{EntryOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt as _;
use openraft::{EntryPayload, OptionalSend, RaftLogReader, RaftSnapshotBuilder, StorageError};
use tokio::sync::watch;

use super::log_store::{Durable, LogStore};
use super::snapshot::Meta;
use super::state_machine::{SnapshotBuilder, StateMachine};
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::domain::command::{Command, Outcome};
use crate::domain::ids::{ControllerId, ControllerName, Incarnation};
use crate::domain::membership::Member;
use crate::domain::state::LogPosition;
use crate::storage::{Directory, Flusher, MemoryLog, OnFatal, Settings, SnapshotFile, SnapshotFiles, Work};

/// A node as the suite makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SuiteNode;

openraft::declare_raft_types!(
    /// As [`TypeConfig`], but for the node.
    SuiteConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = SuiteNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

type SuiteEntry = EntryOf<SuiteConfig>;
type SuiteMembership = openraft::Membership<u64, SuiteNode>;

fn member(id: u64) -> Member {
    let endpoint = |port: u64| vec![format!("http://10.0.0.{id}:{port}").parse().unwrap()];
    Member {
        id: ControllerId::new(id).unwrap(),
        name: ControllerName::new(format!("controller-{id}")).unwrap(),
        incarnation: Incarnation::from_u128(u128::from(id)),
        peer: endpoint(7001),
        router: endpoint(7002),
        admin: endpoint(7003),
        keys: Vec::new(),
    }
}

fn store_membership(membership: &SuiteMembership) -> openraft::Membership<u64, Member> {
    let nodes: BTreeMap<u64, Member> = membership.nodes().map(|(id, _)| (*id, member(*id))).collect();
    openraft::Membership::new(membership.get_joint_config().clone(), nodes).unwrap()
}

fn suite_membership(membership: &openraft::Membership<u64, Member>) -> SuiteMembership {
    let nodes: BTreeMap<u64, SuiteNode> = membership.nodes().map(|(id, _)| (*id, SuiteNode)).collect();
    openraft::Membership::new(membership.get_joint_config().clone(), nodes).unwrap()
}

fn store_entry(entry: SuiteEntry) -> Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => EntryPayload::Blank,
        EntryPayload::Normal(command) => EntryPayload::Normal(command),
        EntryPayload::Membership(membership) => EntryPayload::Membership(store_membership(&membership)),
    };
    Entry { log_id: entry.log_id, payload }
}

fn suite_entry(entry: Entry) -> SuiteEntry {
    let payload = match entry.payload {
        EntryPayload::Blank => EntryPayload::Blank,
        EntryPayload::Normal(command) => EntryPayload::Normal(command),
        EntryPayload::Membership(membership) => EntryPayload::Membership(suite_membership(&membership)),
    };
    SuiteEntry { log_id: entry.log_id, payload }
}

fn suite_stored(stored: &StoredMembershipOf<TypeConfig>) -> StoredMembershipOf<SuiteConfig> {
    StoredMembershipOf::<SuiteConfig>::new(*stored.log_id(), suite_membership(stored.membership()))
}

fn suite_snapshot(snapshot: SnapshotOf<TypeConfig, SnapshotFile>) -> SnapshotOf<SuiteConfig, SnapshotFile> {
    let meta = SnapshotMetaOf::<SuiteConfig> {
        last_log_id: snapshot.meta.last_log_id,
        last_membership: suite_stored(&snapshot.meta.last_membership),
    };
    SnapshotOf::<SuiteConfig, _> { meta, snapshot: snapshot.snapshot }
}

#[derive(Clone)]
struct SuiteLog(LogStore);

impl RaftLogReader<SuiteConfig> for SuiteLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<SuiteEntry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.0.try_get_log_entries(range).await?.into_iter().map(suite_entry).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<SuiteEntry>, io::Error> {
        Ok(self.0.limited_get_log_entries(start, end).await?.into_iter().map(suite_entry).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.0.read_vote().await
    }
}

impl RaftLogStorage<SuiteConfig> for SuiteLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<SuiteConfig>, io::Error> {
        let state = self.0.get_log_state().await?;
        Ok(LogState { last_purged_log_id: state.last_purged_log_id, last_log_id: state.last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<SuiteConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = SuiteEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (told, flushed) = TypeConfig::oneshot();
        tokio::spawn(async move { callback.io_completed(flushed.await.unwrap()) });
        let entries: Vec<Entry> = entries.into_iter().map(store_entry).collect();
        self.0.append(entries, IOFlushed::signal(told)).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.0.truncate_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.0.purge(log_id).await
    }
}

struct SuiteMachine(StateMachine, SnapshotFiles);

struct SuiteBuilder(SnapshotBuilder, SnapshotFiles);

impl RaftSnapshotBuilder<SuiteConfig> for SuiteBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<SuiteConfig, SnapshotFile>, io::Error> {
        match self.0.build_snapshot().await {
            Ok(snapshot) => Ok(suite_snapshot(snapshot)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(self.of_nothing()),
            Err(error) => Err(error),
        }
    }
}

impl SuiteBuilder {
    /// The suite purges a log of which nothing was applied, and wants a snapshot of that. Ours refuses: what is absent
    /// must never become known to be empty. One case gets a stand-in here.
    fn of_nothing(&self) -> SnapshotOf<SuiteConfig, SnapshotFile> {
        let file = self.1.create(LogPosition { term: 0, index: 0 }, 0).unwrap().finish().unwrap();
        SnapshotOf::<SuiteConfig, _> { meta: SnapshotMetaOf::<SuiteConfig>::default(), snapshot: file }
    }
}

impl RaftStateMachine<SuiteConfig> for SuiteMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SuiteBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembershipOf<SuiteConfig>), io::Error> {
        let (applied, stored) = self.0.applied_state().await?;
        Ok((applied, suite_stored(&stored)))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<SuiteConfig>, io::Error>> + Unpin + OptionalSend,
    {
        // Nobody waits for an outcome in the suite.
        let entries = entries.map(|entry| entry.map(|(entry, _)| (store_entry(entry), None)));
        self.0.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> SuiteBuilder {
        SuiteBuilder(self.0.get_snapshot_builder().await, self.1.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<SuiteConfig>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let stored = &meta.last_membership;
        let membership = store_membership(stored.membership());
        let last_membership = StoredMembershipOf::<TypeConfig>::new(*stored.log_id(), membership);
        self.0.install_snapshot(&Meta { last_log_id: meta.last_log_id, last_membership }, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<SuiteConfig, SnapshotFile>>, io::Error> {
        Ok(self.0.get_current_snapshot().await?.map(suite_snapshot))
    }
}

/// The suite applies entries that it never appended: all of them count as durable.
fn everything_durable() -> watch::Receiver<Durable> {
    watch::Sender::new(Durable { below: u64::MAX }).subscribe()
}

fn settings() -> Settings {
    Settings { on_fatal: OnFatal::call(|error| panic!("{error}")), ..Settings::default() }
}

struct OnSled;

impl StoreBuilder<SuiteConfig, SuiteLog, SuiteMachine, tempfile::TempDir> for OnSled {
    async fn build(&self) -> Result<(tempfile::TempDir, SuiteLog, SuiteMachine), StorageError<SuiteConfig>> {
        let guard = tempfile::tempdir().unwrap();
        let directory = Directory::open_with(&guard.path().join("data"), settings()).unwrap();
        let log = LogStore::open(&directory).unwrap();
        let (work, on_fatal) = (directory.work(), directory.on_fatal());
        let machine = StateMachine::restore(directory.snapshots(), everything_durable(), work, on_fatal).unwrap();
        Ok((guard, SuiteLog(log), SuiteMachine(machine, directory.snapshots())))
    }
}

struct InMemory(Work);

impl StoreBuilder<SuiteConfig, SuiteLog, SuiteMachine, tempfile::TempDir> for InMemory {
    async fn build(&self) -> Result<(tempfile::TempDir, SuiteLog, SuiteMachine), StorageError<SuiteConfig>> {
        let guard = tempfile::tempdir().unwrap();
        let on_fatal = settings().on_fatal;
        let flusher = Flusher::start(Arc::new(MemoryLog::new()), self.0, on_fatal.clone()).unwrap();
        let log = LogStore::on(flusher).unwrap();
        let snapshots = SnapshotFiles::open(guard.path()).unwrap();
        let machine = StateMachine::restore(snapshots.clone(), everything_durable(), self.0, on_fatal).unwrap();
        Ok((guard, SuiteLog(log), SuiteMachine(machine, snapshots)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_s_storage_suite_passes_on_sled() {
    Suite::test_all(OnSled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_s_storage_suite_passes_in_memory() {
    Suite::test_all(InMemory(Work::Threads)).await.unwrap();
}

#[tokio::test]
async fn openraft_s_storage_suite_passes_in_memory_without_threads() {
    Suite::test_all(InMemory(Work::Inline)).await.unwrap();
}
