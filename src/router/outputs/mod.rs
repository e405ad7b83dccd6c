//! Outputs for the data plane beside the router: a JSON file that is replaced atomically, and a command, after each
//! change of the list. An output that fails is tried again; it never holds up the list itself.

mod command;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use super::config::Output;
use super::generations::Disk;
use super::instruments::Instruments;
use crate::domain::acceptance::HeldList;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId, ControllerName};
use crate::domain::retry::{self, Backoff};

pub use command::{COMMAND_MAX, CommandError};

/// How soon, and at most how seldom, an output that failed is tried again.
const AGAIN: Backoff = Backoff { base: std::time::Duration::from_secs(1), cap: std::time::Duration::from_secs(60) };

/// A list as the data plane reads it. Fields are appended, never edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListView {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// `EPOCH.INDEX`.
    pub version: String,
    /// First bytes of the digest, as in logs.
    pub digest: String,
    /// Never empty; ordered by id.
    pub controllers: Vec<ControllerView>,
}

/// A controller of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControllerView {
    /// Its id.
    pub id: ControllerId,
    /// Its name.
    pub name: ControllerName,
    /// `voter` or `learner`.
    pub role: String,
    /// Where its router service listens, in order of preference.
    pub endpoints: Vec<Endpoint>,
}

impl ListView {
    /// Of the held list.
    #[must_use]
    pub fn of(held: &HeldList) -> Self {
        let controllers = held.list.controllers().iter().map(|controller| ControllerView {
            id: controller.id,
            name: controller.name.clone(),
            role: controller.role.to_string(),
            endpoints: controller.endpoints.clone(),
        });
        Self {
            cluster: held.list.identity().cluster,
            version: held.list.version().to_string(),
            digest: held.digest.to_string(),
            controllers: controllers.collect(),
        }
    }
}

/// Follows the list and brings every output up to date, until the list's owner is gone.
pub(super) async fn follow(
    output: Output,
    mut lists: watch::Receiver<Option<HeldList>>,
    disk: Arc<dyn Disk>,
    instruments: Instruments,
    random: Arc<dyn Fn() -> u32 + Send + Sync>,
) {
    let mut attempt = 0;
    loop {
        let held = lists.borrow_and_update().clone();
        let done = match &held {
            Some(held) => bring_up_to_date(&output, held, &disk, &instruments).await,
            None => true,
        };
        let again = async {
            match done {
                true => std::future::pending().await,
                false => tokio::time::sleep(retry::delay(AGAIN, attempt, random())).await,
            }
        };
        tokio::select! {
            changed = lists.changed() => match changed {
                Ok(()) => attempt = 0,
                Err(_) => return,
            },
            () = again => attempt = attempt.saturating_add(1),
        }
    }
}

/// Whether all outputs succeeded. The file comes first: the command may read it.
async fn bring_up_to_date(output: &Output, held: &HeldList, disk: &Arc<dyn Disk>, instruments: &Instruments) -> bool {
    let view = ListView::of(held);
    if let Some(path) = &output.json_file {
        let (path, disk, view) = (path.clone(), Arc::clone(disk), view.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &view, &*disk)).await;
        let written = written.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        if let Err(error) = written {
            instruments.metrics.output_failed("json_file");
            tracing::warn!(%error, "could not replace output.json_file; will try again: check its directory and the disk");
            return false;
        }
    }
    if let Some(line) = &output.on_change
        && let Err(error) = command::run(line, &view.version, output.json_file.as_deref()).await
    {
        instruments.metrics.output_failed("on_change");
        tracing::warn!(%error, "output.on_change failed; will try again: run it by hand to see why");
        return false;
    }
    true
}

/// A reader sees the old file or the new one, never a part.
fn write(path: &Path, view: &ListView, disk: &dyn Disk) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(view)?;
    bytes.push(b'\n');
    let mut made = path.as_os_str().to_owned();
    made.push(".tmp");
    let made = Path::new(&made);
    disk.write_synced(made, &bytes)?;
    disk.rename(made, path)?;
    disk.sync_dir(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}
