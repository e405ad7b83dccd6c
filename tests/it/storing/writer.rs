//! A process that writes a log and says on stderr what was acknowledged: this test binary, started again with a role.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use pilothouse::proto::store::Vote;
use pilothouse::storage::log::Record;
use pilothouse::storage::{Directory, LogError, MetaKey, OnFatal, Settings};
use prost::Message as _;

/// Which role a process has; without it the tests below do nothing.
const ROLE: &str = "STORING_ROLE";
const DIRECTORY: &str = "STORING_DIRECTORY";

/// The entry at an index: its content follows from the index, and is between 1 and 4,000 bytes long.
pub(super) fn entry(index: u64) -> Record {
    let length = usize::try_from(1 + index.wrapping_mul(7919) % 4_000).unwrap();
    let bytes: Vec<u8> = (0..length).map(|place| u8::try_from((index + place as u64) % 251).unwrap()).collect();
    Record { index, bytes: Bytes::from(bytes) }
}

/// How this test binary is started in a role, perhaps under another program.
pub(super) fn command(under: &[&str], role: &str, directory: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match under.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
        None => Command::new(this),
    };
    command
        .args(["--exact", "storing::writer::in_its_role", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

pub(super) fn start(role: &str, directory: &Path) -> Child {
    command(&[], role, directory).spawn().unwrap()
}

/// Does nothing unless this process was started in a role.
#[test]
fn in_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("set together with the role"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match role.as_str() {
        "for ever" => runtime.block_on(write_for_ever(&directory)),
        "a few" => runtime.block_on(write_a_few(&directory)),
        "until full" => runtime.block_on(super::full_disk::write_until_full(&directory)),
        "without snapshots" => runtime.block_on(super::full_disk::go_on_without_snapshots(&directory)),
        other => panic!("no role {other}"),
    }
}

/// The vote of a term, as Raft has it saved.
pub(super) fn vote(term: u64) -> Vec<u8> {
    Vote { term, voted_for: 1, committed: false }.encode_to_vec()
}

/// The term of a saved vote.
pub(super) fn term(vote: &[u8]) -> u64 {
    Vote::decode(vote).unwrap().term
}

pub(super) fn say(line: &str) {
    // One write a line: a line is said whole or not at all.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Appends batches of one to eight entries, votes, and purges, and says what was acknowledged, until it is killed.
async fn write_for_ever(directory: &Path) {
    let directory = Directory::open(directory).unwrap();
    let (log, flusher) = (directory.log(), directory.flusher());
    let mut next = log.last_index().map_or(0, |last| last + 1);
    for round in 0_u64.. {
        let count = 1 + (next ^ round) % 8;
        let batch: Vec<_> = (next..next + count).map(entry).collect();
        log.append(&batch).unwrap();
        next += count;
        flusher.synced().await.unwrap();
        say(&format!("ack {}", next - 1));
        if round % 3 == 0 {
            log.save(MetaKey::Vote, &vote(next)).unwrap();
            flusher.synced().await.unwrap();
            say(&format!("vote {next}"));
        }
        if round % 50 == 49 {
            let index = next.saturating_sub(100);
            log.purge_to(pilothouse::domain::state::LogPosition { term: 1, index }).unwrap();
            flusher.purge_soon();
        }
    }
}

/// Appends and votes a few times, each between a `begin` and an `ack`.
async fn write_a_few(directory: &Path) {
    let directory = Directory::open(directory).unwrap();
    let (log, flusher) = (directory.log(), directory.flusher());
    for index in 0_u64..20 {
        say("begin append");
        log.append(&[entry(index)]).unwrap();
        flusher.synced().await.unwrap();
        say("ack append");
        say("begin vote");
        log.save(MetaKey::Vote, &vote(index)).unwrap();
        flusher.synced().await.unwrap();
        say("ack vote");
    }
}

/// Opens a directory without ending this process when its disk fails.
pub(super) fn open_gently(directory: &Path) -> Result<Directory, pilothouse::storage::OpenError> {
    Directory::open_with(directory, Settings { on_fatal: OnFatal::call(|_| {}), ..Settings::default() })
}

/// Whether an error is that of a full disk.
pub(super) fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::DiskFull { .. })
}
