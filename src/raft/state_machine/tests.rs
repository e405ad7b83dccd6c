//! What is applied is published once it is durable here; what cannot be restored whole is not restored.

use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::RaftStateMachine as _;
use tokio::sync::watch;

use super::{RestoreError, StateMachine};
use crate::domain::command::{Change, Command};
use crate::domain::controller_list::{ClusterIdentity, Epoch, ListState};
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::{ClusterId, ControllerId, Incarnation};
use crate::domain::membership::{Member, Membership};
use crate::domain::state::LogPosition;
use crate::raft::codec::{log_id_at, membership_to_raft};
use crate::raft::log_store::{Durable, LogStore};
use crate::raft::types::Entry;
use crate::storage::{Directory, OnFatal, Settings, Work};

/// Longest time in which something that may happen does.
const SOON: Duration = Duration::from_secs(10);

fn at(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

fn membership(index: u64) -> Entry {
    let id = ControllerId::new(1).unwrap();
    let endpoint = |port| vec![format!("http://10.0.0.1:{port}").parse().unwrap()];
    let member = Member {
        id,
        name: "controller-1".parse().unwrap(),
        incarnation: Incarnation::from_u128(1),
        peer: endpoint(7001),
        router: endpoint(7002),
        admin: endpoint(7003),
        keys: Vec::new(),
    };
    let membership = membership_to_raft(&Membership::new(vec![[id].into()], [member])).unwrap();
    Entry { log_id: log_id_at(at(index)), payload: EntryPayload::Membership(membership) }
}

fn identity(index: u64) -> Entry {
    let identity = ClusterIdentity { cluster: ClusterId::from_u128(7), epoch: Epoch::FIRST, recovery: None };
    let command = Command { time_ms: 1, change: Change::Found { identity, level: FeatureLevel::ONE } };
    Entry { log_id: log_id_at(at(index)), payload: EntryPayload::Normal(command) }
}

#[tokio::test]
async fn a_list_is_published_only_once_its_entry_is_on_this_disk() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = crate::storage::SnapshotFiles::open(folder.path()).unwrap();
    let (disk, durable) = watch::channel(Durable { below: 1 });
    let mut machine = StateMachine::restore(snapshots, durable, Work::Inline, OnFatal::call(|_| {})).unwrap();
    let lists = machine.applied().lists();
    let entries = [membership(0), identity(1)].map(|entry| Ok((entry, None)));
    let mut applying = Box::pin(machine.apply(futures::stream::iter(entries)));
    assert!(futures::poll!(&mut applying).is_pending(), "the entry that makes the list is not on this disk");
    assert!(
        matches!(&**lists.borrow(), ListState::Unknown),
        "a majority of others may have it; this one may forget it"
    );
    disk.send_replace(Durable { below: 2 });
    tokio::time::timeout(SOON, applying).await.unwrap().unwrap();
    assert!(matches!(&**lists.borrow(), ListState::Known(list) if list.controllers().len() == 1));
}

#[test]
fn a_log_that_begins_behind_the_newest_snapshot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { on_fatal: OnFatal::call(|_| {}), ..Settings::default() };
    let directory = Directory::open_with(folder.path(), settings).unwrap();
    directory.log().purge_to(at(9)).unwrap();
    let log = LogStore::open(&directory).unwrap();
    let refused = StateMachine::open(&directory, &log).unwrap_err();
    assert!(matches!(refused, RestoreError::Gap { covered: None, purged: 9 }), "{refused}");
    assert!(refused.to_string().contains("restore the snapshot"), "{refused}");
}
