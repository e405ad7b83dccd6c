//! Writing: every file is replaced atomically, and the order of the steps leaves a usable directory after each.

use std::io;
use std::path::{Path, PathBuf};

use super::record::Record;
use super::rejected::Aside;
use super::{
    CURRENT, FLOOR, Generation, Generations, PREVIOUS, REGISTRATION, RESERVE, Registered, Reserved, TEMPORARY, Trust,
    read_record,
};

/// A step of saving that failed. What was there before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct SaveError {
    /// What was tried.
    pub step: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// The system's words.
    #[source]
    pub source: io::Error,
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SaveError + 'a {
    move |source| SaveError { step, path: path.into(), source }
}

impl Generations {
    /// Saves an adopted list: first the reserve, which names everything that is about to be replaced; then the list, the
    /// one that it replaces becoming the previous one; last the floor. Repeating it after a failure is harmless.
    ///
    /// # Errors
    /// [`SaveError`], a full disk for one. Everything that was saved before can still be read.
    pub fn save(&self, list: &Generation, trust: &Trust, reserve: &[Reserved]) -> Result<(), SaveError> {
        self.save_reserve(reserve)?;
        self.save_list(list)?;
        self.replace(FLOOR, &trust.seal())
    }

    /// Saves the reserve alone.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn save_reserve(&self, reserve: &[Reserved]) -> Result<(), SaveError> {
        let bytes = reserve.to_vec().seal();
        let path = self.dir.join(RESERVE);
        if self.disk.read(&path, bytes.len() as u64).is_ok_and(|saved| saved == bytes) {
            return Ok(());
        }
        self.replace(RESERVE, &bytes)
    }

    /// Saves the last registration.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn save_registration(&self, registered: Registered) -> Result<(), SaveError> {
        self.replace(REGISTRATION, &registered.seal())
    }

    /// Puts one floor in the place of another, of which a copy is kept. Everything that needs space is written before
    /// anything changes: after an error the former floor is in its place.
    pub(super) fn switch_trust(&self, former: Option<&Trust>, next: &Trust) -> Result<Option<PathBuf>, SaveError> {
        let temporary = self.write_temporary(FLOOR, &next.seal())?;
        let copy = former.map(|former| self.write_copy(FLOOR, &former.seal())).transpose();
        let path = self.dir.join(FLOOR);
        let switched = copy.and_then(|copy| match self.disk.rename(&temporary, &path) {
            Ok(()) => Ok(copy),
            Err(error) => {
                let _ = copy.map(|copy| self.disk.remove(&copy));
                Err(failed("replace", &path)(error))
            }
        });
        if switched.is_err() {
            let _ = self.disk.remove(&temporary);
        } else if let Err(error) = self.prune(FLOOR, Aside::Replaced) {
            // The switch is made all the same; at worst a power failure brings the former floor back.
            tracing::warn!(%error, "could not sync the data directory after the floor was replaced");
        }
        switched
    }

    fn write_copy(&self, file: &str, bytes: &[u8]) -> Result<PathBuf, SaveError> {
        let names = self.disk.names(&self.dir).map_err(failed("read", &self.dir))?;
        let copy = self.dir.join(Aside::Replaced.name(file, self.disk.now_ms(), &names));
        let written = self.disk.write_synced(&copy, bytes).map_err(failed("write", &copy));
        if written.is_err() {
            let _ = self.disk.remove(&copy);
        }
        written.map(|()| copy)
    }

    fn save_list(&self, list: &Generation) -> Result<(), SaveError> {
        // A list that does not read back is none: it does not become the previous one.
        let replaced = read_record::<Generation>(&*self.disk, &self.dir.join(CURRENT)).ok().flatten();
        let replaced = match replaced {
            Some(saved) if saved.held == list.held => return Ok(()),
            replaced => replaced,
        };
        // Both are written whole before either takes its place: a disk that fills up changes nothing.
        let current = self.write_temporary(CURRENT, &list.seal())?;
        if let Some(replaced) = replaced {
            let previous = self.write_temporary(PREVIOUS, &replaced.seal())?;
            self.put_in_place(&previous, PREVIOUS)?;
        }
        self.put_in_place(&current, CURRENT)
    }

    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), SaveError> {
        let temporary = self.write_temporary(file, bytes)?;
        self.put_in_place(&temporary, file)
    }

    fn write_temporary(&self, file: &str, bytes: &[u8]) -> Result<PathBuf, SaveError> {
        let path = self.dir.join(format!("{file}{TEMPORARY}"));
        let written = self.disk.write_synced(&path, bytes).map_err(failed("write", &path));
        if written.is_err() {
            // Half a file takes space that the next attempt needs.
            let _ = self.disk.remove(&path);
        }
        written.map(|()| path)
    }

    fn put_in_place(&self, temporary: &Path, file: &str) -> Result<(), SaveError> {
        let path = self.dir.join(file);
        self.disk.rename(temporary, &path).map_err(failed("replace", &path))?;
        self.disk.sync_dir(&self.dir).map_err(failed("sync the directory of", &path))
    }
}
