//! Keys and certificates on disk. A file is replaced whole: temporary file, fsync, rename, fsync of the directory. A key
//! is never readable by anybody else, not even for a moment: its file is made with that mode. One writer of a file at a time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::PrivateKey;

/// Largest file that is read as a key or as certificates: some hundred certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Only its owner.
const KEY_MODE: u32 = 0o600;
/// Everybody: certificates are shown to whoever connects.
const CERTIFICATES_MODE: u32 = 0o644;

/// Why a file of keys or certificates cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {doing} {}: see that the directory exists and that this user may do so", .path.display())]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        why: io::Error,
    },
    /// Too large to be what it should be.
    #[error("{} has more than {FILE_BYTES_MAX} bytes: this is no file of keys or certificates, give another", .0.display())]
    TooLarge(PathBuf),
    /// The owner of what is replaced has to stay the owner.
    #[error("{} belongs to another user, who could not read its successor: do this as that user or as root", .path.display())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        why: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |why| FileError::Failed { doing, path: path.to_owned(), why }
}

/// Reads a file of certificates, as it stands.
///
/// # Errors
/// [`FileError`].
pub fn read_certificates(path: &Path) -> Result<String, FileError> {
    let file = File::open(path).map_err(failed("open", path))?;
    // One byte more than allowed, to see that there is more. The room is made at once: a text that grows leaves copies
    // behind, and this may be a key.
    let size = file.metadata().map_or(0, |metadata| metadata.len().min(FILE_BYTES_MAX));
    let mut text = String::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed("read", path))?;
    if text.len() as u64 > FILE_BYTES_MAX { Err(FileError::TooLarge(path.to_owned())) } else { Ok(text) }
}

/// Reads a file with a private key.
///
/// # Errors
/// [`FileError`].
pub fn read_key(path: &Path) -> Result<PrivateKey, FileError> {
    read_certificates(path).map(PrivateKey::from_pem)
}

/// Writes or replaces a key, readable by its owner alone.
///
/// # Errors
/// [`FileError`].
pub fn write_key(path: &Path, key: &PrivateKey) -> Result<(), FileError> {
    Staged::write(path, KEY_MODE, key.pem())?.switch()
}

/// Writes or replaces a file of certificates, readable by everybody.
///
/// # Errors
/// [`FileError`].
pub fn write_certificates(path: &Path, pem: &str) -> Result<(), FileError> {
    Staged::write(path, CERTIFICATES_MODE, pem)?.switch()
}

/// Certificates that are on disk and do not have their name yet. They are gone when this is dropped.
#[derive(Debug)]
pub struct StagedCertificates(Staged);

/// Writes certificates beside the file that they are to replace.
///
/// # Errors
/// [`FileError`].
pub fn stage_certificates(path: &Path, pem: &str) -> Result<StagedCertificates, FileError> {
    Staged::write(path, CERTIFICATES_MODE, pem).map(StagedCertificates)
}

impl StagedCertificates {
    /// Where they are until then.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.0.temporary
    }

    /// Gives them their name.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn switch(self) -> Result<(), FileError> {
        self.0.switch()
    }
}

/// Writes or replaces a key and its certificate. Both are on disk before either gets its name, so that only two renames
/// stand between the old pair and the new one. The key is first: whoever waits for a new certificate finds its key
/// there, and after a crash between the two the old certificate still says for whom a new pair is to be made.
///
/// # Errors
/// [`FileError`].
pub fn write_pair(key_path: &Path, key: &PrivateKey, certificate_path: &Path, chain: &str) -> Result<(), FileError> {
    let staged_key = Staged::write(key_path, KEY_MODE, key.pem())?;
    let staged_certificate = Staged::write(certificate_path, CERTIFICATES_MODE, chain)?;
    staged_key.switch()?;
    staged_certificate.switch()
}

/// A file that is on disk and does not have its name yet.
#[derive(Debug)]
struct Staged {
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn write(path: &Path, mode: u32, text: &str) -> Result<Self, FileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let staged = Self { temporary: path.with_file_name(format!(".{name}.new")), path: path.to_owned() };
        // What an earlier attempt left behind is not continued: it may have any mode.
        match fs::remove_file(&staged.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &staged.temporary)(error));
            }
            _ => {}
        }
        let mut file = created(&staged.temporary, mode).map_err(failed("create", &staged.temporary))?;
        keep_owner(&file, path).map_err(|why| FileError::Owner { path: path.to_owned(), why })?;
        // The mask of the process took bits away from a file that everybody may read.
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set the mode of", &staged.temporary))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(failed("write", &staged.temporary))?;
        Ok(staged)
    }

    fn switch(self) -> Result<(), FileError> {
        fs::rename(&self.temporary, &self.path).map_err(failed("replace", &self.path))?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync the directory of", &self.path))
    }
}

/// One that never got its name is not left behind: it may be a key.
impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A new file that has its mode from the start.
fn created(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// A daemon that may read a file may read its successor, also when root replaced it.
fn keep_owner(file: &File, replaced: &Path) -> io::Result<()> {
    let (Ok(old), new) = (fs::metadata(replaced), file.metadata()?) else { return Ok(()) };
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_its_owners_alone_before_a_byte_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let file = created(&path, KEY_MODE).unwrap();
        assert_eq!((mode(&path), file.metadata().unwrap().len()), (0o600, 0));
        assert!(created(&path, KEY_MODE).is_err(), "one that is there is never taken over with its mode");
    }

    #[test]
    fn what_is_replaced_gets_its_own_mode_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("certificate.pem"));
        for path in [&key, &dir.path().join(".key.pem.new")] {
            fs::write(path, "old").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        }
        write_pair(&key, &PrivateKey::from_pem("new".into()), &certificate, "chain").unwrap();
        assert_eq!((mode(&key), mode(&certificate)), (0o600, 0o644));
        assert_eq!(read_key(&key).unwrap().pem(), "new");
        assert_eq!(read_certificates(&certificate).unwrap(), "chain");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn whoever_could_read_a_key_can_read_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_key(&path, &PrivateKey::from_pem("old".into())).unwrap();
        // Only root may give a file away; for anybody else there is nothing to keep.
        let (uid, gid) = match std::os::unix::fs::chown(&path, Some(12_345), Some(12_346)) {
            Ok(()) => (12_345, 12_346),
            Err(_) => (fs::metadata(&path).unwrap().uid(), fs::metadata(&path).unwrap().gid()),
        };
        write_key(&path, &PrivateKey::from_pem("new".into())).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), mode(&path)), (uid, gid, 0o600));
    }

    #[test]
    fn a_file_without_end_and_one_that_is_not_there_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.pem");
        File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(read_certificates(&path), Err(FileError::TooLarge(named)) if named == path));
        let missing = read_key(&dir.path().join("missing.pem")).unwrap_err().to_string();
        assert!(missing.contains("missing.pem"), "{missing}");
    }
}
