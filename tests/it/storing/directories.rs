//! Directories that may not be used: each is refused with what it is and what to do, and stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pilothouse::domain::controller_list::Epoch;
use pilothouse::domain::ids::{ClusterId, ControllerId};
use pilothouse::storage::{Assignment, Directory, LogError, MetaKey, OpenError};

use super::writer::{entry, vote};

fn assignment(id: u64, cluster: u128) -> Assignment {
    Assignment { cluster: ClusterId::from_u128(cluster), epoch: Epoch::FIRST, id: ControllerId::new(id).unwrap() }
}

/// A directory of controller 1 of cluster 7 with ten entries.
fn used() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    directory.assign(assignment(1, 7)).unwrap();
    directory.log().append(&(0..10).map(entry).collect::<Vec<_>>()).unwrap();
    directory.log().sync().unwrap();
    folder
}

/// Every file with its content, except for what opening may always touch: the lock.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.is_dir() {
                folders.push(file);
            } else if !file.ends_with("LOCK") {
                files.insert(file.clone(), fs::read(file).unwrap());
            }
        }
    }
    files
}

fn refused(folder: &Path) -> OpenError {
    let before = content(folder);
    let refused = Directory::open(folder).expect_err("it must be refused");
    assert_eq!(content(folder), before, "nothing is overwritten");
    let text = refused.to_string();
    assert!(
        text.contains(&folder.display().to_string()) && text.len() > 60,
        "it names the directory and a remedy: {text}"
    );
    refused
}

#[test]
fn one_that_another_process_uses() {
    let folder = used();
    let _held = Directory::open(folder.path()).unwrap();
    assert!(matches!(Directory::open(folder.path()), Err(OpenError::Locked { .. })));
}

#[test]
fn one_whose_lock_outlives_its_owner_for_a_moment_is_opened() {
    let folder = used();
    // What a child of the owner does between fork and exec.
    let lock = std::fs::File::open(folder.path().join("LOCK")).unwrap();
    lock.lock().unwrap();
    let (_owner, never) = std::sync::mpsc::sync_channel::<()>(0);
    let holder = std::thread::spawn(move || {
        let _ = never.recv_timeout(Duration::from_millis(100));
        drop(lock);
    });
    assert!(Directory::open(folder.path()).is_ok());
    holder.join().unwrap();
}

#[test]
fn one_of_another_controller_or_cluster() {
    let folder = used();
    let directory = Directory::open(folder.path()).unwrap();
    let (other, foreign) = (assignment(2, 7), assignment(1, 8));
    assert!(matches!(directory.expect(Some(other.id), None), Err(OpenError::OtherController { .. })));
    assert!(matches!(directory.expect(None, Some(foreign.cluster)), Err(OpenError::OtherCluster { .. })));
    assert!(matches!(directory.assign(other), Err(OpenError::OtherController { .. })));
    assert!(matches!(directory.assign(foreign), Err(OpenError::OtherCluster { .. })));
    assert_eq!(directory.marker().assignment, Some(assignment(1, 7)));
}

#[test]
fn one_of_a_newer_format_and_one_whose_marker_is_damaged() {
    let folder = used();
    let marker = folder.path().join("FORMAT");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("format 1", "format 99")).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::NewerFormat { found: 99, .. }));
    for damaged in ["", "something else\n", &text[..text.len() / 2]] {
        fs::write(&marker, damaged).unwrap();
        assert!(matches!(refused(folder.path()), OpenError::DamagedMarker { .. }), "{damaged:?}");
    }
}

#[test]
fn one_without_its_marker_or_without_its_log() {
    let folder = used();
    let marker = folder.path().join("FORMAT");
    let kept = fs::read(&marker).unwrap();
    fs::remove_file(&marker).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::NoMarker { .. }));
    fs::write(&marker, kept).unwrap();
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::LogLost { .. }));
}

#[test]
fn one_that_is_pieced_together_from_two() {
    let (one, other) = (used(), used());
    fs::copy(other.path().join("FORMAT"), one.path().join("FORMAT")).unwrap();
    assert!(matches!(Directory::open(one.path()), Err(OpenError::ForeignLog { .. })));
}

