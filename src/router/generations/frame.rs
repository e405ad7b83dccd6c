//! The frame around everything that a router saves: it tells an empty, cut, damaged or foreign file from a good one.
//!
//! ```text
//! 8 bytes  "PLTHROUT"
//! 2 bytes  what the file is (FileKind), big-endian
//! 2 bytes  version of its format, big-endian
//! 4 bytes  length of the payload, big-endian
//! 4 bytes  CRC-32C over all of the above and the payload, big-endian
//! ...      payload: a protocol buffer, see `record`
//! ```

use crate::domain::acceptance::Refusal;
use crate::domain::ids::ClusterId;

/// First bytes of every file of ours.
const MAGIC: &[u8; 8] = b"PLTHROUT";
/// The format that this build writes, and the newest that it reads.
const FORMAT: u16 = 1;
/// Length of everything before the payload.
const HEADER_BYTES: usize = 20;
/// Largest file that is read: a list at its limit with much room, and the bound for a foreign one.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file is. Appended, never edited: the numbers are on disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A saved list.
    List = 1,
    /// The trusted cluster and the highest version that was ever adopted.
    Floor = 2,
    /// Controllers that were held since the last contact with a member of the newest list.
    Reserve = 3,
    /// The last boot and registration.
    Registration = 4,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not readable at all.
    #[error("it cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// No byte in it.
    #[error("it is empty")]
    Empty,
    /// Not written by Pilothouse.
    #[error("it is not a file of a Pilothouse router")]
    NotOurs,
    /// One of ours under the name of another one.
    #[error("it is another kind of file than its name says")]
    WrongKind,
    /// Written by a newer build.
    #[error("it has format {found}, this build reads up to {FORMAT}: use the newer build again, or let it be")]
    NewerFormat {
        /// Its format.
        found: u16,
    },
    /// Shorter or longer than it says.
    #[error("it is truncated or has a tail: {found} bytes, it says {expected}")]
    Length {
        /// What its header says.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// Its checksum does not match.
    #[error("its checksum does not match: the disk or somebody else changed it")]
    Corrupt,
    /// The checksum is right and the content is not.
    #[error("its content cannot be decoded: {detail}")]
    Undecodable {
        /// The decoder's words.
        detail: String,
    },
    /// A list that would be refused if a controller offered it.
    #[error("{0}")]
    Refused(Refusal),
    /// Of a cluster that this router does not belong to.
    #[error("it is of cluster {found}, this router belongs to cluster {trusted}")]
    ForeignCluster {
        /// Which one is trusted.
        trusted: ClusterId,
        /// Which one the file is of.
        found: ClusterId,
    },
}

/// The bytes of a file.
pub(super) fn seal(kind: FileKind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a list is at most 192 KiB, and everything else is bounded");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(kind as u16).to_be_bytes());
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a file.
pub(super) fn open(kind: FileKind, bytes: &[u8]) -> Result<&[u8], Unusable> {
    if bytes.is_empty() {
        return Err(Unusable::Empty);
    }
    if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
        return Err(Unusable::NotOurs);
    }
    let Some((header, payload)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Unusable::Length { expected: HEADER_BYTES, found: bytes.len() });
    };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let format = word(10);
    if format > FORMAT {
        return Err(Unusable::NewerFormat { found: format });
    }
    let expected = long(12) as usize;
    if payload.len() != expected {
        return Err(Unusable::Length { expected: HEADER_BYTES + expected, found: bytes.len() });
    }
    if crc32c::crc32c_append(crc32c::crc32c(&header[..16]), payload) != long(16) {
        return Err(Unusable::Corrupt);
    }
    if word(8) != kind as u16 {
        return Err(Unusable::WrongKind);
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let expected = b"PLTHROUT\x00\x01\x00\x01\x00\x00\x00\x04";
        let sealed = seal(FileKind::List, b"list");
        assert_eq!(&sealed[..16], expected);
        assert_eq!(&sealed[16..], [0x95, 0x69, 0xb9, 0xdb, b'l', b'i', b's', b't'], "{sealed:02x?}");
        assert_eq!(open(FileKind::List, &sealed).unwrap(), b"list");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let sealed = seal(FileKind::List, b"some list");
        for length in 0..sealed.len() {
            assert!(open(FileKind::List, &sealed[..length]).is_err(), "cut to {length} bytes");
        }
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(FileKind::List, &bytes).is_err(), "bit {bit} flipped");
        }
        let tail = [sealed, vec![0]].concat();
        assert!(matches!(open(FileKind::List, &tail), Err(Unusable::Length { .. })));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        assert!(matches!(open(FileKind::List, b""), Err(Unusable::Empty)));
        assert!(matches!(open(FileKind::List, b"{\"addresses\": []}"), Err(Unusable::NotOurs)));
        assert!(matches!(open(FileKind::List, b"PLTHROUT"), Err(Unusable::Length { .. })));
        assert!(matches!(open(FileKind::Floor, &seal(FileKind::List, b"x")), Err(Unusable::WrongKind)));
        let mut newer = seal(FileKind::List, b"x");
        newer[11] = 2;
        assert!(matches!(open(FileKind::List, &newer), Err(Unusable::NewerFormat { found: 2 })));
    }
}
