//! The data directory: what a router knows across restarts, and how it is replaced without a moment in which it is lost.
//!
//! | file | what |
//! |---|---|
//! | `lock` | locked while a router uses the directory, before anything is read |
//! | `list.current` | the newest list that was saved |
//! | `list.previous` | the one before it |
//! | `floor` | the trusted cluster, the highest version ever adopted, the retired ids: outlives the lists |
//! | `reserve` | controllers that were held since the last contact with a member of the newest list |
//! | `registration` | the last boot and registration |
//!
//! Each is replaced by temporary file, fsync, rename, fsync of the directory. A file that cannot be used is renamed
//! `*.rejected-<milliseconds since 1970>` and never stops the router. It does not know what an offer is.

mod disk;
mod frame;
mod inspect;
mod record;
mod rejected;
mod replace;
mod trust;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub use disk::{Disk, HostDisk};
pub use frame::Unusable;
pub use inspect::{FileState, FileView, Inspection, ListView, inspect};
pub use record::{Generation, RESERVE_MAX, Registered, Reserved, Trust};
pub use replace::SaveError;
pub use trust::{Floors, TrustError, Trusted, trust};

use record::Record;
use rejected::Aside;

const LOCK: &str = "lock";
/// Whoever still holds the lock after this time uses the directory. A process that was just forked holds what its parent had
/// open until it runs something else: the lock of one that ended a moment ago may outlive it that long.
const LOCK_WITHIN: Duration = Duration::from_millis(500);
/// Between two attempts to get it.
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(10);
const CURRENT: &str = "list.current";
const PREVIOUS: &str = "list.previous";
const FLOOR: &str = "floor";
const RESERVE: &str = "reserve";
const REGISTRATION: &str = "registration";
/// Every file that is replaced.
const FILES: [&str; 5] = [CURRENT, PREVIOUS, FLOOR, RESERVE, REGISTRATION];
/// Ending of a file that is being written.
const TEMPORARY: &str = ".tmp";

/// Why a data directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not there, and cannot be made.
    #[error("cannot create the data directory {}: check the path, and who may write there", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Not writable.
    #[error("cannot write to the data directory {}: give the router's user write access, or choose another `data_dir`", path.display())]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Somebody uses it.
    #[error(
        "the data directory {} is in use by another process{}: stop that router first, or give this one a `data_dir` \
         of its own",
        path.display(), holder.as_ref().map_or_else(String::new, |pid| format!(" ({pid})"))
    )]
    Locked {
        /// Which.
        path: PathBuf,
        /// Its process id, when it said.
        holder: Option<String>,
    },
}

/// A file that was set aside.
#[derive(Debug)]
pub struct SetAside {
    /// Where it was.
    pub path: PathBuf,
    /// Where it is now; `None` when it could not be renamed.
    pub kept_as: Option<PathBuf>,
    /// What is wrong with it.
    pub why: Unusable,
}

/// What a data directory held when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest saved list.
    pub current: Option<Generation>,
    /// The one before it.
    pub previous: Option<Generation>,
    /// Whom the router belongs to.
    pub trust: Trust,
    /// Controllers to fall back to; the newest last.
    pub reserve: Vec<Reserved>,
    /// The last registration.
    pub registration: Option<Registered>,
    /// What could not be used.
    pub set_aside: Vec<SetAside>,
}

/// A locked data directory. Dropping it releases the lock.
#[derive(Debug)]
pub struct Generations {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    _lock: File,
}

