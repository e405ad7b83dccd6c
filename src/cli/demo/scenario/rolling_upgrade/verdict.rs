//! Whether an upgrade was one that nobody noticed. Pure: each claim is a check of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cli::demo::layout::Unit;
use crate::cli::demo::tour::checks::{self, WRITE_GAP_MAX, longest_gap};
use crate::cli::demo::view::{ClusterView, RouterSelf};

/// Everything that was seen.
#[derive(Debug, Clone)]
pub(super) struct Observations {
    /// The cluster before the first upgrade.
    pub(super) before: ClusterView,
    /// What the older and this binary say of their version.
    pub(super) versions: [String; 2],
    /// Whoever ran from the start, and whoever was upgraded.
    pub(super) units: BTreeSet<Unit>,
    pub(super) upgraded: BTreeSet<Unit>,
    /// When writes were acknowledged, and when the load ended.
    pub(super) acks_ms: Vec<u64>,
    pub(super) ended_ms: u64,
    /// Moments at which a router had no list that it could use.
    pub(super) without_list: Vec<String>,
    /// The end.
    pub(super) after: ClusterView,
    pub(super) routers: BTreeMap<String, RouterSelf>,
}

/// Everybody was upgraded, writes went on, no router lost its list, and the newest one reached everybody.
pub(super) fn verdict(seen: &Observations) -> anyhow::Result<String> {
    let Observations { before, versions: [older, newer], units, upgraded, after, .. } = seen;
    runs(before, older).context("before the first upgrade")?;
    runs(after, newer).context("in the end")?;
    let left: Vec<String> = units.difference(upgraded).map(Unit::to_string).collect();
    ensure!(left.is_empty(), "{} were not upgraded", left.join(", "));
    let gap = writes_went_on(&seen.acks_ms, seen.ended_ms)?;
    ensure!(seen.without_list.is_empty(), "a router had no usable list: {}", seen.without_list.join("; "));
    ensure!(after.list != before.list, "the list did not change");
    let agreed = checks::agreed(after, &seen.routers)?;
    let (writes, count) = (seen.acks_ms.len(), units.len());
    Ok(format!(
        "{count} processes went from {older} to {newer}; no router was ever without its list;\n\
         {:9}the longest gap in writes was {} ms, of {writes} in all;\n{:9}{agreed}",
        "",
        gap.as_millis(),
        "",
    ))
}

/// The longest gap in acknowledged writes.
pub(super) fn writes_went_on(acks_ms: &[u64], ended_ms: u64) -> anyhow::Result<Duration> {
    let gap = longest_gap(acks_ms, ended_ms).context("no write was acknowledged")?;
    ensure!(gap <= WRITE_GAP_MAX, "no write was acknowledged for {gap:?}, the limit is {WRITE_GAP_MAX:?}");
    Ok(gap)
}

/// Every controller says that it runs this version.
pub(super) fn runs(view: &ClusterView, version: &str) -> anyhow::Result<()> {
    ensure!(!view.members.is_empty(), "there are no controllers");
    for member in view.members.values() {
        ensure!(member.version == version, "{} runs {:?} instead of {version}", member.name, member.version);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::view::{HeldSelf, MemberView, RouterView};

    fn view(list: &str, version: &str) -> ClusterView {
        let member = |id: u64| {
            let (name, version) = (format!("controller-{id}"), version.to_owned());
            (id, MemberView { name, voter: true, up: true, version, lag_entries: 0 })
        };
        let router =
            RouterView { registered: true, held: list.to_owned(), controllers: [1].into(), ..RouterView::default() };
        ClusterView {
            leader: Some(1),
            list: Some(list.to_owned()),
            members: (1..=3).map(member).collect(),
            routers: [("router-1".to_owned(), router)].into(),
            ..ClusterView::default()
        }
    }

    fn as_it_should_be() -> Observations {
        let held = Some(HeldSelf { version_text: "1.9".to_owned(), controllers: (1..=3).collect() });
        let units: BTreeSet<Unit> = [Unit::Controller(1), Unit::Router(1)].into();
        Observations {
            before: view("1.1", "0.1.0"),
            versions: ["0.1.0".to_owned(), "0.2.0".to_owned()],
            upgraded: units.clone(),
            units,
            acks_ms: vec![10, 400],
            ended_ms: 420,
            without_list: Vec::new(),
            after: view("1.9", "0.2.0"),
            routers: [("router-1".to_owned(), RouterSelf { held, ..RouterSelf::default() })].into(),
        }
    }

    #[test]
    fn an_upgrade_that_nobody_noticed_is_one() {
        let said = verdict(&as_it_should_be()).unwrap();
        assert!(said.contains("2 processes went from 0.1.0 to 0.2.0") && said.contains("390 ms, of 2"), "{said}");
    }

    #[test]
    fn nothing_may_be_missing_from_it() {
        type Change = fn(&mut Observations);
        let table: [(&str, Change); 11] = [
            ("it began with another version", |seen| seen.before = view("1.1", "0.2.0")),
            ("nobody was there before", |seen| seen.before.members.clear()),
            ("one controller is an older one", |seen| seen.after = view("1.9", "0.1.0")),
            ("there is no controller", |seen| seen.after.members.clear()),
            ("a router was not upgraded", |seen| {
                seen.upgraded.remove(&Unit::Router(1));
            }),
            ("nothing was written", |seen| seen.acks_ms.clear()),
            ("writes stood still", |seen| seen.ended_ms = 401 + WRITE_GAP_MAX.as_millis() as u64),
            ("a router had no list", |seen| seen.without_list.push("router-1: it holds no list".to_owned())),
            ("the list never changed", |seen| seen.before.list = Some("1.9".to_owned())),
            ("a router holds the first list", |seen| {
                let held = Some(HeldSelf { version_text: "1.1".to_owned(), controllers: (1..=3).collect() });
                seen.routers.get_mut("router-1").unwrap().held = held;
            }),
            ("a router has no session", |seen| seen.after.routers.get_mut("router-1").unwrap().controllers.clear()),
        ];
        for (what, change) in table {
            let mut seen = as_it_should_be();
            change(&mut seen);
            assert!(verdict(&seen).is_err(), "the verdict was passed even though {what}");
        }
    }
}
