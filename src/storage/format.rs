//! The format marker `FORMAT`: what a data directory is. The one truth about it; everything else is checked against it.
//!
//! A text file, so that an operator can read it, replaced atomically, and readable without opening sled: a directory of
//! a newer format is refused before anything in it is touched. The header in sled's `meta` tree repeats only the
//! incarnation, so that a log that was put under another marker is noticed.
//!
//! ```text
//! pilothouse data directory
//! format 1
//! incarnation 6f1c…
//! cluster 0a44…          the last three lines: once it is assigned
//! epoch 1
//! controller 3
//! crc32c 5d2e11aa        over all lines before this one
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::{FromStr, Lines};

use super::OpenError;
use crate::domain::controller_list::Epoch;
use crate::domain::ids::{ClusterId, ControllerId, Incarnation};

/// The format of data directories that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// First line of the marker.
const TITLE: &str = "pilothouse data directory";
/// More than any marker has: what is longer is not one.
pub const MARKER_BYTES_MAX: u64 = 4096;

/// What a data directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Which formatting of it: drawn at random when the directory was made.
    pub incarnation: Incarnation,
    /// Whose it is, once that is known.
    pub assignment: Option<Assignment>,
}

/// Whose a data directory is. Given once, and kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Which controller.
    pub id: ControllerId,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}")?;
        writeln!(f, "format {FORMAT}")?;
        writeln!(f, "incarnation {}", self.incarnation)?;
        if let Some(Assignment { cluster, epoch, id }) = &self.assignment {
            writeln!(f, "cluster {cluster}")?;
            writeln!(f, "epoch {epoch}")?;
            writeln!(f, "controller {id}")?;
        }
        Ok(())
    }
}

impl Marker {
    /// The file's content.
    #[must_use]
    pub fn encode(&self) -> String {
        let lines = self.to_string();
        format!("{lines}crc32c {:08x}\n", crc32c::crc32c(lines.as_bytes()))
    }

    /// Reads the content of the marker of `directory`.
    ///
    /// # Errors
    /// [`OpenError::NewerFormat`] before anything else is looked at, and [`OpenError::DamagedMarker`].
    pub fn decode(directory: &Path, path: &Path, content: &[u8]) -> Result<Self, OpenError> {
        let damaged = |reason: &str| OpenError::DamagedMarker { path: path.to_path_buf(), reason: reason.to_owned() };
        let text = std::str::from_utf8(content).map_err(|_| damaged("it is not text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(damaged("its first line is not that of a marker"));
        }
        let found: u32 = field(&mut lines, "format").ok_or_else(|| damaged("it has no format version"))?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { path: PathBuf::from(directory), found, supported: FORMAT });
        }
        let (covered, checksum) = text.rsplit_once("crc32c ").ok_or_else(|| damaged("it has no checksum"))?;
        if checksum != format!("{:08x}\n", crc32c::crc32c(covered.as_bytes())) {
            return Err(damaged("its checksum does not match"));
        }
        let incarnation = field(&mut lines, "incarnation").ok_or_else(|| damaged("it has no incarnation"))?;
        let mut assignment = None;
        if let Some(cluster) = field(&mut lines.clone(), "cluster") {
            lines.next();
            let epoch = field(&mut lines, "epoch").and_then(Epoch::new).ok_or_else(|| damaged("it has no epoch"))?;
            let id = field(&mut lines, "controller").ok_or_else(|| damaged("it has no controller id"))?;
            assignment = Some(Assignment { cluster, epoch, id });
        }
        if found == 0 || !lines.next().is_some_and(|line| line.starts_with("crc32c ")) {
            return Err(damaged("it is not a marker of this format"));
        }
        Ok(Self { incarnation, assignment })
    }
}

fn field<T: FromStr>(lines: &mut Lines<'_>, name: &str) -> Option<T> {
    lines.next()?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            incarnation: Incarnation::from_u128(0x1234),
            assignment: Some(Assignment {
                cluster: ClusterId::from_u128(0x5678),
                epoch: Epoch::FIRST,
                id: ControllerId::new(3).unwrap(),
            }),
        }
    }

    fn decode(content: &[u8]) -> Result<Marker, OpenError> {
        Marker::decode(Path::new("dir"), Path::new("dir/FORMAT"), content)
    }

    #[test]
    fn the_bytes_of_a_marker_are_fixed() {
        let expected = "pilothouse data directory\nformat 1\nincarnation 00000000-0000-0000-0000-000000001234\n\
                        cluster 00000000-0000-0000-0000-000000005678\nepoch 1\ncontroller 3\ncrc32c ";
        assert!(marker().encode().starts_with(expected), "{}", marker().encode());
    }

    #[test]
    fn a_marker_comes_back() {
        assert_eq!(decode(marker().encode().as_bytes()).unwrap(), marker());
        let blank = Marker { assignment: None, ..marker() };
        assert_eq!(decode(blank.encode().as_bytes()).unwrap(), blank);
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let good = marker().encode().into_bytes();
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_recognised_whatever_else_it_says() {
        let newer = b"pilothouse data directory\nformat 2\nsomething else entirely\n";
        assert!(matches!(decode(newer), Err(OpenError::NewerFormat { found: 2, supported: 1, .. })));
    }
}
