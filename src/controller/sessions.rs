//! Who is connected where: live sessions are gathered from all controllers when somebody asks. Nothing of it enters the
//! log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::backend::Backend;
use super::relay;
use crate::domain::controller_list::{Digest, HeldVersion};
use crate::domain::ids::{ControllerId, RouterId};
use crate::domain::negotiation::ProtocolVersion;
use crate::domain::state::ClusterState;
use crate::proto::admin;
use crate::proto::relay::{LiveSession, SessionsResponse};
use crate::rpc::control_plane::RouterPage;
use crate::rpc::convert::status;

/// Longest wait for one controller's sessions; whoever takes longer is listed as unreachable.
pub(super) const GATHER_WITHIN: Duration = Duration::from_secs(1);
/// Further pages of one listing use what the first page gathered, up to this age.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// Live sessions of the whole cluster.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// By router: the controllers that it is connected to, and what each knows of it.
    pub sessions: BTreeMap<RouterId, Vec<(u64, LiveSession)>>,
    /// Controllers that did not answer.
    pub unreachable: Vec<ControllerId>,
}

/// What the last first page gathered.
pub(super) type Remembered = Mutex<Option<(Instant, Arc<Gathered>)>>;

impl Backend {
    /// What every other member says of its sessions; `None` for those that do not answer. Asked all at once.
    pub(super) async fn ask_members(
        &self,
        count_only: bool,
        only: &str,
    ) -> Vec<(ControllerId, Option<SessionsResponse>)> {
        let me = self.node().me().id;
        let ids: Vec<_> = self.node().read(members).into_iter().filter(|id| Some(*id) != me).collect();
        join_all(ids.into_iter().map(|id| async move {
            (id, relay::sessions(self.node(), id, count_only, only, GATHER_WITHIN).await.ok())
        }))
        .await
    }

    /// One page of routers, as this controller knows them, with the sessions of the whole cluster.
    pub(super) async fn page(&self, page: RouterPage) -> admin::ListRoutersResponse {
        let gathered = self.gather(&page).await;
        let current = |held: &HeldVersion| {
            self.hub().newest().is_some_and(|newest| {
                let list = &newest.held().list;
                // A router of protocol 1 says the digest of the flat list, which is all that it knows.
                let ours = [newest.held().digest, newest.encoding(ProtocolVersion::FLAT).digest];
                let differs = |digest: Digest| ours.iter().all(|one| digest.same_content(one) == Some(false));
                let same = !held.digest.is_some_and(differs);
                held.cluster == list.identity().cluster && held.version == list.version() && same
            })
        };
        self.node().read(|state| {
            let mut ids = matching(state, &gathered, &page);
            let more = ids.len() > page.limit;
            ids.truncate(page.limit);
            let line = |id: &RouterId| {
                let sessions = gathered.sessions.get(id).map(Vec::as_slice).unwrap_or_default();
                status::router(
                    id,
                    state.routers.get(id).map(|record| &**record),
                    sessions,
                    current,
                    state.banned.contains(id),
                )
            };
            admin::ListRoutersResponse {
                routers: ids.iter().map(line).collect(),
                more,
                unreachable: gathered.unreachable.iter().map(|id| id.get()).collect(),
            }
        })
    }

    async fn gather(&self, page: &RouterPage) -> Arc<Gathered> {
        let lock = || self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if page.after.is_some()
            && let Some((at, gathered)) = lock().as_ref()
            && at.elapsed() < REMEMBERED_FOR
        {
            return gathered.clone();
        }
        let only = page.only.as_ref().map(RouterId::as_str).unwrap_or_default();
        let mut gathered = Gathered::default();
        for (id, answer) in self.ask_members(false, only).await {
            match answer {
                Some(answer) => gathered.add(id, answer.sessions),
                None => gathered.unreachable.push(id),
            }
        }
        if let Some(me) = self.node().me().id {
            let own = self.hub().sessions();
            let own = own.iter().filter(|live| only.is_empty() || live.router.as_str() == only);
            gathered.add(me, own.map(|live| status::live_session(live)));
        }
        gathered.sessions.values_mut().for_each(|sessions| sessions.sort_by_key(|(controller, _)| *controller));
        let gathered = Arc::new(gathered);
        if page.only.is_none() {
            *lock() = Some((Instant::now(), gathered.clone()));
        }
        gathered
    }
}

impl Gathered {
    fn add(&mut self, controller: ControllerId, sessions: impl IntoIterator<Item = LiveSession>) {
        for session in sessions {
            // A controller that says otherwise is not believed.
            let Ok(router) = RouterId::new(session.router_id.clone()) else { continue };
            self.sessions.entry(router).or_default().push((controller.get(), session));
        }
    }
}

pub(super) fn members(state: &ClusterState) -> Vec<ControllerId> {
    let applied = state.membership.as_ref();
    applied.map(|applied| applied.membership.members().map(|member| member.id).collect()).unwrap_or_default()
}

/// The ids of the page and one more, ordered: registered ones, those that are only live, and banned ones.
fn matching(state: &ClusterState, gathered: &Gathered, page: &RouterPage) -> Vec<RouterId> {
    if let Some(only) = &page.only {
        let registered = state.routers.contains_key(only) || state.banned.contains(only);
        let known = registered || gathered.sessions.contains_key(only);
        return known.then(|| only.clone()).into_iter().collect();
    }
    let from = page.after.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let range = (from, std::ops::Bound::Unbounded);
    let registered = state.routers.range::<RouterId, _>(range).map(|(id, _)| id).take(page.limit + 1);
    let live = gathered.sessions.range::<RouterId, _>(range).map(|(id, _)| id).take(page.limit + 1);
    let banned = state.banned.range::<RouterId, _>(range).take(page.limit + 1);
    let all: BTreeSet<_> = registered.chain(live).chain(banned).collect();
    all.into_iter().take(page.limit + 1).cloned().collect()
}
