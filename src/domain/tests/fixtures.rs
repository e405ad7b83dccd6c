//! Controllers, memberships and lists by a few numbers, for every test that needs one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::acceptance::{Content, HeldList, Offer, Offerer};
use crate::domain::controller_list::{
    Applied, ClusterIdentity, ControllerList, Defect, Digest, DigestScheme, Epoch, ListState, OfferedController,
    OfferedList, PublicKey,
};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId, ControllerName, Incarnation, RecoveryId};
use crate::domain::membership::{Member, Membership};

pub(crate) fn id(id: u64) -> ControllerId {
    ControllerId::new(id).unwrap()
}

pub(crate) fn ids(numbers: &[u64]) -> BTreeSet<ControllerId> {
    numbers.iter().copied().map(id).collect()
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap_or_else(|reason| panic!("{text} {reason}"))
}

/// `controller-N` at `10.0.N.1`: peers at 7001, routers at 7002, operators at 7003.
pub(crate) fn member(n: u64) -> Member {
    let at = |port: u16| vec![endpoint(&format!("http://10.{}.{}.1:{port}", n / 256, n % 256))];
    Member {
        id: id(n),
        name: ControllerName::new(format!("controller-{n}")).unwrap(),
        incarnation: Incarnation::from_u128(0xc0de_0000 + u128::from(n)),
        peer: at(7001),
        router: at(7002),
        admin: at(7003),
        keys: Vec::new(),
    }
}

/// Voters by set (two sets while joint) and learners, each as [`member`] makes it.
pub(crate) fn membership(voter_sets: &[&[u64]], learners: &[u64]) -> Membership {
    let everyone: BTreeSet<u64> = voter_sets.iter().copied().flatten().chain(learners).copied().collect();
    Membership::new(voter_sets.iter().map(|set| ids(set)).collect(), everyone.into_iter().map(member))
}

/// What a list is made of, with the defaults of a young cluster.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) identity: ClusterIdentity,
    pub(crate) term: u64,
    pub(crate) log_index: u64,
    pub(crate) previous_log_index: Option<u64>,
    pub(crate) membership: Membership,
    pub(crate) retired: Vec<u64>,
}

impl Draft {
    pub(crate) fn new(voter_sets: &[&[u64]], learners: &[u64]) -> Self {
        Self {
            identity: identity(),
            term: 1,
            log_index: 4,
            previous_log_index: None,
            membership: membership(voter_sets, learners),
            retired: Vec::new(),
        }
    }

    /// The version is `epoch.log_index + 1`, as routers see it.
    pub(crate) fn version(mut self, epoch: u32, index: u64) -> Self {
        self.identity.epoch = Epoch::new(epoch).unwrap();
        self.log_index = index - 1;
        self
    }

    pub(crate) fn cluster(mut self, cluster: u128) -> Self {
        self.identity.cluster = ClusterId::from_u128(cluster);
        self
    }

    pub(crate) fn recovery(mut self, recovery: u128) -> Self {
        self.identity.recovery = Some(RecoveryId::from_u128(recovery));
        self
    }

    pub(crate) fn retired(mut self, retired: &[u64]) -> Self {
        self.retired = retired.to_vec();
        self
    }

    pub(crate) fn derive(&self) -> Result<ListState, Defect> {
        let members = self.membership.members().map(|member| member.id);
        let used_ids = members.chain(self.retired.iter().copied().map(id)).collect();
        ControllerList::derive(
            &self.membership,
            Applied {
                identity: Some(&self.identity),
                term: self.term,
                log_index: self.log_index,
                used_ids: &used_ids,
                previous_log_index: self.previous_log_index,
            },
        )
    }

    pub(crate) fn list(&self) -> ControllerList {
        match self.derive() {
            Ok(ListState::Known(list)) => list,
            other => panic!("not a list: {other:?}"),
        }
    }
}

pub(crate) fn identity() -> ClusterIdentity {
    ClusterIdentity { cluster: ClusterId::from_u128(0xa), epoch: Epoch::FIRST, recovery: None }
}

/// A digest over everything that a list says. Not SHA-256, which the domain does not know, but as deterministic.
pub(crate) fn digest(list: &OfferedList) -> Digest {
    let fnv = |seed: u64| {
        let text = format!("{seed}{list:?}");
        text.bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let mut bytes = [0; 32];
    (0_u64..).zip(bytes.chunks_mut(8)).for_each(|(seed, chunk)| chunk.copy_from_slice(&fnv(seed).to_be_bytes()));
    Digest { scheme: DigestScheme::SHA256, bytes }
}

/// As a sender without faults would offer it.
pub(crate) fn offered(list: &ControllerList) -> OfferedList {
    let controller = |controller: &crate::domain::controller_list::ListedController| OfferedController {
        id: controller.id.get(),
        name: controller.name.to_string(),
        role: Some(controller.role),
        endpoints: controller.endpoints.iter().map(ToString::to_string).collect(),
        incarnation: Some(controller.incarnation),
        keys: controller.keys.clone(),
    };
    OfferedList {
        identity: Some(list.identity()),
        version: Some(list.version()),
        term: list.term(),
        controllers: list.controllers().iter().map(controller).collect(),
        voter_sets: list.voter_sets().iter().map(|set| set.iter().map(|id| id.get()).collect()).collect(),
        retired: list.retired().iter().map(|id| id.get()).collect(),
        predecessor: list.predecessor(),
    }
}

pub(crate) fn held(list: &ControllerList) -> HeldList {
    HeldList { list: Arc::new(list.clone()), digest: digest(&offered(list)) }
}

/// An offer of whatever this is, with the digest that it has.
pub(crate) fn offer(list: OfferedList, from: Offerer) -> Offer {
    let computed = digest(&list);
    let content = Content::Structured { list: Box::new(list), computed, stated: Some(computed) };
    Offer { from, encoded_bytes: 1024, content }
}

pub(crate) fn flat_offer(addresses: &[&str]) -> Offer {
    let content = Content::Flat { addresses: addresses.iter().map(ToString::to_string).collect() };
    Offer { from: Offerer::Unidentified, encoded_bytes: 256, content }
}

pub(crate) fn key(bytes: usize) -> PublicKey {
    PublicKey { scheme: 1, bytes: vec![7; bytes] }
}
