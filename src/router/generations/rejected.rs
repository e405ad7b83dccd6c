//! Files that could not be used are kept under another name: which ones, and how many. Pure.

/// How many of the oldest set-aside files of one name are kept: what was wrong first.
pub(super) const KEPT_FIRST: usize = 3;
/// How many of the newest set-aside files of one name are kept: what is wrong now.
pub(super) const KEPT_NEWEST: usize = 5;

/// What lies between a file's name and the time at which it was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// It could not be used.
    Rejected,
    /// `router trust` replaced it.
    Replaced,
}

impl Aside {
    const fn infix(self) -> &'static str {
        match self {
            Self::Rejected => ".rejected-",
            Self::Replaced => ".replaced-",
        }
    }

    /// A name for `file`, set aside at this time, that comes after all others: several in one millisecond are named
    /// ahead of the clock, and the next one may not be taken for an older one.
    pub(super) fn name(self, file: &str, at_ms: u64, taken: &[String]) -> String {
        let latest = taken.iter().filter_map(|name| self.time(file, name)).max();
        let at_ms = latest.map_or(at_ms, |latest| at_ms.max(latest.saturating_add(1)));
        format!("{file}{}{at_ms:013}", self.infix())
    }

    /// When a file was set aside, by its name; `None` for another one's.
    fn time(self, file: &str, name: &str) -> Option<u64> {
        name.strip_prefix(file)?.strip_prefix(self.infix())?.parse().ok()
    }

    /// Which of these names are beyond what is kept for `file`.
    pub(super) fn superfluous(self, file: &str, names: &[String]) -> Vec<String> {
        let mut ours: Vec<_> = names.iter().filter_map(|name| Some((self.time(file, name)?, name))).collect();
        ours.sort_unstable();
        let middle = KEPT_FIRST..ours.len().saturating_sub(KEPT_NEWEST).max(KEPT_FIRST);
        ours.get(middle).unwrap_or_default().iter().map(|(_, name)| (*name).clone()).collect()
    }
}

/// Whether a name is that of a file that was set aside.
pub(super) fn is_set_aside(name: &str) -> bool {
    [Aside::Rejected, Aside::Replaced].iter().any(|aside| name.contains(aside.infix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_and_the_newest_five_are_kept() {
        let names: Vec<_> = (1..=12).map(|at| format!("list.current.rejected-{:013}", at * 7)).collect();
        let superfluous = Aside::Rejected.superfluous("list.current", &names);
        assert_eq!(superfluous, names[3..7]);
        assert!(Aside::Rejected.superfluous("list.current", &names[..8]).is_empty());
        assert!(Aside::Rejected.superfluous("list.current", &names[..2]).is_empty());
        assert!(Aside::Rejected.superfluous("list.previous", &names).is_empty());
        assert!(Aside::Replaced.superfluous("list.current", &names).is_empty());
    }

    #[test]
    fn the_newest_has_the_latest_name_also_when_the_clock_is_behind_the_names() {
        let names: Vec<_> = (10..=14).map(|at| format!("floor.rejected-{at:013}")).collect();
        assert_eq!(Aside::Rejected.name("floor", 8, &names), "floor.rejected-0000000000015");
        assert_eq!(Aside::Rejected.name("floor", 20, &names), "floor.rejected-0000000000020");
        assert_eq!(Aside::Replaced.name("floor", 8, &names), "floor.replaced-0000000000008");
    }

    #[test]
    fn two_at_the_same_time_get_two_names() {
        let first = Aside::Rejected.name("floor", 5, &[]);
        assert_eq!(first, "floor.rejected-0000000000005");
        assert_eq!(Aside::Rejected.name("floor", 5, &[first]), "floor.rejected-0000000000006");
        assert!(is_set_aside("floor.rejected-0000000000005") && !is_set_aside("floor"));
    }
}
