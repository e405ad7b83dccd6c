//! How much room a file system has: a seam, so that tests can have a disk that fills up when they want it to.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk;

/// Says how many bytes are free where a path is.
#[derive(Clone)]
pub struct Room(Arc<Ask>);

type Ask = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;

impl Room {
    /// As the file system says.
    #[must_use]
    pub fn of_disk() -> Self {
        Self::call(disk::free_bytes)
    }

    /// Asks this instead.
    #[must_use]
    pub fn call(ask: impl Fn(&Path) -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        (self.0)(path)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}
