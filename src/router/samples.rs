//! Lists, updates and disks that tests of the router share.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::generations::{Disk, Generation, HostDisk};
use crate::domain::acceptance::HeldList;
use crate::domain::controller_list::{Applied, ClusterIdentity, ControllerList, Epoch, ListState};
use crate::domain::ids::{ClusterId, ControllerId, ControllerName, Incarnation};
use crate::domain::membership::{Member, Membership};
use crate::domain::negotiation::ProtocolVersion;
use crate::proto::router::ListUpdate;
use crate::rpc::list_codec;

pub(super) const CLUSTER: u128 = 7;

pub(super) fn id(id: u64) -> ControllerId {
    ControllerId::new(id).unwrap()
}

/// The list of these controllers at this log index; every lower id that is not among them is retired.
pub(super) fn list_of(cluster: u128, log_index: u64, members: &[u64]) -> ControllerList {
    let member = |n: &u64| Member {
        id: id(*n),
        name: ControllerName::new(format!("controller-{n}")).unwrap(),
        incarnation: Incarnation::from_u128((*n).into()),
        peer: vec![format!("http://10.0.0.{n}:7001").parse().unwrap()],
        router: vec![format!("http://10.0.0.{n}:7002").parse().unwrap()],
        admin: vec![format!("http://10.0.0.{n}:7003").parse().unwrap()],
        keys: Vec::new(),
    };
    let voters: BTreeSet<_> = members.iter().map(|n| id(*n)).collect();
    let used: BTreeSet<_> = (1..=*members.iter().max().unwrap()).map(id).collect();
    let membership = Membership::new(vec![voters], members.iter().map(member));
    let identity = ClusterIdentity { cluster: ClusterId::from_u128(cluster), epoch: Epoch::FIRST, recovery: None };
    let applied = Applied { identity: Some(&identity), term: 1, log_index, used_ids: &used, previous_log_index: None };
    match ControllerList::derive(&membership, applied).unwrap() {
        ListState::Known(list) => list,
        ListState::Unknown => panic!("a founded cluster has a list"),
    }
}

pub(super) fn generation(log_index: u64, members: &[u64]) -> Generation {
    let list = list_of(CLUSTER, log_index, members);
    let bytes = list_codec::encode(&list, ProtocolVersion::STRUCTURED);
    let held = HeldList { list: Arc::new(list), digest: list_codec::digest(&bytes) };
    Generation { held, protocol: ProtocolVersion::STRUCTURED, bytes, adopted_ms: 1_000 }
}

pub(super) fn update(list: &ControllerList) -> ListUpdate {
    let bytes = list_codec::encode(list, ProtocolVersion::STRUCTURED);
    let digest = Some(list_codec::digest(&bytes).into());
    ListUpdate { nonce: 1, protocol: ProtocolVersion::STRUCTURED.get(), list: bytes, digest, ..ListUpdate::default() }
}

/// A disk that does this many steps that change something, and fails from then on.
#[derive(Debug)]
pub(super) struct FailingDisk {
    left: AtomicUsize,
}

impl FailingDisk {
    pub(super) fn after(steps: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(steps) })
    }

    /// How many steps may still be done.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    pub(super) fn fill(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    pub(super) fn repair(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
    }

    fn step(&self) -> io::Result<()> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.left.store(left - 1, Ordering::SeqCst);
        Ok(())
    }
}

impl Disk for FailingDisk {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        HostDisk.read(path, bytes_max)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(full) = self.step() {
            // What a full disk leaves behind: a part.
            HostDisk.write_synced(path, &bytes[..bytes.len() / 2])?;
            return Err(full);
        }
        HostDisk.write_synced(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        HostDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        HostDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        HostDisk.sync_dir(dir)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        HostDisk.names(dir)
    }

    fn now_ms(&self) -> u64 {
        1_000
    }
}

/// A disk whose writes wait as long as it hangs.
#[derive(Debug, Default)]
pub(super) struct HangingDisk {
    hangs: Mutex<bool>,
    changed: Condvar,
}

impl HangingDisk {
    pub(super) fn hang(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.changed.notify_all();
    }
}

impl Disk for HangingDisk {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        HostDisk.read(path, bytes_max)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        drop(self.changed.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
        HostDisk.write_synced(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        HostDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        HostDisk.sync_dir(dir)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        HostDisk.names(dir)
    }

    fn now_ms(&self) -> u64 {
        1_000
    }
}
