//! The data directory under faults: every step of saving can fail, every file can be damaged, and a list always stays.

use std::fs;

use super::*;
use crate::router::samples::{CLUSTER, FailingDisk, generation, id, list_of};

fn open(dir: &Path) -> Loaded {
    Generations::open(dir, Arc::new(HostDisk)).unwrap().1
}

fn trust_in(list: &Generation) -> Trust {
    let mut trust = Trust::default();
    trust.raise(list);
    trust
}

/// A directory with list 5 saved before list 9.
fn saved() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (generations, _) = Generations::open(dir.path(), Arc::new(HostDisk)).unwrap();
    for list in [generation(5, &[1, 2, 3]), generation(9, &[2, 3, 4])] {
        generations.save(&list, &trust_in(&list), &[]).unwrap();
    }
    dir
}

#[test]
fn what_was_saved_is_loaded() {
    let dir = saved();
    let loaded = open(dir.path());
    assert_eq!(loaded.current, Some(generation(9, &[2, 3, 4])));
    assert_eq!(loaded.previous, Some(generation(5, &[1, 2, 3])));
    assert_eq!(loaded.trust.floor, Some(generation(9, &[2, 3, 4]).held.floor()));
    assert_eq!(loaded.trust.retired, [id(1)].into());
    assert!(loaded.set_aside.is_empty());
}

#[test]
fn whatever_step_of_a_save_fails_a_list_stays_and_repeating_it_succeeds() {
    let next = generation(12, &[3, 4, 5]);
    let reserve = [Reserved { id: id(2), endpoints: vec!["http://10.0.0.2:7002".parse().unwrap()] }];
    for steps in 0.. {
        let dir = saved();
        let disk = FailingDisk::after(steps);
        let (generations, _) = Generations::open(dir.path(), disk.clone()).unwrap();
        let outcome = generations.save(&next, &trust_in(&next), &reserve);
        drop(generations);
        let loaded = open(dir.path());
        let current = loaded.current.expect("a list stays");
        assert!(current == next || current == generation(9, &[2, 3, 4]), "after {steps} steps: {current:?}");
        assert!(loaded.set_aside.is_empty(), "after {steps} steps: {:?}", loaded.set_aside);
        assert!(loaded.trust.floor.unwrap().version >= generation(9, &[2, 3, 4]).held.list.version());
        if outcome.is_ok() {
            assert_eq!(current, next, "acknowledged is saved");
            assert!(steps > 5, "the save has several steps, each of which was made to fail");
            return;
        }
        disk.repair();
        let (generations, _) = Generations::open(dir.path(), disk).unwrap();
        generations.save(&next, &trust_in(&next), &reserve).unwrap();
        drop(generations);
        assert_eq!(open(dir.path()).current, Some(next.clone()));
    }
}

/// Damages a file, and says what is loaded then.
fn after(file: &str, damage: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (Loaded, Vec<String>) {
    let dir = saved();
    let path = dir.path().join(file);
    let bytes = damage(fs::read(&path).unwrap());
    fs::write(&path, bytes).unwrap();
    let loaded = open(dir.path());
    let mut names = HostDisk.names(dir.path()).unwrap();
    names.retain(|name| rejected::is_set_aside(name));
    (loaded, names)
}

type Damage = fn(Vec<u8>) -> Vec<u8>;

const DAMAGES: [(&str, Damage); 6] = [
    ("emptied", |_| Vec::new()),
    ("cut", |bytes| bytes[..bytes.len() / 2].to_vec()),
    ("a bit flipped", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    }),
    ("foreign", |_| b"{\"controllers\": []}".to_vec()),
    ("longer than it says", |mut bytes| {
        bytes.push(0);
        bytes
    }),
    ("far too large", |mut bytes| {
        bytes.resize(usize::try_from(frame::FILE_BYTES_MAX).unwrap() + 1, 0);
        bytes
    }),
];

#[test]
fn a_newest_list_that_cannot_be_used_is_set_aside_and_the_previous_one_is_used() {
    for (name, damage) in DAMAGES {
        let (loaded, aside) = after(CURRENT, damage);
        assert_eq!(loaded.current, None, "{name}");
        assert_eq!(loaded.previous, Some(generation(5, &[1, 2, 3])), "{name}");
        assert_eq!(aside.len(), 1, "{name}: kept under another name");
        assert!(aside[0].starts_with("list.current.rejected-"), "{aside:?}");
        let floor = loaded.trust.floor.expect("the floor outlives the list").version;
        assert_eq!(floor, generation(9, &[2, 3, 4]).held.list.version(), "{name}: it may not go back");
    }
}

