//! What is applied is published once it is durable here; what cannot be restored whole is not restored.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::storage::RaftStateMachine as _;
use openraft::{EntryPayload, RaftSnapshotBuilder as _};
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
use crate::storage::snapshot_files::SNAPSHOT_LEAVES_BYTES;
use crate::storage::{Directory, OnFatal, Room, Settings, SnapshotFiles, Work};

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

/// A machine that has applied something, on a disk that answers so when it is asked for its room. It must not be ended.
async fn machine_on(folder: &Path, room: Room) -> (StateMachine, watch::Sender<Durable>) {
    let snapshots = SnapshotFiles::open_with(folder, room).unwrap();
    let (log, durable) = watch::channel(Durable { below: 9 });
    let on_fatal = OnFatal::call(|error| panic!("it ends: {error}"));
    let mut machine = StateMachine::restore(snapshots, durable, Work::Inline, on_fatal).unwrap();
    machine.room_again_after = Duration::from_millis(10);
    machine.apply(futures::stream::iter([membership(0), identity(1)].map(|entry| Ok((entry, None))))).await.unwrap();
    (machine, log)
}

#[tokio::test]
async fn a_snapshot_without_room_ends_nothing_and_is_made_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(SNAPSHOT_LEAVES_BYTES));
    let (asked, mut asks) = watch::channel(0);
    let answer = Arc::clone(&free);
    let room = Room::call(move |_| {
        asked.send_modify(|times| *times += 1);
        Ok(answer.load(Ordering::Relaxed))
    });
    let (mut machine, _log) = machine_on(folder.path(), room).await;
    let applied = machine.applied();
    let mut builder = machine.try_create_snapshot_builder(false).await.unwrap();
    let mut building = Box::pin(builder.build_snapshot());
    tokio::select! {
        ended = &mut building => panic!("Raft would take this for the end of its storage: {:?}", ended.map(drop)),
        again = tokio::time::timeout(SOON, asks.wait_for(|times| *times == 3)) => drop(again.unwrap().unwrap()),
    }
    assert!(applied.snapshots_without_room() >= 2);
    assert!(machine.get_current_snapshot().await.unwrap().is_none());

    let entry = Entry { log_id: log_id_at(at(2)), payload: EntryPayload::Blank };
    machine.apply(futures::stream::iter([Ok((entry, None))])).await.unwrap();
    free.store(u64::MAX, Ordering::Relaxed);
    let made = tokio::time::timeout(SOON, building).await.unwrap().unwrap();
    assert_eq!(made.meta.last_log_id, Some(log_id_at(at(2))), "of what is applied by then");
    assert_eq!(machine.get_current_snapshot().await.unwrap().unwrap().meta, made.meta);
}

#[tokio::test]
async fn a_disk_that_fills_up_while_a_snapshot_is_written_ends_nothing_and_no_part_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    // There is room when it begins and none when it is written, then none when it begins, then as much as it likes.
    let answers = [u64::MAX, SNAPSHOT_LEAVES_BYTES, SNAPSHOT_LEAVES_BYTES, u64::MAX].map(Some);
    let left = Arc::new(Mutex::new((VecDeque::from(answers), Vec::new())));
    let disk = Arc::clone(&left);
    let room = Room::call(move |_| {
        let (answers, files) = &mut *disk.lock().unwrap();
        files.push(std::fs::read_dir(&path).unwrap().count());
        Ok(answers.pop_front().flatten().unwrap_or(u64::MAX))
    });
    let (mut machine, _log) = machine_on(folder.path(), room).await;
    let applied = machine.applied();
    let mut builder = machine.try_create_snapshot_builder(false).await.unwrap();
    tokio::time::timeout(SOON, builder.build_snapshot()).await.unwrap().unwrap();
    assert_eq!(applied.snapshots_without_room(), 2);
    assert_eq!(left.lock().unwrap().1[..4], [0, 1, 0, 0], "files when it was asked for room");
}

#[tokio::test]
async fn a_snapshot_that_waits_for_room_writes_nothing_once_its_log_is_closed_and_a_needed_one_does_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (mut machine, log) = machine_on(folder.path(), Room::call(|_| Ok(0))).await;
    machine.room_again_after = 10 * SOON;
    let mut needed = machine.try_create_snapshot_builder(true).await.unwrap();
    let refused = tokio::time::timeout(SOON, needed.build_snapshot()).await.unwrap().map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull, "{refused}");

    let mut builder = machine.try_create_snapshot_builder(false).await.unwrap();
    let mut building = Box::pin(builder.build_snapshot());
    assert!(futures::poll!(&mut building).is_pending());
    drop(log);
    let ended = tokio::time::timeout(SOON, building).await.unwrap().map(drop).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::BrokenPipe, "{ended}");
}
