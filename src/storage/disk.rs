//! Small things about files that everybody here needs: atomic replacement, durable directories, free space.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` with `content`, so that after a crash either the old content is there or the new one.
///
/// # Errors
/// As the file system reports them; `path` is then unchanged.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Makes the entry of `path` in its directory durable.
///
/// # Errors
/// As the file system reports them.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// How many bytes may still be written to the file system that holds `path`.
///
/// # Errors
/// As the system reports them.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    // The types differ between platforms; on this one both are u64.
    #[allow(clippy::useless_conversion, reason = "the width of these fields depends on the platform")]
    Ok(u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())))
}