#[test]
fn a_floor_that_is_lost_is_taken_from_the_lists() {
    for (name, damage) in DAMAGES {
        let (loaded, aside) = after(FLOOR, damage);
        assert_eq!(loaded.current, Some(generation(9, &[2, 3, 4])), "{name}");
        assert_eq!(loaded.trust.floor, Some(generation(9, &[2, 3, 4]).held.floor()), "{name}");
        assert_eq!(aside.len(), 1, "{name}");
    }
}

#[test]
fn every_file_may_be_damaged_at_once_and_the_router_still_starts() {
    let dir = saved();
    for file in FILES {
        fs::write(dir.path().join(file), b"").unwrap();
    }
    let loaded = open(dir.path());
    assert!(loaded.current.is_none() && loaded.previous.is_none());
    assert_eq!(loaded.set_aside.len(), FILES.len());
}

#[test]
fn an_older_list_that_is_fallen_back_to_does_not_bring_back_whom_the_newest_retired() {
    let dir = saved();
    fs::write(dir.path().join(CURRENT), b"").unwrap();
    let loaded = open(dir.path());
    assert_eq!(loaded.previous, Some(generation(5, &[1, 2, 3])), "1 is a member there");
    assert_eq!(loaded.trust.retired, [id(1)].into(), "and was retired since");
}

#[test]
fn a_list_of_another_cluster_is_set_aside() {
    let dir = saved();
    let mut foreign = generation(20, &[1, 2]);
    let list = list_of(CLUSTER + 1, 20, &[1, 2]);
    foreign.bytes = crate::rpc::list_codec::encode(&list, foreign.protocol);
    foreign.held = crate::domain::acceptance::HeldList {
        list: Arc::new(list),
        digest: crate::rpc::list_codec::digest(&foreign.bytes),
    };
    fs::write(dir.path().join(CURRENT), foreign.seal()).unwrap();
    let loaded = open(dir.path());
    assert_eq!((loaded.current, loaded.set_aside.len()), (None, 1));
    assert_eq!(loaded.previous, Some(generation(5, &[1, 2, 3])));
}

#[test]
fn a_directory_that_is_in_use_is_not_touched() {
    let dir = saved();
    let held = Generations::open(dir.path(), Arc::new(HostDisk)).unwrap();
    let refused = Generations::open(dir.path(), Arc::new(HostDisk)).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(held);
    assert!(Generations::open(dir.path(), Arc::new(HostDisk)).is_ok());
}

#[test]
fn a_directory_whose_lock_outlives_its_owner_for_a_moment_is_opened() {
    let dir = saved();
    let lock = fs::File::open(dir.path().join(LOCK)).unwrap();
    lock.lock().unwrap();
    let (_owner, never) = std::sync::mpsc::sync_channel::<()>(0);
    let holder = thread::spawn(move || {
        let _ = never.recv_timeout(Duration::from_millis(100));
        drop(lock);
    });
    assert!(Generations::open(dir.path(), Arc::new(HostDisk)).is_ok());
    holder.join().unwrap();
}

#[test]
fn a_file_left_half_written_by_a_crash_is_not_read() {
    let dir = saved();
    fs::write(dir.path().join(format!("{CURRENT}{TEMPORARY}")), b"half").unwrap();
    let loaded = open(dir.path());
    assert_eq!(loaded.current, Some(generation(9, &[2, 3, 4])));
    assert!(!dir.path().join(format!("{CURRENT}{TEMPORARY}")).exists());
}

#[test]
fn trust_is_the_only_way_to_another_cluster_and_keeps_the_old_files() {
    let dir = saved();
    let other = crate::domain::ids::ClusterId::from_u128(CLUSTER + 1);
    let trusted = trust(dir.path(), other, Floors::Kept).unwrap();
    assert_eq!(trusted.before, Some(crate::domain::ids::ClusterId::from_u128(CLUSTER)));
    assert!(trusted.kept.len() >= 3, "{:?}", trusted.kept);
    let loaded = open(dir.path());
    assert_eq!(loaded.trust, Trust { cluster: Some(other), ..Trust::default() });
    assert!(loaded.current.is_none() && loaded.previous.is_none() && loaded.set_aside.is_empty());
    assert!(matches!(trust(dir.path(), other, Floors::Kept), Err(TrustError::AlreadyTrusted { .. })));
}

#[test]
fn inspecting_reads_and_changes_nothing() {
    let dir = saved();
    fs::write(dir.path().join(CURRENT), b"").unwrap();
    let before = HostDisk.names(dir.path()).unwrap().len();
    let inspection = inspect(dir.path()).unwrap();
    assert_eq!(inspection.in_use().map(|held| held.list.version()), Some(generation(5, &[1]).held.list.version()));
    assert!(matches!(inspection.lists[0].state, FileState::Unusable(_)));
    assert_eq!(HostDisk.names(dir.path()).unwrap().len(), before);
}

