//! Looks at every router again and again while everything around it is replaced: has it a list that it can use?

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::demo::layout::{Layout, Unit};
use crate::cli::demo::observe;
use crate::cli::demo::view::RouterSelf;

/// How often a router is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is written down at most: one is too many.
const WRONG_MAX: usize = 16;

/// What was seen; the looking ends when this is dropped.
#[derive(Debug)]
pub(super) struct Witness {
    wrong: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Looks at all routers of a layout, each of which holds a list.
    pub(super) fn of(layout: &Layout) -> Self {
        let wrong = Arc::default();
        let look = |number| tokio::spawn(look(layout.clone(), number, Arc::clone(&wrong)));
        Self { tasks: (1..=layout.routers).map(look).collect(), wrong }
    }

    /// What must not have been.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn look(layout: Layout, number: u16, wrong: Arc<Mutex<Vec<String>>>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut newest = (0, 0);
    loop {
        ticks.tick().await;
        // One that is just being replaced does not answer; from its first answer on it has to have its list.
        let Ok(router) = observe::router(&layout, number).await else { continue };
        match usable(&router, newest) {
            Ok(version) => newest = version,
            Err(why) => {
                let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                if wrong.len() < WRONG_MAX {
                    wrong.push(format!("{}: {why:#}", Unit::Router(number)));
                }
            }
        }
    }
}

/// The version of the list that a router holds, or why that is of no use to it.
fn usable(router: &RouterSelf, newest: (u32, u64)) -> anyhow::Result<(u32, u64)> {
    let held = router.held.as_ref().context("it holds no list")?;
    ensure!(!held.controllers.is_empty(), "its list names no controller");
    let parts = held.version_text.split_once('.');
    let version = parts.and_then(|(epoch, index)| Some((epoch.parse().ok()?, index.parse().ok()?)));
    let version = version.with_context(|| format!("its list has the version {:?}", held.version_text))?;
    ensure!(version >= newest, "it holds {version:?} after {newest:?}");
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::view::HeldSelf;

    #[test]
    fn a_router_without_a_usable_list_is_noticed() {
        let holds = |version: &str, controllers: &[u64]| {
            let controllers = controllers.iter().copied().collect();
            let held = Some(HeldSelf { version_text: version.to_owned(), controllers });
            RouterSelf { held, ..RouterSelf::default() }
        };
        assert_eq!(usable(&holds("1.10", &[1]), (1, 9)).unwrap(), (1, 10));
        for bad in [RouterSelf::default(), holds("1.10", &[]), holds("1.8", &[1]), holds("", &[1])] {
            assert!(usable(&bad, (1, 9)).is_err(), "{bad:?}");
        }
    }
}
