//! A router restarts with a list file that cannot be used: it sets the file aside, says so, and goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::checks::Restart;
use super::{Tour, checks};
use crate::cli::demo::layout::Unit;
use crate::cli::demo::wait::until;

/// The file that holds the newest list.
const NEWEST_LIST: &str = "list.current";
/// From the start of a router to its agreement with the cluster.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(10);
/// The router to which it happens.
const VICTIM: u16 = 1;

/// The newest list file has no content at all.
pub(super) async fn emptied(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    restart_after(tour, |_| Vec::new()).await
}

/// Some bytes of the newest list file are others.
pub(super) async fn corrupt(tour: &mut Tour<'_>) -> anyhow::Result<String> {
    restart_after(tour, |mut content| {
        let middle = content.len() / 2;
        content[middle..].iter_mut().for_each(|byte| *byte = !*byte);
        content
    })
    .await
}

async fn restart_after(tour: &mut Tour<'_>, damage: impl FnOnce(Vec<u8>) -> Vec<u8>) -> anyhow::Result<String> {
    let unit = Unit::Router(VICTIM);
    tour.stop_router(VICTIM).await?;
    let (folder, log) = (tour.stage.layout.data_of(unit), tour.stage.layout.log_of(unit));
    let before = set_aside(&folder)?;
    let log_began = std::fs::metadata(&log).with_context(|| format!("look at {}", log.display()))?.len();
    let file = folder.join(NEWEST_LIST);
    let content = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    anyhow::ensure!(!content.is_empty(), "{} was empty already", file.display());
    let damaged = damage(content);
    std::fs::write(&file, &damaged).with_context(|| format!("write {}", file.display()))?;
    let choice = tour.choice_of_members(2);
    tour.stage.start_router(VICTIM, &choice)?;
    until(RECOVERY_DEADLINE, async || {
        let agreed = checks::agreed(&tour.cluster().await?, &tour.selves().await?)?;
        let restart = Restart {
            name: unit.to_string(),
            set_aside: set_aside(&folder)?.into_iter().filter(|(file, _)| !before.contains_key(file)).collect(),
            damaged: damaged.clone(),
            log: since(&log, log_began)?,
        };
        Ok(format!("{}; {agreed}", checks::fell_back(&restart)?))
    })
    .await
}

/// Names and contents of the files that a router set aside.
fn set_aside(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let rejected = names.filter(|name| name.contains(".rejected-"));
    let read =
        |name: String| Ok((name.clone(), std::fs::read(folder.join(&name)).with_context(|| format!("read {name}"))?));
    rejected.map(read).collect()
}

/// What a log has gained; all of it when it began anew meanwhile.
fn since(log: &PathBuf, offset: u64) -> anyhow::Result<String> {
    let bytes = std::fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let from = usize::try_from(offset).unwrap_or(0);
    Ok(String::from_utf8_lossy(bytes.get(from..).unwrap_or(&bytes)).into_owned())
}
