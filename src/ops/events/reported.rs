//! What others reported: a ring of its own, so that they push out none of the owner's events, in which nobody has more than
//! a share, so that one of them does not push out the others. Pure.

use std::collections::VecDeque;

use super::told::Told;

/// Most reported events that are kept; older ones are dropped.
pub const REPORTED_KEPT_MAX: usize = 1_024;
/// Most of them of one reporter: of its older ones nobody needs to know for so long.
pub const REPORTED_OF_ONE_MAX: usize = 64;

/// What others reported.
#[derive(Debug, Default)]
pub struct Reported {
    kept: VecDeque<(u64, Told)>,
    newest: u64,
}

impl Reported {
    /// Keeps what is not kept already: a report whose answer was lost comes twice. Whether it is new.
    pub fn take(&mut self, told: Told) -> bool {
        let of_one = |kept: &(u64, Told)| kept.1.source == told.source;
        let known = |kept: &(u64, Told)| kept.1.instance == told.instance && kept.1.number == told.number;
        if self.kept.iter().any(|kept| of_one(kept) && known(kept)) {
            return false;
        }
        if self.kept.iter().filter(|kept| of_one(kept)).count() >= REPORTED_OF_ONE_MAX {
            let oldest = self.kept.iter().position(of_one);
            oldest.map(|at| self.kept.remove(at));
        } else if self.kept.len() >= REPORTED_KEPT_MAX {
            self.kept.pop_front();
        }
        self.newest += 1;
        self.kept.push_back((self.newest, told));
        true
    }

    /// What came after that arrival, oldest first, at most so many; each with the number of its arrival.
    pub fn after(&self, arrival: u64, limit: usize) -> impl Iterator<Item = &(u64, Told)> {
        self.kept.iter().filter(move |(number, _)| *number > arrival).take(limit)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ops::events::{Event, Phase, Recorded};

    fn told(source: &str, instance: u64, number: u64) -> Told {
        let at = Duration::from_secs(1);
        Told::of(&Recorded { number, at, phase: Phase::Once, event: Event::Removed }, instance, source)
    }

    fn numbers(reported: &Reported) -> Vec<u64> {
        reported.after(0, usize::MAX).map(|(_, told)| told.number).collect()
    }

    #[test]
    fn what_comes_twice_is_kept_once() {
        let mut reported = Reported::default();
        for number in [1, 2, 1, 2, 3] {
            reported.take(told("router a", 7, number));
        }
        assert_eq!(numbers(&reported), [1, 2, 3]);
        reported.take(told("router a", 8, 1));
        reported.take(told("router b", 7, 1));
        assert_eq!(numbers(&reported), [1, 2, 3, 1, 1], "another start, and another router");
        assert_eq!(reported.after(3, 1).map(|(arrival, _)| *arrival).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn nobody_has_more_than_a_share_and_all_together_no_more_than_the_ring() {
        let mut reported = Reported::default();
        reported.take(told("router quiet", 1, 1));
        for number in 0..10 * REPORTED_KEPT_MAX as u64 {
            reported.take(told("router loud", 1, number));
        }
        assert_eq!(reported.after(0, usize::MAX).count(), REPORTED_OF_ONE_MAX + 1);
        assert_eq!(numbers(&reported)[0], 1, "the quiet one is still heard");
        for router in 0..REPORTED_KEPT_MAX {
            reported.take(told(&format!("router {router}"), 1, 1));
        }
        assert_eq!(reported.after(0, usize::MAX).count(), REPORTED_KEPT_MAX);
    }
}
