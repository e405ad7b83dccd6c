//! The newest vote that was acknowledged, in a small file beside the engine.
//!
//! sled takes a damaged stretch of its file for a write that a crash cut short, and drops it with everything after it,
//! silently. The mark of the log's end (`tail`) does not cover a vote, which is no entry: one that came after the last
//! entry would be gone, and could be given once more to somebody else in the same term. With this file a log whose vote
//! is older than the acknowledged one is refused.
//!
//! It is written after the vote is in the engine and before the vote is acknowledged, so that it is never ahead of what
//! was durable. It may be behind: a crash comes between the two, and builds from before this file write none.
//!
//! ```text
//! pilothouse vote of term 7 for 3 committed      or `given`
//! crc32c 5d2e11aa                                over the line before this one
//! ```

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message as _;

use super::disk;
use super::record::damaged;
use super::{LogError, MetaKey, sled_log::engine};
use crate::proto::store;

const FILE: &str = "voted";
const TITLE: &str = "pilothouse vote of ";

/// A vote as a log holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldVote {
    /// Raft term.
    pub term: u64,
    /// For whom; 0 for nobody.
    pub candidate: u64,
    /// Whether that one is known to lead.
    pub committed: bool,
}

impl HeldVote {
    /// From the value of [`MetaKey::Vote`].
    pub(super) fn decode(value: &[u8]) -> Result<Self, LogError> {
        let vote = store::Vote::decode(value).map_err(|_| damaged(MetaKey::Vote.to_string(), "it is not a vote"))?;
        Ok(Self { term: vote.term, candidate: vote.voted_for, committed: vote.committed })
    }

    /// Whether whoever holds this one has not forgotten another. In one term a vote is given once; only that somebody
    /// leads may become known after it.
    fn covers(self, other: Self) -> bool {
        let led_since = self.term == other.term && self.committed && !other.committed;
        self.term > other.term || self == other || led_since
    }

    fn encode(self) -> String {
        let line = format!("{TITLE}{self}\n");
        let checksum = crc32c::crc32c(line.as_bytes());
        format!("{line}crc32c {checksum:08x}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let words = text.lines().next()?.strip_prefix(TITLE)?.split(' ').collect::<Vec<_>>();
        let ["term", term, "for", candidate, state] = words[..] else { return None };
        let committed = match state {
            "given" => false,
            "committed" => true,
            _ => return None,
        };
        let vote = Self { term: term.parse().ok()?, candidate: candidate.parse().ok()?, committed };
        // The checksum with it: there is one way to write a vote.
        (vote.encode() == text).then_some(vote)
    }
}

impl fmt::Display for HeldVote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.committed { "committed" } else { "given" };
        write!(f, "term {} for {} {state}", self.term, self.candidate)
    }
}

/// The mark.
#[derive(Debug)]
pub(super) struct Voted {
    path: PathBuf,
    votes: Mutex<Votes>,
}

#[derive(Debug, Clone, Copy)]
struct Votes {
    /// In the engine, perhaps not durable.
    saved: Option<HeldVote>,
    /// In the file, durable.
    marked: Option<HeldVote>,
}

