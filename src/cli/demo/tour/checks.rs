//! What each step must have brought about, judged on what was seen. Pure: `Ok` is what the step says, an error is why it
//! did not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cli::demo::view::{ClusterView, Offers, RouterSelf};

/// Longest gap in which no registration is acknowledged after the leader was killed: twice the worst election
/// (lease 1 s, then up to 1 s) on a busy machine.
pub(crate) const WRITE_GAP_MAX: Duration = Duration::from_secs(5);

/// All controllers are voters that answer, one leads, and a list is committed.
pub(crate) fn formed(view: &ClusterView, controllers: usize) -> anyhow::Result<String> {
    let leader = view.leader.context("nobody leads")?;
    let list = view.list.as_ref().context("no list is committed")?;
    ensure!(view.members.len() == controllers, "{} members instead of {controllers}", view.members.len());
    ensure!(view.voters() == controllers, "{} voters instead of {controllers}", view.voters());
    let silent: Vec<&str> = view.members.values().filter(|m| !m.up).map(|m| m.name.as_str()).collect();
    ensure!(silent.is_empty(), "{} do not answer", silent.join(", "));
    ensure!(!view.joint, "a change is half done");
    let tolerance = controllers.saturating_sub(1) / 2;
    ensure!(view.tolerance as usize == tolerance, "{} may fail instead of {tolerance}", view.tolerance);
    let name = view.name(leader);
    Ok(format!("{name} leads {controllers} voters, {tolerance} of which may fail; list {list} is committed"))
}

/// Every router is registered, is live, and acknowledged the committed list; it says so itself.
pub(crate) fn agreed(view: &ClusterView, selves: &BTreeMap<String, RouterSelf>) -> anyhow::Result<String> {
    let list = view.list.as_ref().context("no list is committed")?;
    ensure!(!selves.is_empty(), "there are no routers");
    let ids: BTreeSet<u64> = view.members.keys().copied().collect();
    for (name, router) in selves {
        let reported = view.routers.get(name).with_context(|| format!("{name} is not listed"))?;
        ensure!(reported.registered, "{name} is not registered");
        ensure!(!reported.controllers.is_empty(), "{name} has no session");
        ensure!(reported.held == *list, "{name} acknowledged {:?} instead of {list}", reported.held);
        ensure!(router.version() == list, "{name} holds {:?} instead of {list}", router.version());
        let held = router.held.as_ref().map(|held| &held.controllers);
        ensure!(held == Some(&ids), "{name} holds the controllers {held:?} instead of {ids:?}");
    }
    let names: Vec<&str> = selves.keys().map(String::as_str).collect();
    Ok(format!("{} hold list {list} and acknowledged it", names.join(" and ")))
}

/// Somebody else leads, and registrations were acknowledged again after a bounded gap.
pub(crate) fn failed_over(killed: u64, view: &ClusterView, acks_ms: &[u64], ended_ms: u64) -> anyhow::Result<String> {
    let leader = view.leader.context("nobody leads")?;
    ensure!(leader != killed, "controller {killed} still leads");
    let gap = longest_gap(acks_ms, ended_ms).context("no registration was acknowledged")?;
    ensure!(gap <= WRITE_GAP_MAX, "no registration was acknowledged for {gap:?}, the limit is {WRITE_GAP_MAX:?}");
    let (was, is) = (view.name(killed), view.name(leader));
    let count = acks_ms.len();
    Ok(format!(
        "{was} was killed, {is} leads; no write was acknowledged for {} ms (of {count} in all)",
        gap.as_millis()
    ))
}

/// The longest time without an acknowledgement, the end of the observation included.
pub(crate) fn longest_gap(acks_ms: &[u64], ended_ms: u64) -> Option<Duration> {
    let mut times = acks_ms.to_vec();
    times.sort_unstable();
    times.first()?;
    times.push(ended_ms);
    times.windows(2).map(|pair| Duration::from_millis(pair[1].saturating_sub(pair[0]))).max()
}

/// A controller is a member with this role.
pub(crate) fn member(view: &ClusterView, id: u64, voter: bool) -> anyhow::Result<String> {
    let member = view.members.get(&id).with_context(|| format!("controller {id} is no member"))?;
    ensure!(member.up, "{} does not answer", member.name);
    ensure!(member.voter == voter, "{} is {}", member.name, if member.voter { "a voter" } else { "a learner" });
    ensure!(!view.joint, "the change is half done");
    let role = if voter { "voter" } else { "learner" };
    Ok(format!("{} is a {role} (id {id}), {} voters", member.name, view.voters()))
}

