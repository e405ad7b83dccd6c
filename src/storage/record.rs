//! What a stored value looks like: record format, checksum, content. Both together say whether it is what was written.
//!
//! ```text
//! meta   [format u8][crc32c u32][content]                 the checksum covers the key byte and the content
//! entry  [format u8][crc32c u32][length u32][content]     the checksum covers index, length and content
//! ```
//!
//! An entry is cut into parts of [`PART_BYTES_MAX`]: sled moves large pages into files that it never syncs.

use bytes::Bytes;
use prost::Message;

use super::{LogError, MetaKey};
use crate::domain::state::LogPosition;
use crate::proto::store;

/// The record format of this build. Every value states its own.
pub const RECORD_FORMAT: u8 = 1;
/// Largest part of an entry, in bytes. A page of sled holds up to 17 parts, and must stay below a quarter of a segment.
pub const PART_BYTES_MAX: usize = 16 * 1024;

const META_PREFIX_BYTES: usize = 1 + 4;
const ENTRY_PREFIX_BYTES: usize = 1 + 4 + 4;

/// A value beside the entries, as it is stored.
#[must_use]
pub fn encode_meta(key: MetaKey, content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(META_PREFIX_BYTES + content.len());
    value.push(RECORD_FORMAT);
    value.extend(meta_checksum(key, content).to_be_bytes());
    value.extend(content);
    value
}

/// The content of a value beside the entries.
///
/// # Errors
/// [`LogError::NewerRecord`] and [`LogError::Damaged`].
pub fn decode_meta(key: MetaKey, value: &[u8]) -> Result<Vec<u8>, LogError> {
    let what = || key.to_string();
    let (format, rest) = value.split_first().ok_or_else(|| damaged(what(), "it is empty"))?;
    check_format(what, *format)?;
    let (checksum, content) = rest.split_first_chunk().ok_or_else(|| damaged(what(), "it is cut off"))?;
    if u32::from_be_bytes(*checksum) != meta_checksum(key, content) {
        return Err(damaged(what(), "its checksum does not match"));
    }
    Ok(content.to_vec())
}

/// An entry as it is stored, before it is cut into parts.
#[must_use]
pub fn encode_entry(index: u64, content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).expect("entries are limited to ENTRY_BYTES_MAX");
    let mut value = Vec::with_capacity(ENTRY_PREFIX_BYTES + content.len());
    value.push(RECORD_FORMAT);
    value.extend(entry_checksum(index, length, content).to_be_bytes());
    value.extend(length.to_be_bytes());
    value.extend(content);
    value.into()
}

/// The parts of an encoded entry, in order, each with its number.
pub fn parts(encoded: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    (0..).zip(encoded.chunks(PART_BYTES_MAX))
}

/// The content of an entry, from its joined parts.
///
/// # Errors
/// [`LogError::NewerRecord`] and [`LogError::Damaged`].
pub fn decode_entry(index: u64, joined: Bytes) -> Result<Bytes, LogError> {
    let what = || format!("log entry {index}");
    let (format, rest) = joined.split_first().ok_or_else(|| damaged(what(), "it is empty"))?;
    check_format(what, *format)?;
    let cut_off = || damaged(what(), "it is cut off");
    let (checksum, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
    let (length, content) = rest.split_first_chunk().ok_or_else(cut_off)?;
    let length = u32::from_be_bytes(*length);
    if content.len() != length as usize {
        return Err(damaged(what(), "its length does not match"));
    }
    if u32::from_be_bytes(*checksum) != entry_checksum(index, length, content) {
        return Err(damaged(what(), "its checksum does not match"));
    }
    Ok(joined.slice(ENTRY_PREFIX_BYTES..))
}

/// A position, as the content of a value.
#[must_use]
pub fn encode_position(position: LogPosition) -> Vec<u8> {
    store::LogId { term: position.term, index: position.index }.encode_to_vec()
}

/// The position that a value contains.
///
/// # Errors
/// [`LogError::Damaged`].
pub fn decode_position(key: MetaKey, content: &[u8]) -> Result<LogPosition, LogError> {
    let position = store::LogId::decode(content).map_err(|_| damaged(key.to_string(), "it is not a position"))?;
    Ok(LogPosition { term: position.term, index: position.index })
}

pub(super) fn damaged(what: String, reason: &str) -> LogError {
    LogError::Damaged { what, reason: reason.to_owned() }
}

fn check_format(what: impl Fn() -> String, found: u8) -> Result<(), LogError> {
    match found {
        RECORD_FORMAT => Ok(()),
        0 => Err(damaged(what(), "it has no record format")),
        found => Err(LogError::NewerRecord { what: what(), found, supported: RECORD_FORMAT }),
    }
}

fn meta_checksum(key: MetaKey, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[key.byte()]), content)
}

/// The index is covered, so that an entry in the wrong place is a damaged one.
fn entry_checksum(index: u64, length: u32, content: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&index.to_be_bytes());
    let checksum = crc32c::crc32c_append(checksum, &length.to_be_bytes());
    crc32c::crc32c_append(checksum, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_parts() {
        for size in [0, 1, PART_BYTES_MAX - 9, PART_BYTES_MAX, 3 * PART_BYTES_MAX + 1] {
            let content: Vec<u8> = (0..size).map(|i| i.to_le_bytes()[0]).collect();
            let encoded = encode_entry(7, &content);
            let joined: Vec<u8> = parts(&encoded).flat_map(|(_, part)| part.to_vec()).collect();
            assert!(parts(&encoded).all(|(_, part)| part.len() <= PART_BYTES_MAX));
            assert_eq!(decode_entry(7, joined.into()).unwrap(), content);
        }
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_noticed() {
        let encoded = encode_entry(7, b"register router-1").to_vec();
        for bit in 0..encoded.len() * 8 {
            let mut flipped = encoded.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(7, flipped.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_entry_in_the_wrong_place_is_damaged() {
        let error = decode_entry(8, encode_entry(7, b"x")).unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_value_of_a_later_record_format_is_not_called_damaged() {
        let mut value = encode_meta(MetaKey::Vote, b"v");
        value[0] = RECORD_FORMAT + 1;
        assert!(matches!(decode_meta(MetaKey::Vote, &value), Err(LogError::NewerRecord { found: 2, .. })));
    }

    #[test]
    fn a_value_under_another_key_is_damaged() {
        let value = encode_meta(MetaKey::Committed, b"v");
        assert_eq!(decode_meta(MetaKey::Committed, &value).unwrap(), b"v");
        assert!(decode_meta(MetaKey::Purged, &value).is_err());
        assert!(decode_meta(MetaKey::Committed, &value[..3]).is_err());
        assert!(decode_meta(MetaKey::Committed, &[]).is_err());
    }
}