impl Generations {
    /// Locks the directory, then reads what it holds.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be locked or written. Its content is never a reason.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Loaded), OpenError> {
        std::fs::create_dir_all(dir).map_err(|source| OpenError::Create { path: dir.into(), source })?;
        let lock = lock(dir)?;
        let generations = Self { dir: dir.into(), disk, _lock: lock };
        generations.remove_temporaries();
        let loaded = generations.load();
        Ok((generations, loaded))
    }

    /// Which directory it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn load(&self) -> Loaded {
        let mut set_aside = Vec::new();
        let trust = self.read::<Trust>(FLOOR, &mut set_aside, |_| Ok(()));
        let mut trusted = trust.as_ref().and_then(|trust| trust.cluster);
        let mut list = |file| {
            let same_cluster = |generation: &Generation| same_cluster(trusted, generation);
            let list = self.read::<Generation>(file, &mut set_aside, same_cluster);
            trusted = trusted.or(list.as_ref().map(|list| list.held.list.identity().cluster));
            list
        };
        let (current, previous) = (list(CURRENT), list(PREVIOUS));
        let reserve = self.read(RESERVE, &mut set_aside, |_| Ok(())).unwrap_or_default();
        let registration = self.read(REGISTRATION, &mut set_aside, |_| Ok(()));
        let trust = trust_of(trust, current.as_ref(), previous.as_ref());
        Loaded { current, previous, trust, reserve, registration, set_aside }
    }

    /// A file's content, or `None` when there is none; one that cannot be used is set aside.
    fn read<R: Record>(
        &self,
        file: &str,
        set_aside: &mut Vec<SetAside>,
        check: impl FnOnce(&R) -> Result<(), Unusable>,
    ) -> Option<R> {
        let record = read_record::<R>(&*self.disk, &self.dir.join(file))
            .and_then(|record| record.as_ref().map_or(Ok(()), check).map(|()| record));
        match record {
            Ok(record) => record,
            Err(why) => {
                set_aside.push(self.set_aside(file, why));
                None
            }
        }
    }

    fn set_aside(&self, file: &str, why: Unusable) -> SetAside {
        let path = self.dir.join(file);
        let kept_as = self.put_aside(file, Aside::Rejected).ok();
        SetAside { path, kept_as, why }
    }

    /// Gives a file another name, and removes the middle ones of those that went before it.
    fn put_aside(&self, file: &str, aside: Aside) -> io::Result<PathBuf> {
        let names = self.disk.names(&self.dir)?;
        let to = self.dir.join(aside.name(file, self.disk.now_ms(), &names));
        self.disk.rename(&self.dir.join(file), &to)?;
        // It has its new name, whatever becomes of the rest.
        if let Err(error) = self.prune(file, aside) {
            tracing::warn!(%error, file, "could not remove older files that were set aside; the next time does it again");
        }
        Ok(to)
    }

    fn prune(&self, file: &str, aside: Aside) -> io::Result<()> {
        for name in aside.superfluous(file, &self.disk.names(&self.dir)?) {
            self.disk.remove(&self.dir.join(name))?;
        }
        self.disk.sync_dir(&self.dir)
    }

    /// A crash may have left some; nothing refers to them.
    fn remove_temporaries(&self) {
        for file in FILES {
            let _ = self.disk.remove(&self.dir.join(format!("{file}{TEMPORARY}")));
        }
    }
}

/// `None` when there is no such file.
fn read_record<R: Record>(disk: &dyn Disk, path: &Path) -> Result<Option<R>, Unusable> {
    match disk.read(path, frame::FILE_BYTES_MAX) {
        Ok(bytes) => R::open(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unusable::Unreadable(error)),
    }
}

fn same_cluster(trusted: Option<crate::domain::ids::ClusterId>, generation: &Generation) -> Result<(), Unusable> {
    let found = generation.held.list.identity().cluster;
    match trusted {
        Some(trusted) if trusted != found => Err(Unusable::ForeignCluster { trusted, found }),
        _ => Ok(()),
    }
}

/// The floor is the highest of what any file says: losing one of them does not lower it.
fn trust_of(saved: Option<Trust>, current: Option<&Generation>, previous: Option<&Generation>) -> Trust {
    let mut trust = saved.unwrap_or_default();
    // In the order in which they were adopted: the newest has the last word on who is retired.
    for generation in previous.into_iter().chain(current) {
        trust.raise(generation);
    }
    trust
}

impl Trust {
    /// Takes the version of an adopted list as the floor, unless the floor is higher. Retired ids accumulate, except that
    /// a member of the newest list is none: a restore to an earlier state brings members back.
    pub fn raise(&mut self, generation: &Generation) {
        let list = &generation.held.list;
        self.cluster = Some(list.identity().cluster);
        let floor = generation.held.floor();
        if self.floor.is_some_and(|ours| ours.version > floor.version) {
            return;
        }
        if self.floor.is_none_or(|ours| ours.version < floor.version) {
            self.floor = Some(floor);
        }
        self.retired.extend(list.retired());
        self.retired.retain(|retired| list.get(*retired).is_none());
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let read_only = |source| OpenError::ReadOnly { path: dir.into(), source };
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(read_only)?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(read_only(source)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_AGAIN_AFTER),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: dir.into(), holder: holder(&path) }),
        }
    }
    file.set_len(0).map_err(read_only)?;
    // For the message above only; the lock itself is the system's.
    let _ = io::Write::write_all(&mut &file, format!("process {}\n", std::process::id()).as_bytes());
    Ok(file)
}

fn holder(path: &Path) -> Option<String> {
    const HOLDER_BYTES_MAX: u64 = 64;
    let text = HostDisk.read(path, HOLDER_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