#[test]
fn a_left_over_of_a_crash_during_recovery_is_no_reason_to_refuse() {
    let folder = used();
    fs::write(folder.path().join("log/snap.0000000000000001.generating"), b"half").unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    assert_eq!(directory.log().last_index(), Some(9));
    assert_eq!(directory.log().load(MetaKey::Vote).unwrap(), None);
}

#[test]
fn a_damaged_value_is_found_before_anything_is_served() {
    let folder = used();
    // The engine's own file: a byte of an entry is changed, in every copy that the engine has of it.
    let database = folder.path().join("log/db");
    let mut bytes = fs::read(&database).unwrap();
    let needle = entry(9).bytes.slice(..64);
    let places: Vec<_> = (0..bytes.len() - 64).filter(|place| bytes[*place..].starts_with(&needle)).collect();
    assert!(!places.is_empty(), "entries are stored as they are");
    places.iter().for_each(|place| bytes[place + 7] ^= 1);
    fs::write(&database, bytes).unwrap();
    let outcome = Directory::open(folder.path()).map(|directory| directory.log().range(0, 10, usize::MAX));
    match outcome {
        Err(refused) => assert!(refused.to_string().len() > 60, "{refused}"),
        Ok(read) => panic!("it was opened, with {:?} of ten entries", read.map(|records| records.len())),
    }
}

/// Saves the vote of a term, as it is acknowledged.
fn voted(folder: &Path, term: u64) {
    let directory = Directory::open(folder).unwrap();
    directory.log().save(MetaKey::Vote, &vote(term)).unwrap();
    directory.log().sync().unwrap();
}

#[test]
fn one_that_forgot_the_vote_that_it_gave() {
    let folder = used();
    let log = folder.path().join("log");
    voted(folder.path(), 5);
    let (before, mark) = (content(&log), log.join("voted"));
    voted(folder.path(), 6);
    let marked = fs::read(&mark).unwrap();
    // What the engine leaves when it drops a damaged stretch at its end: itself as it was, and it notices nothing.
    let forget = || {
        fs::remove_dir_all(&log).unwrap();
        for (file, content) in &before {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
    };
    forget();
    fs::write(&mark, &marked).unwrap();
    let refused = Directory::open(folder.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::Log { source: LogError::VoteLost { .. }, .. }), "{refused}");
    let text = refused.to_string();
    for part in [log.parent().unwrap().to_str().unwrap(), "term 6 for 1", "term 5 for 1", "add it again"] {
        assert!(text.contains(part), "it names {part}: {text}");
    }
    forget();
    assert!(Directory::open(folder.path()).is_ok(), "with the mark of its own vote");
}

#[test]
fn one_of_a_build_without_a_mark_of_the_vote_is_opened_and_marked() {
    let folder = used();
    let mark = folder.path().join("log/voted");
    assert!(!mark.exists(), "nobody voted yet");
    voted(folder.path(), 5);
    let marked = fs::read(&mark).unwrap();
    fs::remove_file(&mark).unwrap();
    drop(Directory::open(folder.path()).unwrap());
    assert_eq!(fs::read(&mark).unwrap(), marked);
    // That build votes on, and its vote is newer than the mark.
    voted(folder.path(), 6);
    fs::write(&mark, &marked).unwrap();
    drop(Directory::open(folder.path()).unwrap());
    assert_ne!(fs::read(&mark).unwrap(), marked);
}

#[test]
fn a_damaged_vote_is_found_and_is_never_taken_for_the_one_before_it() {
    let folder = used();
    voted(folder.path(), 5);
    voted(folder.path(), 6);
    let database = folder.path().join("log/db");
    let mut bytes = fs::read(&database).unwrap();
    let needle = pilothouse::storage::record::encode_meta(MetaKey::Vote, &vote(6));
    let places: Vec<_> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(&needle)).collect();
    assert!(!places.is_empty(), "a vote is stored as it is");
    places.iter().for_each(|place| bytes[place + 6] ^= 1);
    fs::write(&database, bytes).unwrap();
    let outcome = Directory::open(folder.path()).map(|directory| directory.log().load(MetaKey::Vote));
    match outcome {
        Err(refused) => assert!(refused.to_string().contains("add it again"), "{refused}"),
        Ok(vote) => panic!("it was opened with the vote {vote:?}"),
    }
}
