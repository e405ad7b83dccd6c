//! Events of the whole cluster: this controller's own, those that its routers reported, and those of every other member.
//! They are gathered when somebody asks; nothing of them enters the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::mpsc;

use super::backend::Backend;
use super::relay;
use super::sessions::{GATHER_WITHIN, members};
use crate::domain::ids::{ControllerId, RouterId};
use crate::domain::pace::{Bucket, Buckets, Rate};
use crate::ops::alerts::{AlertMetrics, Others, Teller, others};
use crate::ops::events::{Reported, Severity, Told};
use crate::proto::relay::{EventsRequest, EventsResponse};
use crate::proto::{admin, router};
use crate::rpc::control_plane::AdminError;
use crate::rpc::convert::events::{reported, standing, to_admin};

/// Most events in one message between controllers and to operators: with the longest texts it stays within 4 MiB.
pub(super) const EVENTS_PER_PAGE_MAX: usize = 128;
/// Most pages that are asked of one controller at a time: more than its rings hold.
const PAGES_MAX: usize = 16;
/// How often everybody is asked again while somebody follows.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Whoever follows hears something at least this often, so that silence is a fault.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Most operators that follow events on one controller at a time: each asks every member once a second.
pub(super) const FOLLOWERS_MAX: usize = 16;
/// How often one router may report.
const REPORTS_PER_ROUTER: Rate = Rate { burst: 20, every_ms: 1_000 };
/// How often all routers together may report to one controller: at a great failure every router has something to tell.
const REPORTS_OF_ALL: Rate = Rate { burst: 200, every_ms: 5 };
/// Most routers whose pace is remembered.
const ROUTERS_PACED_MAX: usize = 4_096;

/// What comes before a router's id where it stands in events.
const ROUTER: &str = "router ";

/// What routers reported here, and how often they may.
#[derive(Debug)]
pub(super) struct Happenings {
    kept: Mutex<Kept>,
    began: Instant,
    alarms: OnceLock<Teller>,
}

#[derive(Debug)]
struct Kept {
    reported: Reported,
    each: Buckets<RouterId>,
    all: Bucket,
}

impl Default for Happenings {
    fn default() -> Self {
        let each = Buckets::new(REPORTS_PER_ROUTER, ROUTERS_PACED_MAX);
        let kept = Kept { reported: Reported::default(), each, all: Bucket::default() };
        Self { kept: Mutex::new(kept), began: Instant::now(), alarms: OnceLock::new() }
    }
}

impl Happenings {
    /// Takes a report, in the name of the router whose session it came over. Up to which number it was taken; `None`
    /// when the router, or all of them, report too often: it is told again later.
    pub(super) fn take(&self, router: &RouterId, report: router::EventReport) -> Option<u64> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let told = reported(report, &source_of(router));
        let last = told.iter().map(|told| told.number).max()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.each.take(router, now_ms).ok()?;
        if kept.all.take(REPORTS_OF_ALL, now_ms).is_err() {
            kept.each.give_back(router);
            return None;
        }
        for told in told {
            if kept.reported.take(told.clone())
                && let Some(teller) = self.alarms.get()
            {
                teller.tell(told);
            }
        }
        Some(last)
    }

    /// Takes all that lasts on a router now, in the name of the router whose session it came over. It is kept for alarms
    /// only: its beginnings and ends are events, too.
    pub(super) fn last(&self, router: &RouterId, conditions: router::Conditions) {
        if let Some(teller) = self.alarms.get() {
            let source = source_of(router);
            teller.stands(&source, standing(conditions, &source));
        }
    }

    /// Whoever alarms of what routers report: from now on it hears of each, as far as it keeps up.
    pub(super) fn alarming(&self, metrics: AlertMetrics, least: Severity) -> Others {
        let (teller, others) = others(metrics, least);
        // Set once, when the controller starts.
        let _ = self.alarms.set(teller);
        others
    }

    /// Who is told what to alarm of, when this controller alarms.
    pub(super) fn teller(&self) -> Option<&Teller> {
        self.alarms.get()
    }
}

/// A router as it stands in events.
pub(super) fn source_of(router: &RouterId) -> String {
    format!("{ROUTER}{router}")
}

/// The router of such a source.
pub(super) fn router_of(source: &str) -> Option<RouterId> {
    RouterId::new(source.strip_prefix(ROUTER)?).ok()
}

/// How far each controller was read.
type Cursors = BTreeMap<ControllerId, EventsResponse>;

impl Backend {
    /// As it stands in events.
    fn source(&self) -> String {
        self.node().me().id.map_or_else(|| "controller".to_owned(), |id| format!("controller {id}"))
    }

    /// One page of what this controller knows beyond what the request names.
    pub(super) fn events_after(&self, request: &EventsRequest) -> EventsResponse {
        let instance = self.events.instance();
        let (own, arrival) = match request.instance == instance {
            true => (request.own_after, request.reported_after),
            // Of an earlier start of this process, or of nobody: from the beginning.
            false => (0, 0),
        };
        let me = self.node().me().id.map_or(0, ControllerId::get);
        let mut page = self.events.after(own);
        let more_own = page.events.len() > EVENTS_PER_PAGE_MAX;
        page.events.truncate(EVENTS_PER_PAGE_MAX);
        let own_until = page.events.last().map_or(own + page.dropped, |last| last.number);
        let source = self.source();
        let mut told: Vec<Told> = page.events.iter().map(|event| Told::of(event, instance, &source)).collect();
        let room = EVENTS_PER_PAGE_MAX - told.len();
        let kept = self.happenings.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let reported: Vec<_> = kept.reported.after(arrival, room + 1).cloned().collect();
        drop(kept);
        let more = more_own || reported.len() > room;
        let mut reported_until = arrival;
        for (number, one) in reported.into_iter().take(room) {
            reported_until = number;
            told.push(one);
        }
        let events = told.into_iter().map(|told| to_admin(told, me)).collect();
        EventsResponse { instance, events, own_until, reported_until, dropped: page.dropped, more }
    }

