//! How far a log had reached, in a small file beside the engine.
//!
//! sled takes a damaged stretch of its file for a write that a crash cut short, and drops it with everything after it,
//! silently: entries that were acknowledged would be gone, and nobody would know. With this file a log that came back
//! shorter is refused. The mark is behind the truth for up to [`MARK_EVERY`], never ahead of it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::disk;
use super::record::damaged;
use super::{LogError, sled_log::engine};

/// How often the mark is brought up to date while the log grows. Each time costs three syncs.
const MARK_EVERY: Duration = Duration::from_millis(500);
const TITLE: &str = "pilothouse log reaches";

/// The mark.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    marked: Mutex<Marked>,
}

#[derive(Debug, Clone, Copy)]
struct Marked {
    last: Option<u64>,
    /// How often the log was cut.
    cuts: u64,
    at: Option<Instant>,
}

impl Tail {
    /// The mark in `directory`; none in a new one.
    pub(super) fn open(directory: &Path) -> Result<Self, LogError> {
        let path = directory.join("tail");
        let last = match fs::read_to_string(&path) {
            Ok(text) => Some(parse(&text).ok_or_else(|| damaged(path.display().to_string(), "it holds no index"))?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(engine("read the mark of the log")(error)),
        };
        Ok(Self { path, marked: Mutex::new(Marked { last, cuts: 0, at: None }) })
    }

    /// Whether a log that ends at `last`, purged entries included, is as long as it was.
    pub(super) fn check(&self, last: Option<u64>) -> Result<(), LogError> {
        match self.lock().last {
            Some(marked) if last.is_none_or(|last| last < marked) => {
                Err(LogError::Shortened { marked, last: last.unwrap_or(0) })
            }
            _ => Ok(()),
        }
    }

    /// How often the log was cut so far: asked for before a sync, whose outcome counts only if it was not cut since.
    pub(super) fn cuts(&self) -> u64 {
        self.lock().cuts
    }

    /// The log is durable up to `last`. Marked now and then; a mark that cannot be written is only older.
    pub(super) fn reached(&self, last: u64, cuts: u64) {
        let mut marked = self.lock();
        let due = marked.cuts == cuts && marked.at.is_none_or(|at| at.elapsed() >= MARK_EVERY);
        if due && marked.last.is_none_or(|marked| marked < last) {
            self.write(&mut marked, last);
        }
    }

    /// The log is closed at `last`.
    pub(super) fn closed(&self, last: u64) {
        let mut marked = self.lock();
        if marked.last != Some(last) {
            self.write(&mut marked, last);
        }
    }

    /// The log is about to be cut behind `last`: the mark goes first.
    pub(super) fn lower(&self, last: Option<u64>) -> Result<(), LogError> {
        let mut marked = self.lock();
        marked.cuts += 1;
        if marked.last.is_none_or(|marked| last.is_some_and(|last| marked <= last)) {
            return Ok(());
        }
        let written = match last {
            Some(last) => disk::replace(&self.path, content(last).as_bytes()),
            None => fs::remove_file(&self.path).and_then(|()| disk::sync_parent(&self.path)),
        };
        written.map_err(engine("lower the mark of the log"))?;
        marked.last = last;
        Ok(())
    }

    fn write(&self, marked: &mut Marked, last: u64) {
        match disk::replace(&self.path, content(last).as_bytes()) {
            Ok(()) => marked.last = Some(last),
            Err(error) => tracing::debug!(%error, "the mark of the log stays where it was"),
        }
        marked.at = Some(Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content(last: u64) -> String {
    format!("{TITLE} {last}\n")
}

fn parse(text: &str) -> Option<u64> {
    text.strip_prefix(TITLE)?.strip_suffix('\n')?.trim_start().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_came_back_shorter_is_noticed_and_one_that_was_cut_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let tail = Tail::open(folder.path()).unwrap();
        assert!(tail.check(None).is_ok(), "a new log");
        tail.reached(41, 0);
        tail.reached(42, 0);
        tail.closed(42);
        let tail = Tail::open(folder.path()).unwrap();
        assert!(tail.check(Some(42)).is_ok() && tail.check(Some(43)).is_ok());
        assert!(matches!(tail.check(Some(41)), Err(LogError::Shortened { marked: 42, last: 41 })));
        assert!(tail.check(None).is_err());
        tail.lower(Some(7)).unwrap();
        assert!(Tail::open(folder.path()).unwrap().check(Some(7)).is_ok());
        tail.lower(None).unwrap();
        assert!(Tail::open(folder.path()).unwrap().check(None).is_ok());
    }

    #[test]
    fn a_sync_that_a_cut_overtook_is_not_marked() {
        let folder = tempfile::tempdir().unwrap();
        let tail = Tail::open(folder.path()).unwrap();
        let before = tail.cuts();
        tail.lower(Some(50)).unwrap();
        tail.reached(100, before);
        assert!(Tail::open(folder.path()).unwrap().check(Some(50)).is_ok());
    }

    #[test]
    fn a_mark_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tail"), "").unwrap();
        assert!(matches!(Tail::open(folder.path()), Err(LogError::Damaged { .. })));
    }
}
