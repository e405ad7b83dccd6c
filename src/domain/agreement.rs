//! Whether controllers have come to the same state: hashes of it at the same place of the log, and their comparison.
//!
//! Every controller takes a hash where the log tells it to: at each announcement, which is an entry of every level, so
//! that builds of different ages hash at the same places. How a state becomes bytes is the snapshot codec's concern; a
//! scheme names it, and hashes of different schemes are not compared.

use std::collections::VecDeque;

use super::state::LogPosition;

/// Most hashes that a controller keeps: the leader takes one every few minutes, so these are the last hours.
pub const CHECKPOINTS_KEPT_MAX: usize = 32;

/// A hash of everything that is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateHash {
    /// How the state became bytes: 1 is SHA-256 over the records of its snapshot.
    pub scheme: u32,
    /// The hash.
    pub sha256: [u8; 32],
}

/// The state right after one entry was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// After which entry.
    pub position: LogPosition,
    /// Hash of the state.
    pub hash: StateHash,
}

/// The newest checkpoints of a controller, oldest first; at most [`CHECKPOINTS_KEPT_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoints(VecDeque<Checkpoint>);

impl Checkpoints {
    /// Keeps another one, which may have taken longer than a later one.
    pub fn keep(&mut self, checkpoint: Checkpoint) {
        let at = self.0.partition_point(|kept| kept.position < checkpoint.position);
        self.0.insert(at, checkpoint);
        let excess = self.0.len().saturating_sub(CHECKPOINTS_KEPT_MAX);
        self.0.drain(..excess);
    }

    /// Those at least as new as a position; all without one.
    pub fn since(&self, position: Option<LogPosition>) -> impl Iterator<Item = &Checkpoint> {
        self.0.iter().filter(move |kept| position.is_none_or(|position| kept.position >= position))
    }

    /// The one at a position.
    #[must_use]
    pub fn at(&self, position: LogPosition) -> Option<&Checkpoint> {
        self.0.iter().find(|kept| kept.position == position)
    }
}

impl FromIterator<Checkpoint> for Checkpoints {
    fn from_iter<T: IntoIterator<Item = Checkpoint>>(checkpoints: T) -> Self {
        let mut all = Self::default();
        checkpoints.into_iter().for_each(|checkpoint| all.keep(checkpoint));
        all
    }
}

/// What two controllers' hashes say of their states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// The same at this log index, the newest that both have hashed.
    Equal {
        /// Where.
        index: u64,
    },
    /// Another one at this log index, the newest that both have hashed: one of them is wrong.
    Differs {
        /// Where.
        index: u64,
    },
    /// Nothing to compare: no common place, or no common scheme there.
    Unknown,
}

/// Compares the newest hashes that two controllers have in common.
#[must_use]
pub fn compare(ours: &Checkpoints, theirs: &Checkpoints) -> Agreement {
    let common = ours.0.iter().rev().find_map(|our| {
        let their = theirs.at(our.position).filter(|their| their.hash.scheme == our.hash.scheme)?;
        Some((our, their))
    });
    match common {
        None => Agreement::Unknown,
        Some((our, their)) if our.hash == their.hash => Agreement::Equal { index: our.position.index },
        Some((our, _)) => Agreement::Differs { index: our.position.index },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, content: u8) -> Checkpoint {
        hashed(1, index, 1, content)
    }

    fn hashed(term: u64, index: u64, scheme: u32, content: u8) -> Checkpoint {
        Checkpoint { position: LogPosition { term, index }, hash: StateHash { scheme, sha256: [content; 32] } }
    }

    fn compared(ours: &[Checkpoint], theirs: &[Checkpoint]) -> Agreement {
        compare(&ours.iter().copied().collect(), &theirs.iter().copied().collect())
    }

    #[test]
    fn the_newest_common_place_decides() {
        let table = [
            (vec![at(3, 1), at(5, 2)], vec![at(3, 1), at(5, 2)], Agreement::Equal { index: 5 }),
            (vec![at(3, 1), at(5, 2)], vec![at(3, 1)], Agreement::Equal { index: 3 }),
            (vec![at(3, 1), at(5, 2)], vec![at(3, 9), at(5, 2)], Agreement::Equal { index: 5 }),
            (vec![at(3, 1), at(5, 2)], vec![at(3, 1), at(5, 9)], Agreement::Differs { index: 5 }),
            (vec![at(3, 1)], vec![at(4, 1)], Agreement::Unknown),
            (vec![], vec![at(4, 1)], Agreement::Unknown),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(compared(&ours, &theirs), expected, "{ours:?} {theirs:?}");
            assert_eq!(compared(&theirs, &ours), expected, "it does not matter who asks");
        }
    }

    #[test]
    fn other_schemes_and_other_terms_are_not_compared() {
        assert_eq!(compared(&[hashed(1, 4, 1, 7)], &[hashed(1, 4, 2, 8)]), Agreement::Unknown);
        assert_eq!(compared(&[hashed(1, 4, 1, 7)], &[hashed(2, 4, 1, 8)]), Agreement::Unknown);
        let older_scheme_at_4 = [hashed(1, 3, 1, 7), hashed(1, 4, 2, 8)];
        assert_eq!(compared(&older_scheme_at_4, &[at(3, 7), at(4, 9)]), Agreement::Equal { index: 3 });
    }

    #[test]
    fn the_newest_32_are_kept_in_order_however_they_come() {
        let count = CHECKPOINTS_KEPT_MAX as u64 + 2;
        let mut indexes: Vec<_> = (1..=count).collect();
        indexes.swap(3, 20);
        let kept: Checkpoints = indexes.into_iter().map(|index| at(index, 0)).collect();
        let indexes: Vec<_> = kept.since(None).map(|kept| kept.position.index).collect();
        assert_eq!(indexes, (3..=count).collect::<Vec<_>>());
        assert_eq!(kept.since(Some(at(count, 0).position)).count(), 1);
    }
}