/// A controller is no member any more.
pub(crate) fn removed(view: &ClusterView, name: &str, id: u64, voters: usize) -> anyhow::Result<String> {
    ensure!(!view.members.contains_key(&id), "{name} is still a member");
    ensure!(view.voters() == voters, "{} voters instead of {voters}", view.voters());
    ensure!(!view.joint, "the change is half done");
    view.leader.context("nobody leads")?;
    Ok(format!("{name} is gone for good (id {id}), {voters} voters remain"))
}

/// What was seen of a router that restarted with a list file that cannot be used.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    /// Which.
    pub(crate) name: String,
    /// Names and contents of the files that it set aside since it was stopped.
    pub(crate) set_aside: BTreeMap<String, Vec<u8>>,
    /// What its newest list file was made to contain.
    pub(crate) damaged: Vec<u8>,
    /// What it wrote to its log since then.
    pub(crate) log: String,
}

/// It set the file aside, said so, and fell back; that it recovered is judged by [`agreed`].
pub(crate) fn fell_back(restart: &Restart) -> anyhow::Result<String> {
    let Restart { name, set_aside, damaged, log } = restart;
    let file = set_aside.iter().find(|(file, _)| file.starts_with("list.current.rejected-"));
    let (file, content) = file.with_context(|| format!("{name} set nothing aside"))?;
    ensure!(
        content == damaged,
        "{file} has {} bytes instead of the {} that were put there",
        content.len(),
        damaged.len()
    );
    let said = |word: &str| log.lines().find(|line| line.contains(word));
    said(file.as_str()).with_context(|| format!("{name} did not say that it set {file} aside"))?;
    let line = said("fell back to").with_context(|| format!("{name} did not say that it fell back"))?;
    let source = line.split("fell back to ").nth(1).and_then(|rest| rest.split([':', ' ']).next()).unwrap_or_default();
    Ok(format!("{name} set the file aside ({file}), said so, and fell back to {source}"))
}

/// Every controller that the router knew before is gone, and it found the others.
pub(crate) fn rescued(knew: &BTreeSet<u64>, view: &ClusterView, router: &RouterSelf) -> anyhow::Result<String> {
    let still: Vec<&u64> = knew.iter().filter(|id| view.members.contains_key(id)).collect();
    ensure!(!knew.is_empty() && still.is_empty(), "of those that it knew, {still:?} are still there");
    let list = view.list.as_ref().context("no list is committed")?;
    ensure!(router.version() == list, "it holds {:?} instead of {list}", router.version());
    let reached = router.reached();
    ensure!(!reached.is_empty(), "it has no session");
    ensure!(reached.iter().all(|id| view.members.contains_key(id)), "it has sessions on {reached:?}");
    Ok(format!("it knew {} and all are gone; one live seed was enough to reach {}", spoken(knew), spoken(&reached)))
}

/// What was seen of a router that was offered an empty list.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// What it held before.
    pub(crate) before: RouterSelf,
    /// What it holds afterwards.
    pub(crate) after: RouterSelf,
    /// The reason of its NACK.
    pub(crate) nack: String,
}

/// It refused the empty list, and holds what it held.
pub(crate) fn refused_empty(seen: &Refused) -> anyhow::Result<String> {
    ensure!(seen.nack == "empty", "it answered {:?} instead of a NACK with the reason \"empty\"", seen.nack);
    let count = seen.after.offers.refused.get("empty").copied().unwrap_or_default();
    ensure!(count > 0, "it counted no refusal");
    ensure!(seen.before.held.is_some(), "it held nothing before");
    ensure!(seen.after.held == seen.before.held, "it holds {:?} instead of {:?}", seen.after.held, seen.before.held);
    Ok(format!("it answered NACK (empty), counted it, and still holds list {}", seen.after.version()))
}

/// What was counted over the whole tour is what it was about: lists were adopted, and an empty one was refused.
pub(crate) fn offered(total: &Offers) -> anyhow::Result<()> {
    ensure!(total.adopted > 0, "no router counted a list that it adopted");
    ensure!(
        total.refused.get("empty").is_some_and(|count| *count > 0),
        "no router counted an empty list that it refused"
    );
    Ok(())
}

fn spoken(ids: &BTreeSet<u64>) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("controllers {}", ids.join(", "))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
