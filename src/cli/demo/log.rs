//! A child's log: a file that never grows beyond a limit, and the one before it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;

/// Most bytes of a log file; the older half is in `log.1`. Enough for a day of an undisturbed demo.
pub(crate) const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A log file. When it is full it becomes `log.1`, in place of the one before, and a new one begins.
#[derive(Debug)]
pub(crate) struct BoundedLog {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl BoundedLog {
    /// Goes on with the file at `path`, or begins one.
    pub(crate) fn open(path: PathBuf) -> anyhow::Result<Self> {
        Self::with_limit(path, LOG_BYTES_MAX)
    }

    fn with_limit(path: PathBuf, limit: u64) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.with_context(|| format!("open {}", path.display()))?;
        let written = file.metadata().with_context(|| format!("look at {}", path.display()))?.len();
        Ok(Self { path, file, written, limit })
    }

    /// Writes, after making room.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.written > 0 && self.written.saturating_add(length) > self.limit {
            std::fs::rename(&self.path, self.path.with_extension("1"))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.written = 0;
        }
        self.file.write_all(bytes)?;
        self.written = self.written.saturating_add(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_newest_part_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for round in 0..10 {
            // Reopened each time, as after a restart of the child.
            let mut log = BoundedLog::with_limit(path.clone(), 100).unwrap();
            for line in 0..10 {
                log.append(format!("{round} {line} ........\n").as_bytes()).unwrap();
            }
        }
        let (newest, older) =
            (std::fs::read_to_string(&path).unwrap(), std::fs::read(path.with_extension("1")).unwrap());
        assert!(newest.len() <= 100 && older.len() <= 100, "{} {}", newest.len(), older.len());
        assert!(newest.ends_with("9 9 ........\n"), "{newest}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