/// What a router would start from: list and trust.
fn start(dir: &Path) -> (Option<Generation>, Trust) {
    let loaded = open(dir);
    (loaded.current, loaded.trust)
}

#[test]
fn whatever_step_of_going_over_fails_nothing_was_changed() {
    let other = crate::domain::ids::ClusterId::from_u128(CLUSTER + 1);
    let same = crate::domain::ids::ClusterId::from_u128(CLUSTER);
    for (cluster, floors) in [(other, Floors::Kept), (same, Floors::Reset)] {
        for steps in 0.. {
            let dir = saved();
            let before = start(dir.path());
            let outcome = trust::trust_on(dir.path(), FailingDisk::after(steps), cluster, floors);
            let after = start(dir.path());
            if let Ok(trusted) = outcome {
                assert!(steps > 4, "it has several steps, each of which was made to fail");
                assert_eq!(after.1.cluster, Some(cluster));
                assert_eq!((after.0, after.1.floor), (None, None), "after {steps} steps");
                let kept = trusted.kept.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
                assert!(kept.clone().any(|name| name.starts_with("floor.replaced-")), "{:?}", trusted.kept);
                break;
            }
            assert_eq!(after, before, "after {steps} steps");
        }
    }
}

#[test]
fn a_floor_that_is_far_too_high_can_be_reset_and_nobody_who_was_held_is_forgotten() {
    let dir = saved();
    let same = crate::domain::ids::ClusterId::from_u128(CLUSTER);
    let refused = trust(dir.path(), same, Floors::Kept).unwrap_err();
    assert!(refused.to_string().contains("--reset-floor"), "{refused}");
    let trusted = trust(dir.path(), same, Floors::Reset).unwrap();
    assert_eq!(trusted.floor_before, Some(generation(9, &[2, 3, 4]).held.list.version()));
    assert_eq!(trusted.kept.len(), 3, "{:?}", trusted.kept);
    let loaded = open(dir.path());
    assert_eq!(loaded.trust, Trust { cluster: Some(same), ..Trust::default() });
    let mut reserved: Vec<_> = loaded.reserve.iter().map(|reserved| reserved.id.get()).collect();
    reserved.sort_unstable();
    assert_eq!(reserved, [1, 2, 3, 4]);
}

#[test]
fn a_member_of_the_newest_list_is_not_retired_whatever_earlier_lists_said() {
    let dir = saved();
    // A restore to an earlier state: a higher version that lists 1 again, whom list 9 retired.
    let restored = generation(20, &[1, 2, 3]);
    let (generations, loaded) = Generations::open(dir.path(), Arc::new(HostDisk)).unwrap();
    let mut trust = loaded.trust;
    assert_eq!(trust.retired, [id(1)].into());
    trust.raise(&restored);
    assert!(trust.retired.is_empty(), "{:?}", trust.retired);
    generations.save(&restored, &trust, &[]).unwrap();
    drop(generations);
    assert!(open(dir.path()).trust.retired.is_empty(), "nor does the previous list retire it at a start");
    fs::remove_file(dir.path().join(FLOOR)).unwrap();
    assert!(open(dir.path()).trust.retired.is_empty(), "nor when only the lists are left");
}

#[test]
fn however_often_a_file_is_set_aside_only_the_first_three_and_the_newest_five_are_kept() {
    let dir = saved();
    for _ in 0..12 {
        fs::write(dir.path().join(CURRENT), b"").unwrap();
        let loaded = open(dir.path());
        assert!(loaded.set_aside[0].kept_as.as_ref().is_some_and(|kept| kept.exists()));
    }
    assert_eq!(set_aside(dir.path()).len(), 8);
}

fn set_aside(dir: &Path) -> Vec<String> {
    let mut names = HostDisk.names(dir).unwrap();
    names.retain(|name| rejected::is_set_aside(name));
    names
}

#[test]
fn a_file_that_was_renamed_is_said_to_be_kept_even_when_the_rest_fails() {
    let dir = saved();
    fs::write(dir.path().join(CURRENT), b"").unwrap();
    // Five temporaries cannot be removed, since there are none; the rename is the sixth step.
    let (_, loaded) = Generations::open(dir.path(), FailingDisk::after(6)).unwrap();
    assert!(loaded.set_aside[0].kept_as.as_ref().is_some_and(|kept| kept.exists()), "{:?}", loaded.set_aside);
}