impl Voted {
    /// The mark in `directory`; none in one that is new or from an older build.
    pub(super) fn open(directory: &Path) -> Result<Self, LogError> {
        let path = directory.join(FILE);
        let marked = match fs::read(&path) {
            Ok(content) => {
                let vote = std::str::from_utf8(&content).ok().and_then(HeldVote::parse);
                Some(vote.ok_or_else(|| damaged(path.display().to_string(), "it holds no vote"))?)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(engine("read the mark of the vote")(error)),
        };
        Ok(Self { path, votes: Mutex::new(Votes { saved: None, marked }) })
    }

    /// Whether a log that holds this vote has not forgotten one that was acknowledged.
    pub(super) fn check(&self, held: Option<HeldVote>) -> Result<(), LogError> {
        let mut votes = self.lock();
        if let Some(marked) = votes.marked.filter(|marked| held.is_none_or(|held| !held.covers(*marked))) {
            return Err(LogError::VoteLost { marked, held });
        }
        votes.saved = held;
        Ok(())
    }

    /// The engine has taken this vote.
    pub(super) fn saved(&self, vote: HeldVote) {
        self.lock().saved = Some(vote);
    }

    /// The vote that is to be marked once it is durable: asked for before a sync, since what is saved meanwhile is not
    /// covered by it.
    pub(super) fn unmarked(&self) -> Option<HeldVote> {
        let votes = self.lock();
        votes.saved.filter(|saved| votes.marked != Some(*saved))
    }

    /// The engine has made this vote durable. Marked when this returns, whoever marked it: syncs may overlap, and each
    /// acknowledges what it covers.
    pub(super) fn durable(&self, vote: HeldVote) -> Result<(), LogError> {
        let mut votes = self.lock();
        if votes.marked.is_some_and(|marked| marked.covers(vote)) {
            return Ok(());
        }
        disk::replace(&self.path, vote.encode().as_bytes()).map_err(engine("mark the vote"))?;
        votes.marked = Some(vote);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Votes> {
        self.votes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, candidate: u64, committed: bool) -> HeldVote {
        HeldVote { term, candidate, committed }
    }

    #[test]
    fn the_bytes_of_a_mark_are_fixed_and_every_changed_or_missing_byte_is_noticed() {
        let text = vote(7, 3, true).encode();
        assert_eq!(text, "pilothouse vote of term 7 for 3 committed\ncrc32c d3629e1b\n");
        assert_eq!(HeldVote::parse(&text), Some(vote(7, 3, true)));
        assert_eq!(HeldVote::parse(&vote(u64::MAX, 0, false).encode()), Some(vote(u64::MAX, 0, false)));
        let folder = tempfile::tempdir().unwrap();
        let refused = |content: &[u8]| {
            fs::write(folder.path().join(FILE), content).unwrap();
            matches!(Voted::open(folder.path()), Err(LogError::Damaged { .. }))
        };
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert!(refused(&changed) && refused(&text.as_bytes()[..at]), "byte {at}");
        }
    }

    #[test]
    fn a_vote_that_is_older_than_the_acknowledged_one_is_noticed_and_a_newer_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let voted = Voted::open(folder.path()).unwrap();
        assert!(voted.check(None).is_ok(), "a new log");
        assert!(voted.check(Some(vote(1, 1, false))).is_ok(), "one of an older build");
        voted.durable(vote(7, 3, false)).unwrap();
        let reopened = |held| Voted::open(folder.path()).unwrap().check(held);
        for kept in [vote(7, 3, false), vote(7, 3, true), vote(7, 2, true), vote(8, 1, false)] {
            assert!(reopened(Some(kept)).is_ok(), "{kept}");
        }
        for lost in [vote(6, 3, true), vote(7, 2, false), vote(0, 0, false)] {
            let refused = reopened(Some(lost)).unwrap_err();
            assert!(matches!(refused, LogError::VoteLost { held: Some(held), .. } if held == lost), "{refused}");
        }
        assert!(matches!(reopened(None), Err(LogError::VoteLost { held: None, .. })));
        Voted::open(folder.path()).unwrap().durable(vote(7, 2, true)).unwrap();
        assert!(reopened(Some(vote(7, 3, false))).is_err(), "somebody is known to lead in that term");
        assert!(reopened(Some(vote(7, 3, true))).is_err(), "a term has one leader");
    }

    #[test]
    fn a_mark_never_goes_back_and_is_written_once_for_each_vote() {
        let folder = tempfile::tempdir().unwrap();
        let voted = Voted::open(folder.path()).unwrap();
        assert_eq!(voted.unmarked(), None);
        voted.saved(vote(7, 3, false));
        let unmarked = voted.unmarked().unwrap();
        voted.durable(unmarked).unwrap();
        assert_eq!(voted.unmarked(), None, "an append writes nothing for it");
        // A sync that began before the newer vote was saved ends last.
        voted.durable(vote(8, 1, false)).unwrap();
        voted.durable(unmarked).unwrap();
        assert!(Voted::open(folder.path()).unwrap().check(Some(vote(7, 3, false))).is_err());
        // Without its folder a mark cannot be written, and then a vote is not acknowledged.
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(matches!(voted.durable(vote(9, 1, false)), Err(LogError::Engine { .. })));
    }
}