    /// Everything beyond the cursors, of every member, in order of time. Who does not answer is named, and disturbs nobody.
    async fn gather_events(&self, cursors: &mut Cursors) -> admin::EventsResponse {
        let me = self.node().me().id;
        let ids = self.node().read(members);
        let others: Vec<_> = ids.into_iter().filter(|id| Some(*id) != me).collect();
        cursors.retain(|id, _| others.contains(id) || Some(*id) == me);
        let asked = others.into_iter().map(|id| {
            let cursor = cursors.get(&id).cloned().unwrap_or_default();
            async move { (id, self.ask_events(id, cursor).await) }
        });
        let mut all = admin::EventsResponse::default();
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(answer) => take_over(&mut all, cursors, id, answer),
                Err(status) => {
                    let why = match status.code() {
                        tonic::Code::Unimplemented => "its build is older and tells no events".to_owned(),
                        _ => status.message().to_owned(),
                    };
                    all.not_asked.push(admin::NotAsked { controller: id.get(), why });
                }
            }
        }
        if let Some(me) = me {
            let cursor = cursors.get(&me).cloned().unwrap_or_default();
            take_over(&mut all, cursors, me, self.events_after(&request_after(&cursor, None)));
        }
        all.events.sort_by_key(|event| event.told.as_ref().map_or(0, |told| told.at_ms));
        all
    }

    async fn ask_events(&self, of: ControllerId, cursor: EventsResponse) -> Result<EventsResponse, tonic::Status> {
        relay::events(self.node(), of, |header| request_after(&cursor, Some(header)), GATHER_WITHIN).await
    }

    /// Tells everything, and with `follow` whatever comes, until nobody listens.
    async fn tell_events(self: std::sync::Arc<Self>, follow: bool, to: mpsc::Sender<admin::EventsResponse>) {
        let (mut cursors, mut pages) = (Cursors::new(), 0);
        let (mut not_asked, mut said) = (None, Instant::now());
        loop {
            let told = self.gather_events(&mut cursors).await;
            pages += 1;
            let more = cursors.values().any(|cursor| cursor.more) && pages < PAGES_MAX;
            let news = !told.events.is_empty() || not_asked.as_ref() != Some(&told.not_asked);
            if news || said.elapsed() >= SAY_EVERY {
                not_asked = Some(told.not_asked.clone());
                said = Instant::now();
                if to.send(told).await.is_err() {
                    return;
                }
            }
            if !more && !follow {
                return;
            }
            if !more {
                pages = 0;
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = to.closed() => return,
                }
            }
        }
    }

    /// Begins to tell events to an operator.
    pub(super) fn follow_events(&self, follow: bool) -> Result<mpsc::Receiver<admin::EventsResponse>, AdminError> {
        if self.node().me().cluster.is_none() {
            return Err(AdminError::NotMember);
        }
        let turn = self.followers.clone().try_acquire_owned().map_err(|_| AdminError::Invalid {
            what: "the request",
            reason: format!("{FOLLOWERS_MAX} operators follow events here already; ask another controller"),
        })?;
        let this = self.me.upgrade().ok_or(AdminError::NotMember)?;
        let (to, told) = mpsc::channel(1);
        self.tasks.follow("events", async move {
            this.tell_events(follow, to).await;
            drop(turn);
        });
        Ok(told)
    }
}

fn request_after(cursor: &EventsResponse, header: Option<crate::proto::peer::Header>) -> EventsRequest {
    EventsRequest {
        header,
        instance: cursor.instance,
        own_after: cursor.own_until,
        reported_after: cursor.reported_until,
    }
}

fn take_over(all: &mut admin::EventsResponse, cursors: &mut Cursors, of: ControllerId, mut answer: EventsResponse) {
    all.dropped += answer.dropped;
    // Whoever passes them on says who told them, whatever is written there.
    all.events.extend(answer.events.drain(..).map(|event| admin::Event { reported_by: of.get(), ..event }));
    cursors.insert(of, answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u64) -> router::EventReport {
        let event = router::ReportedEvent { number, code: "removed".into(), ..Default::default() };
        router::EventReport { instance: 7, dropped: 0, events: vec![event] }
    }

    #[test]
    fn a_router_that_reports_too_often_waits_and_disturbs_nobody() {
        let happenings = Happenings::default();
        let (loud, quiet) = (RouterId::new("loud").unwrap(), RouterId::new("quiet").unwrap());
        assert_eq!(happenings.take(&loud, router::EventReport::default()), None, "it tells nothing");
        let taken = (1..=100).filter(|number| happenings.take(&loud, report(*number)) == Some(*number)).count();
        // One more for each second that this test takes.
        let burst = REPORTS_PER_ROUTER.burst as usize;
        assert!((burst..burst + 10).contains(&taken), "{taken}");
        assert_eq!(happenings.take(&quiet, report(5)), Some(5));
    }

    #[test]
    fn all_routers_together_report_so_often_and_the_rest_tell_it_again() {
        let happenings = Happenings::default();
        let router = |number: u32| RouterId::new(format!("edge-{number}")).unwrap();
        let many = 20 * REPORTS_OF_ALL.burst;
        let taken = (0..many).filter(|number| happenings.take(&router(*number), report(1)).is_some()).count();
        assert!(taken >= REPORTS_OF_ALL.burst as usize && taken < many as usize / 2, "{taken} of {many}");
    }
}
