//! Whether what was seen is the incident on one side and its answer on the other. Pure: each claim is a check of its own,
//! `Ok` is what is said of it, an error is why it does not hold.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

use super::unguarded::Seen;
use crate::cli::demo::tour::checks::{self, Refused};
use crate::cli::demo::view::{ClusterView, HeldSelf, RouterSelf};

/// What became of a start of the router of 1.3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// It runs.
    Runs,
    /// It does not, and says why.
    Refused(String),
}

/// Everything that was seen, on both sides, from the first step to the last.
#[derive(Debug, Clone)]
pub(super) struct Observations {
    /// The cluster when both were served.
    pub(super) before: ClusterView,
    /// Who was upgraded, and is none of ours from then on.
    pub(super) upgraded: u64,
    /// The index of the empty list.
    pub(super) empty_index: u64,
    /// The cluster in the end.
    pub(super) after: ClusterView,
    pub(super) theirs: Theirs,
    pub(super) ours: Ours,
}

/// The router of 1.3.1.
#[derive(Debug, Clone)]
pub(super) struct Theirs {
    pub(super) served: Seen,
    pub(super) offered: Seen,
    pub(super) restarted: Start,
    pub(super) end: Start,
}

/// Ours.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    pub(super) served: RouterSelf,
    /// The reason of its answer to the empty list.
    pub(super) nack: String,
    pub(super) offered: RouterSelf,
    pub(super) restarted: RouterSelf,
    pub(super) end: RouterSelf,
}

/// The incident happened to their router and not to ours, and nothing else is why.
pub(super) fn verdict(seen: &Observations) -> anyhow::Result<String> {
    let Observations { before, upgraded, empty_index, after, theirs, ours } = seen;
    let their = |what: &'static str| move || format!("the router of 1.3.1, {what}");
    let our = |what: &'static str| move || format!("our router, {what}");
    they_are_served(before, &theirs.served).with_context(their("at first"))?;
    stranded(&theirs.served, *empty_index, &theirs.offered).with_context(their("offered the empty list"))?;
    refused(&theirs.restarted).with_context(their("started again"))?;
    refused(&theirs.end).with_context(their("in the end"))?;
    we_are_served(before, &ours.served).with_context(our("at first"))?;
    kept(&ours.served, &ours.nack, &ours.offered).with_context(our("offered the empty list"))?;
    back(&ours.offered, *upgraded, &ours.restarted).with_context(our("started again"))?;
    all_answer(after).context("in the end")?;
    moved_on(&ours.served, after, &ours.end).with_context(our("in the end"))?;
    Ok(format!(
        "the router of 1.3.1 is lost, although all {} controllers answer;\n\
         {:9}ours kept its list, is served, and has taken list {}",
        after.members.len(),
        "",
        ours.end.version(),
    ))
}

/// It hears every controller, and its list is the committed one.
pub(super) fn they_are_served(view: &ClusterView, seen: &Seen) -> anyhow::Result<String> {
    let (list, count) = (view.list.as_ref().context("no list is committed")?, view.members.len());
    ensure!(seen.named == Some(count), "its list names {:?} controllers instead of {count}", seen.named);
    ensure!(seen.connected == count, "it hears {} controllers instead of {count}", seen.connected);
    Ok(format!("hears {count} controllers, and holds list {list}"))
}

/// It took the empty list, and nobody is left that it hears.
pub(super) fn stranded(before: &Seen, empty_index: u64, seen: &Seen) -> anyhow::Result<String> {
    ensure!(before.index < empty_index, "the empty list was not newer than the one before");
    ensure!(seen.index == empty_index, "it did not take the empty list");
    ensure!(seen.named == Some(0), "its list names {:?} controllers", seen.named);
    ensure!(seen.connected == 0, "it still hears {} controllers", seen.connected);
    Ok("stranded: it hears nobody, and knows nobody whom it could dial".to_owned())
}

/// It does not start, because of its saved list.
pub(super) fn refused(start: &Start) -> anyhow::Result<String> {
    let Start::Refused(why) = start else { anyhow::bail!("it runs") };
    ensure!(why.contains("names no controller"), "it does not start for another reason: {why}");
    Ok(format!("refuses to start: {why}; its configuration names live ones, and is not read"))
}

/// It has a session with every controller, and holds the committed list.
pub(super) fn we_are_served(view: &ClusterView, router: &RouterSelf) -> anyhow::Result<String> {
    let members: BTreeSet<u64> = view.members.keys().copied().collect();
    holds(view, router)?;
    ensure!(router.reached() == members, "it has sessions on {:?} instead of {members:?}", router.reached());
    Ok(format!("has sessions on {} controllers, and holds list {}", members.len(), router.version()))
}

/// It answered the empty list with a NACK, counted it, and holds what it held.
pub(super) fn kept(before: &RouterSelf, nack: &str, after: &RouterSelf) -> anyhow::Result<String> {
    checks::refused_empty(&Refused { before: before.clone(), after: after.clone(), nack: nack.to_owned() })
}

/// It starts from its disk with the list that it held, and is served by somebody who is no impostor.
pub(super) fn back(before: &RouterSelf, upgraded: u64, router: &RouterSelf) -> anyhow::Result<String> {
    let list = |held: &Option<HeldSelf>| held.clone();
    ensure!(list(&router.held) == list(&before.held), "it holds {:?} instead of {:?}", router.held, before.held);
    ensure!(router.source == "newest", "its list comes from {:?} instead of its newest file", router.source);
    let real: Vec<String> = router.reached().iter().filter(|id| **id != upgraded).map(u64::to_string).collect();
    ensure!(!real.is_empty(), "it has no session with a controller that is one");
    Ok(format!("starts with list {} from its disk; served by controllers {}", router.version(), real.join(", ")))
}

/// Whoever is lost now is not lost because nobody answers.
pub(super) fn all_answer(view: &ClusterView) -> anyhow::Result<()> {
    view.leader.context("nobody leads")?;
    let silent: Vec<&str> = view.members.values().filter(|m| !m.up).map(|m| m.name.as_str()).collect();
    ensure!(silent.is_empty(), "{} do not answer", silent.join(", "));
    Ok(())
}

/// It holds a newer list than in the beginning, the committed one, and has sessions.
pub(super) fn moved_on(before: &RouterSelf, view: &ClusterView, router: &RouterSelf) -> anyhow::Result<String> {
    holds(view, router)?;
    ensure!(router.version() != before.version(), "no list came after {}", before.version());
    ensure!(!router.reached().is_empty(), "it has no session");
    Ok(format!("has taken list {}, in which there are {} controllers", router.version(), view.members.len()))
}

fn holds(view: &ClusterView, router: &RouterSelf) -> anyhow::Result<()> {
    let list = view.list.as_ref().context("no list is committed")?;
    ensure!(router.version() == list, "it holds {:?} instead of {list}", router.version());
    let members: BTreeSet<u64> = view.members.keys().copied().collect();
    let held = router.held.as_ref().map(|held| &held.controllers);
    ensure!(held == Some(&members), "its list names {held:?} instead of {members:?}");
    Ok(())
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
