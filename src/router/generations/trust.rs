//! The one way over to another cluster, and the way back from a floor that is wrong, for `pilothouse router trust`. What
//! the router had is kept aside, not deleted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rejected::Aside;
use super::{
    CURRENT, Disk, Generations, HostDisk, Loaded, OpenError, PREVIOUS, RESERVE, RESERVE_MAX, Reserved, SaveError, Trust,
};
use crate::domain::controller_list::ListVersion;
use crate::domain::ids::ClusterId;

/// What becomes of the floor when the router belongs to that cluster already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floors {
    /// It stays, and there is nothing to do.
    Kept,
    /// It is forgotten: the next list may be of any version.
    Reset,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The cluster that the router belonged to.
    pub before: Option<ClusterId>,
    /// The floor that no longer holds.
    pub floor_before: Option<ListVersion>,
    /// The cluster that it belongs to now.
    pub cluster: ClusterId,
    /// Where the former files are kept.
    pub kept: Vec<PathBuf>,
}

/// Why the router does not go over. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The directory cannot be used; a running router, for one.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It belongs there already.
    #[error(
        "the router already belongs to cluster {cluster}: there is nothing to change; if it holds a wrong list and \
         refuses every later one, add --reset-floor"
    )]
    AlreadyTrusted {
        /// Which.
        cluster: ClusterId,
    },
    /// The new floor could not be written.
    #[error("the router's cluster and floor stay as they were: free space or repair the data directory, and try again")]
    Save(#[from] SaveError),
}

/// Makes a stopped router belong to a cluster: it takes that one's lists, of any version, and no other's.
///
/// # Errors
/// [`TrustError`], with nothing changed.
pub fn trust(dir: &Path, cluster: ClusterId, floors: Floors) -> Result<Trusted, TrustError> {
    trust_on(dir, Arc::new(HostDisk), cluster, floors)
}

pub(super) fn trust_on(
    dir: &Path,
    disk: Arc<dyn Disk>,
    cluster: ClusterId,
    floors: Floors,
) -> Result<Trusted, TrustError> {
    let (generations, loaded) = Generations::open(dir, disk)?;
    let before = loaded.trust.cluster;
    let same = before == Some(cluster);
    if same && floors == Floors::Kept {
        return Err(TrustError::AlreadyTrusted { cluster });
    }
    if same {
        // Whom the lists name must not be lost with them. More in the reserve than need be is harmless.
        generations.save_reserve(&all_held(&loaded))?;
    }
    let next = Trust { cluster: Some(cluster), ..Trust::default() };
    let mut kept: Vec<_> = generations.switch_trust(before.map(|_| &loaded.trust), &next)?.into_iter().collect();
    // A list of the same cluster is a floor of its own: only when it is gone is the floor. Another cluster's lists are
    // foreign from the switch on, whatever becomes of them here.
    let files: &[_] = if same { &[PREVIOUS, CURRENT] } else { &[CURRENT, PREVIOUS, RESERVE] };
    for file in files.iter().filter(|file| dir.join(file).exists()) {
        match generations.put_aside(file, Aside::Replaced) {
            Ok(path) => kept.push(path),
            Err(source) if same => {
                return Err(SaveError { step: "give another name to", path: dir.join(file), source }.into());
            }
            Err(error) => {
                tracing::warn!(%error, file, "could not set a file of the former cluster aside; a start does it")
            }
        }
    }
    Ok(Trusted { before, floor_before: loaded.trust.floor.map(|floor| floor.version), cluster, kept })
}

/// Every controller that the router held, the newest last.
fn all_held(loaded: &Loaded) -> Vec<Reserved> {
    let mut held = loaded.reserve.clone();
    for generation in loaded.previous.iter().chain(&loaded.current) {
        for controller in generation.held.list.controllers() {
            held.retain(|reserved| reserved.id != controller.id || reserved.endpoints != controller.endpoints);
            held.push(Reserved { id: controller.id, endpoints: controller.endpoints.clone() });
        }
    }
    let excess = held.len().saturating_sub(RESERVE_MAX);
    held.drain(..excess);
    held
}
