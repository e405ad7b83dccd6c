//! The open connections of one port, and which of them has to make room for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{Limits, PACED_IDENTITIES_MAX};
use crate::domain::access::Caller;
use crate::domain::pace::Buckets;
use crate::domain::principal::Role;

#[derive(Debug)]
pub(super) struct Open {
    limits: Limits,
    registry: Mutex<Registry>,
    /// Times are counted from here.
    began: Instant,
    paced: Option<Mutex<Buckets<Role>>>,
}

/// Numbers rise with age: the first of a set is the oldest.
#[derive(Debug, Default)]
struct Registry {
    next: u64,
    handles: BTreeMap<u64, Handle>,
    silent: BTreeSet<u64>,
    anonymous: BTreeSet<u64>,
    identities: BTreeMap<Role, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Handle {
    close: CancellationToken,
    caller: Option<Caller>,
}

impl Registry {
    fn cancel(&self, number: Option<u64>) {
        if let Some(handle) = number.and_then(|number| self.handles.get(&number)) {
            handle.close.cancel();
        }
    }
}

/// The oldest of a set that has too many, taken out of it: its connection ends a moment later by itself.
fn excess(set: &mut BTreeSet<u64>, limit: usize) -> Option<u64> {
    if set.len() > limit { set.pop_first() } else { None }
}

impl Open {
    pub(super) fn new(limits: Limits) -> Self {
        let paced = limits.pace.map(|rate| Mutex::new(Buckets::new(rate, PACED_IDENTITIES_MAX)));
        Self { limits, registry: Mutex::default(), began: Instant::now(), paced }
    }

    /// Until it is somebody's turn to connect.
    pub(super) async fn turn(&self, caller: &Caller) {
        let (Some(paced), Some(role)) = (&self.paced, caller.role()) else { return };
        loop {
            let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let turn = paced.lock().unwrap_or_else(PoisonError::into_inner).take(role, now_ms);
            match turn {
                Ok(()) => return,
                Err(soon) => tokio::time::sleep(Duration::from_millis(soon.retry_after_ms)).await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, of whom nothing is known yet.
    pub(super) fn enter(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Entry {
        let mut registry = self.lock();
        let number = registry.next;
        registry.next += 1;
        let close = CancellationToken::new();
        registry.handles.insert(number, Handle { close: close.clone(), caller: None });
        registry.silent.insert(number);
        let oldest = excess(&mut registry.silent, self.limits.silent);
        registry.cancel(oldest);
        Entry { open: Arc::clone(self), number, close, _place: place }
    }

    /// Closes the oldest that has said nothing, if there is one.
    pub(super) fn make_room(&self) {
        let mut registry = self.lock();
        let oldest = registry.silent.pop_first();
        registry.cancel(oldest);
    }

    pub(super) fn close_all(&self) {
        self.lock().handles.values().for_each(|handle| handle.close.cancel());
    }

    pub(super) fn close(&self, role: &Role) -> usize {
        let registry = self.lock();
        let Some(theirs) = registry.identities.get(role) else { return 0 };
        theirs.iter().for_each(|number| registry.cancel(Some(*number)));
        theirs.len()
    }

    pub(super) fn identities(&self) -> Vec<Role> {
        self.lock().identities.keys().cloned().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().handles.len()
    }
}

/// A connection's line among the open ones, struck out when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    open: Arc<Open>,
    number: u64,
    close: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Entry {
    /// Ends when the connection has to be closed.
    pub(super) fn closed(&self) -> CancellationToken {
        self.close.clone()
    }

    /// It is known whose it is.
    pub(super) fn identify(&self, caller: &Caller) {
        let mut registry = self.open.lock();
        let Some(handle) = registry.handles.get_mut(&self.number) else { return };
        handle.caller = Some(caller.clone());
        let oldest = match (caller, self.open.limits.anonymous) {
            (Caller::Verified(principal), _) => {
                let theirs = registry.identities.entry(principal.role.clone()).or_default();
                theirs.insert(self.number);
                excess(theirs, self.open.limits.per_identity)
            }
            (Caller::Anonymous, Some(limits)) => {
                registry.anonymous.insert(self.number);
                excess(&mut registry.anonymous, limits.connections)
            }
            _ => None,
        };
        registry.cancel(oldest);
    }

    /// It has said something.
    pub(super) fn spoke(&self) {
        self.open.lock().silent.remove(&self.number);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut registry = self.open.lock();
        registry.silent.remove(&self.number);
        registry.anonymous.remove(&self.number);
        let Some(Handle { caller: Some(Caller::Verified(principal)), .. }) = registry.handles.remove(&self.number)
        else {
            return;
        };
        if let Some(theirs) = registry.identities.get_mut(&principal.role) {
            theirs.remove(&self.number);
            if theirs.is_empty() {
                registry.identities.remove(&principal.role);
            }
        }
    }
}
