//! Which offers of a session still wait for the router's answer, and which version each of them carried.

use std::collections::VecDeque;

use crate::domain::controller_list::ListVersion;

/// Offers whose answers are remembered to be missing; a lost push is offered again at every heartbeat.
pub(super) const UNANSWERED_MAX: usize = 64;

/// The offers of one session.
#[derive(Debug, Default)]
pub(super) struct Offers {
    last: u64,
    /// Up to this one no answer is expected any more.
    forgotten: u64,
    unanswered: VecDeque<(u64, ListVersion)>,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// An offer that was waiting for it.
    Offer(ListVersion),
    /// One that was given up.
    Late,
    /// None that was made, or one that was answered before.
    Nothing,
}

impl Offers {
    /// The nonce of an offer of this version.
    pub(super) fn make(&mut self, version: ListVersion) -> u64 {
        self.last += 1;
        self.unanswered.push_back((self.last, version));
        if self.unanswered.len() > UNANSWERED_MAX
            && let Some((nonce, _)) = self.unanswered.pop_front()
        {
            self.forgotten = nonce;
        }
        self.last
    }

    /// An answer came. Each offer has one.
    pub(super) fn answer(&mut self, nonce: u64) -> Answered {
        match self.unanswered.iter().position(|(waiting, _)| *waiting == nonce) {
            Some(at) => self.unanswered.remove(at).map_or(Answered::Nothing, |(_, version)| Answered::Offer(version)),
            None if (1..=self.forgotten).contains(&nonce) => Answered::Late,
            None => Answered::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::controller_list::Epoch;

    #[test]
    fn each_offer_has_one_answer_and_what_was_not_offered_has_none() {
        let (old, new) = (ListVersion::at(Epoch::FIRST, 3), ListVersion::at(Epoch::FIRST, 7));
        let mut offers = Offers::default();
        assert_eq!((offers.make(old), offers.make(new)), (1, 2));
        assert_eq!(offers.answer(2), Answered::Offer(new));
        assert_eq!(offers.answer(1), Answered::Offer(old), "an answer may cross the next offer");
        for nonce in [0, 1, 2, 3, u64::MAX] {
            assert_eq!(offers.answer(nonce), Answered::Nothing, "{nonce}");
        }
    }

    #[test]
    fn no_more_than_so_many_are_remembered_and_a_late_answer_is_no_fault() {
        let version = ListVersion::at(Epoch::FIRST, 3);
        let mut offers = Offers::default();
        for nonce in 1..=UNANSWERED_MAX as u64 + 1 {
            assert_eq!(offers.make(version), nonce);
        }
        assert_eq!(offers.unanswered.len(), UNANSWERED_MAX);
        assert_eq!(offers.answer(1), Answered::Late);
        assert_eq!(offers.answer(2), Answered::Offer(version));
    }
}
