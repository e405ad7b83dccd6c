//! The keeper with a real directory: what it answers, what it keeps, and what it says of every refusal.

use std::io::Write;
use std::sync::Mutex;

use bytes::Bytes;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::domain::ids::{ClusterId, RouterId};
use crate::ops::events::{Events, Kind, Severity};
use crate::router::candidates::{Candidate, Tier};
use crate::router::generations::{Floors, HostDisk};
use crate::router::metrics::Metrics;
use crate::router::samples::{CLUSTER, FailingDisk, HangingDisk, id, list_of, update};
use crate::router::sessions::{Identity, nack};
use crate::router::status::AgentStatus;

struct Kept {
    keeper: Keeper,
    handle: KeeperHandle,
    instruments: Instruments,
    published: Published,
    registry: Registry,
}

fn kept(dir: &std::path::Path, disk: Arc<dyn Disk>) -> Kept {
    kept_after(Published::default(), dir, disk)
}

/// A keeper that follows another one in the same process.
fn kept_after(published: Published, dir: &std::path::Path, disk: Arc<dyn Disk>) -> Kept {
    let mut registry = Registry::default();
    let events = Events::new(&mut registry);
    let metrics = Metrics::new(&mut registry);
    let instruments = Instruments::new(events, metrics, AgentStatus::blank(RouterId::new("edge-1").unwrap()));
    let (keeper, handle) = Keeper::new(
        Generations::open(dir, disk.clone()).unwrap(),
        vec!["http://192.0.2.1:7002".parse().unwrap()],
        disk,
        published.clone(),
        instruments.clone(),
        Board::new(instruments.clone()),
        Arc::new(|| 0),
    );
    Kept { keeper, handle, instruments, published, registry }
}

fn from(controller: u64) -> Speaker {
    Speaker {
        id: Some(id(controller)),
        cluster: Some(ClusterId::from_u128(CLUSTER)),
        endpoint: format!("http://10.0.0.{controller}:7002").parse().unwrap(),
        protocol: ProtocolVersion::STRUCTURED,
    }
}

async fn offered(kept: &mut Kept, update: ListUpdate) -> Answer {
    kept.keeper.judge(update, from(1)).await
}

fn lasting(kept: &Kept) -> Vec<Kind> {
    kept.instruments.events.lasting().iter().map(|lasting| lasting.event.kind()).collect()
}

fn held_version(kept: &Kept) -> Option<String> {
    kept.published.lists.borrow().as_ref().map(|held| held.list.version().to_string())
}

#[tokio::test]
async fn an_adopted_list_is_saved_before_it_is_acknowledged_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = kept(dir.path(), Arc::new(HostDisk));
    let list = list_of(CLUSTER, 5, &[1, 2, 3]);
    let answer = offered(&mut first, update(&list)).await;
    assert!(matches!(answer, Answer::Ack { version: Some(version), .. } if version == list.version()), "{answer:?}");
    drop(first);
    let second = kept(dir.path(), Arc::new(HostDisk));
    assert_eq!(held_version(&second), Some(list.version().to_string()));
    assert_eq!(second.instruments.status().borrow().source, Source::Newest);
}

#[tokio::test]
async fn bad_offers_are_refused_with_their_reason_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = kept(dir.path(), Arc::new(HostDisk));
    let good = list_of(CLUSTER, 5, &[1, 2, 3]);
    offered(&mut kept, update(&good)).await;

    let with = |list: Bytes| ListUpdate { digest: Some(list_codec::digest(&list).into()), list, ..update(&good) };
    let whole = update(&good).list;
    let empty = prost::Message::encode_to_vec(&crate::proto::router::ControllerList {
        controllers: Vec::new(),
        ..prost::Message::decode(whole.clone()).unwrap()
    });
    let mut twice: crate::proto::router::ControllerList = prost::Message::decode(whole.clone()).unwrap();
    twice.controllers.push(twice.controllers[0].clone());
    let cases = [
        ("empty", with(empty.into())),
        ("undecodable", with(whole.slice(..whole.len() - 3))),
        ("oversized", with(vec![0; crate::domain::controller_list::LIST_BYTES_MAX + 1].into())),
        ("duplicate_controller", with(prost::Message::encode_to_vec(&twice).into())),
        ("foreign_cluster", update(&list_of(CLUSTER + 1, 9, &[1, 2, 3]))),
        ("stale", update(&list_of(CLUSTER, 4, &[1, 2, 3]))),
        ("conflict", update(&list_of(CLUSTER, 5, &[1, 2, 4]))),
        (
            "digest_mismatch",
            ListUpdate { digest: Some(list_codec::digest(b"other").into()), ..update(&list_of(CLUSTER, 9, &[1])) },
        ),
        ("undecodable", ListUpdate { protocol: 1, ..update(&good) }),
    ];
    for (reason, offer) in cases {
        match offered(&mut kept, offer).await {
            Answer::Nack { refusal, .. } => assert_eq!(refusal.code(), reason),
            answer @ Answer::Ack { .. } => panic!("{reason}: {answer:?}"),
        }
        assert_eq!(held_version(&kept), Some(good.version().to_string()), "{reason}");
    }
    drop(kept.handle);
    drop(kept.keeper);
    let again = super::tests::kept(dir.path(), Arc::new(HostDisk));
    assert_eq!(held_version(&again), Some(good.version().to_string()));
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_refusal_is_a_log_line_an_event_a_count_and_a_nack_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let kept = kept(dir.path(), Arc::new(HostDisk));
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let refusals = acceptance::samples();
    tracing::subscriber::with_default(subscriber, || {
        refusals.iter().for_each(|refusal| assert!(!kept.keeper.refuse(&from(4), refusal), "not late"));
    });
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let mut metrics = String::new();
    encode(&mut metrics, &kept.registry).unwrap();
    let events = kept.instruments.events.kept();
    for refusal in &refusals {
        let (code, message, hint) = (refusal.code(), refusal.to_string(), refusal.hint());
        assert!(!hint.is_empty(), "{code} has no hint");
        let line =
            log.lines().find(|line| line.contains(&message)).unwrap_or_else(|| panic!("{code} is not in the log"));
        let level = if code.contains("conflict") { "ERROR" } else { "WARN" };
        assert!(line.contains(level) && line.contains("controller 4"), "{line}");
        assert!(
            metrics.contains(&format!("pilothouse_router_offers_refused_total{{reason=\"{code}\"}}")),
            "{code}: {metrics}"
        );
        assert!(
            events.iter().any(|one| matches!(&one.event, Event::OfferRefused { reason, hint: said, .. } if *reason == code && *said == hint)),
            "{code} is no event"
        );
        assert!(kept.instruments.status().borrow().offers.refused.contains_key(code), "{code} is not in the status");
        let said = nack(7, refusal);
        assert_eq!((said.nonce, said.reason.as_str()), (7, code), "the controller is told");
        assert_eq!((said.message, said.hint), (message, hint), "{code}: with the same words as the operator here");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_the_list_is_used_and_it_is_saved_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk::after(0);
    let mut kept = kept(dir.path(), disk.clone());
    let list = list_of(CLUSTER, 5, &[1, 2, 3]);
    let answer = offered(&mut kept, update(&list)).await;
    assert!(matches!(answer, Answer::Ack { .. }));
    assert_eq!(held_version(&kept), Some(list.version().to_string()), "it is used all the same");
    assert!(!kept.instruments.status().borrow().saved);
    assert!(kept.instruments.events.kept().iter().any(|one| matches!(one.event, Event::NotSaved { .. })));

    assert_eq!(lasting(&kept), [Kind::NotSaved]);

    disk.repair();
    assert!(disk.left() > 0);
    kept.keeper.save().await;
    assert!(kept.instruments.status().borrow().saved);
    assert_eq!(lasting(&kept), [], "it is over");
    drop(kept);
    assert_eq!(held_version(&super::tests::kept(dir.path(), Arc::new(HostDisk))), Some(list.version().to_string()));
}

#[tokio::test]
async fn the_reserve_keeps_who_was_held_until_a_member_of_the_newest_list_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = kept(dir.path(), Arc::new(HostDisk));
    offered(&mut kept, update(&list_of(CLUSTER, 5, &[1, 2, 3]))).await;
    offered(&mut kept, update(&list_of(CLUSTER, 9, &[1, 3, 4, 8]))).await;
    let reserved: Vec<_> = kept.keeper.holdings.reserve.iter().map(|reserved| reserved.id.get()).collect();
    assert_eq!(reserved, [1, 3], "2 is retired by the newest list: it is not spoken to any more");
    kept.keeper
        .handle(Request::Heard(Speaker { endpoint: "http://192.0.2.77:7002".parse().unwrap(), ..from(8) }))
        .await;
    assert_eq!(kept.keeper.holdings.reserve.len(), 2, "not where the list says it is");
    kept.keeper.handle(Request::Heard(from(8))).await;
    assert!(kept.keeper.holdings.reserve.is_empty());
}

#[tokio::test]
async fn whatever_a_router_fell_back_to_is_over_when_the_newest_list_is_known_to_be_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = kept(dir.path(), Arc::new(HostDisk));
    assert_eq!(lasting(&first), [Kind::RunningOnSeeds]);
    assert_eq!(first.instruments.events.kept()[0].event.severity(), Severity::Info, "every router begins so");
    offered(&mut first, update(&list_of(CLUSTER, 5, &[1, 2, 3]))).await;
    assert_eq!(lasting(&first), [], "a list was adopted");
    let newest = list_of(CLUSTER, 9, &[1, 2, 3]);
    offered(&mut first, update(&newest)).await;
    drop(first);

    std::fs::write(dir.path().join("list.current"), b"junk").unwrap();
    let mut second = kept(dir.path(), Arc::new(HostDisk));
    assert_eq!(lasting(&second), [Kind::FellBack]);
    second.keeper.handle(Request::Heard(from(1))).await;
    assert_eq!(lasting(&second), [Kind::FellBack], "a member answers, and the newest list is not there yet");
    offered(&mut second, update(&newest)).await;
    assert_eq!(lasting(&second), [], "the newest list is there again");

    let fall_back = |kept: &Kept| {
        kept.instruments.events.raise(Event::FellBack { to: "reserve", message: "nobody answers".into() });
    };
    fall_back(&second);
    let stranger = Speaker { cluster: Some(ClusterId::from_u128(CLUSTER + 1)), ..from(1) };
    second.keeper.handle(Request::Heard(stranger)).await;
    second.keeper.handle(Request::Heard(from(8))).await;
    second.keeper.judge(update(&newest), from(8)).await;
    assert_eq!(lasting(&second), [Kind::FellBack], "whom the list does not name proves nothing");
    second.keeper.handle(Request::Heard(from(1))).await;
    assert_eq!(lasting(&second), [], "a member answers");
    fall_back(&second);
    offered(&mut second, update(&newest)).await;
    assert_eq!(lasting(&second), [], "a member offers what is held");
}

#[tokio::test]
async fn an_offer_that_was_overtaken_a_moment_ago_is_refused_like_any_other_and_alarms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = kept(dir.path(), Arc::new(HostDisk));
    let (older, newer) = (update(&list_of(CLUSTER, 5, &[1, 2, 3])), update(&list_of(CLUSTER, 9, &[1, 2, 3])));
    offered(&mut first, newer.clone()).await;
    let answer = offered(&mut first, older.clone()).await;
    assert!(matches!(&answer, Answer::Nack { refusal, late: true } if refusal.code() == "stale"), "{answer:?}");
    assert_eq!(first.instruments.status().borrow().offers.refused["stale"], 1, "it is counted");
    let last = |kept: &Kept| kept.instruments.events.kept().last().unwrap().event.clone();
    assert!(matches!(last(&first), Event::OfferRefused { late: true, .. }));
    assert_eq!(last(&first).severity(), Severity::Info);
    drop(first);

    // After a restart nothing was adopted a moment ago: whoever is behind now has been for longer.
    let mut second = kept(dir.path(), Arc::new(HostDisk));
    let answer = offered(&mut second, older).await;
    assert!(matches!(&answer, Answer::Nack { late: false, .. }), "{answer:?}");
    assert_eq!(last(&second).severity(), Severity::Warning);
}

#[tokio::test]
async fn a_keeper_that_starts_again_in_the_same_process_goes_on_from_what_was_held_in_memory_only() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk::after(usize::MAX);
    let mut first = kept(dir.path(), disk.clone());
    let (older, newer) = (list_of(CLUSTER, 5, &[1, 2, 3]), list_of(CLUSTER, 9, &[1, 2, 3]));
    offered(&mut first, update(&older)).await;
    disk.fill();
    offered(&mut first, update(&newer)).await;
    let published = first.published.clone();
    drop(first);

    let mut lists = published.lists.subscribe();
    lists.mark_unchanged();
    let mut second = kept_after(published, dir.path(), disk.clone());
    assert!(!lists.has_changed().unwrap(), "whoever follows the list sees no older one");
    assert_eq!(held_version(&second), Some(newer.version().to_string()));
    assert!(!second.instruments.status().borrow().saved, "and is told that it is in memory only");
    let answer = offered(&mut second, update(&older)).await;
    assert!(matches!(&answer, Answer::Nack { refusal, .. } if refusal.code() == "stale"), "{answer:?}");
    assert!(second.keeper.unsaved.is_some(), "it will be saved again");
    disk.repair();
    second.keeper.save().await;
    drop(second);
    assert_eq!(held_version(&kept(dir.path(), Arc::new(HostDisk))), Some(newer.version().to_string()));
}

#[tokio::test]
async fn a_router_that_was_made_to_trust_another_cluster_meanwhile_does_not_go_on_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = kept(dir.path(), Arc::new(HostDisk));
    offered(&mut first, update(&list_of(CLUSTER, 5, &[1, 2, 3]))).await;
    let published = first.published.clone();
    drop(first);
    crate::router::generations::trust(dir.path(), ClusterId::from_u128(CLUSTER + 1), Floors::Kept).unwrap();
    let second = kept_after(published, dir.path(), Arc::new(HostDisk));
    assert_eq!(held_version(&second), None);
}

#[tokio::test]
async fn another_clusters_controller_with_a_members_id_is_no_member() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = kept(dir.path(), Arc::new(HostDisk));
    offered(&mut kept, update(&list_of(CLUSTER, 5, &[1, 2, 3]))).await;
    offered(&mut kept, update(&list_of(CLUSTER, 9, &[1, 3, 8]))).await;
    let foreign = Speaker { cluster: Some(ClusterId::from_u128(CLUSTER + 1)), ..from(8) };
    kept.keeper.handle(Request::Heard(foreign.clone())).await;
    assert!(!kept.keeper.holdings.reserve.is_empty(), "it proves nothing about the newest list");

    let claim = claimed(&kept, 1, Tier::Seeds);
    claim.answered(Identity { id: Some(id(1)), cluster: foreign.cluster, foreign: true });
    let next = update(&list_of(CLUSTER, 12, &[1, 3, 9]));
    let answer = kept.keeper.judge(next.clone(), from(9)).await;
    assert!(matches!(answer, Answer::Ack { .. }), "no member answers: {answer:?}");

    let member = claimed(&kept, 3, Tier::Held);
    member.answered(Identity { id: Some(id(3)), cluster: Some(ClusterId::from_u128(CLUSTER)), foreign: false });
    let answer = kept.keeper.judge(update(&list_of(CLUSTER, 13, &[1, 3, 9])), Speaker { ..foreign }).await;
    assert!(matches!(&answer, Answer::Nack { refusal, .. } if refusal.code() == "outsider"), "{answer:?}");
}

fn claimed(kept: &Kept, controller: u64, tier: Tier) -> crate::router::sessions::Claim {
    let endpoint = from(controller).endpoint;
    kept.keeper.board.claim(&Candidate { endpoint, controller: Some(id(controller)), tier }).unwrap()
}

#[tokio::test]
async fn a_member_that_is_being_dialed_counts_as_answering_until_a_dial_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = kept(dir.path(), Arc::new(HostDisk));
    offered(&mut kept, update(&list_of(CLUSTER, 5, &[1, 2, 3]))).await;
    let next = update(&list_of(CLUSTER, 9, &[1, 2, 3]));
    let dialing = claimed(&kept, 1, Tier::Held);
    let answer = kept.keeper.judge(next.clone(), from(9)).await;
    assert!(matches!(&answer, Answer::Nack { refusal, .. } if refusal.code() == "outsider"), "{answer:?}");
    kept.keeper.board.unreached(dialing.endpoint());
    drop(dialing);
    let _again = claimed(&kept, 1, Tier::Held);
    let answer = kept.keeper.judge(next, from(9)).await;
    assert!(matches!(answer, Answer::Ack { .. }), "a dead list must not hold the router: {answer:?}");
}

#[tokio::test]
async fn contact_with_a_member_of_the_previous_list_does_not_clear_the_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = kept(dir.path(), Arc::new(HostDisk));
    offered(&mut first, update(&list_of(CLUSTER, 5, &[1, 2, 3]))).await;
    offered(&mut first, update(&list_of(CLUSTER, 9, &[1, 2, 3, 4]))).await;
    drop(first);
    std::fs::write(dir.path().join("list.current"), b"").unwrap();
    let mut second = kept(dir.path(), Arc::new(HostDisk));
    assert_eq!(second.keeper.holdings.source, Source::Previous);
    assert!(!second.keeper.holdings.reserve.is_empty());
    second.keeper.handle(Request::Heard(from(1))).await;
    assert!(!second.keeper.holdings.reserve.is_empty(), "the newest list has not proved itself");
}

#[tokio::test]
async fn a_pulse_beats_while_the_keeper_runs_and_keeps_nothing_alive() {
    let dir = tempfile::tempdir().unwrap();
    let Kept { keeper, handle, .. } = kept(dir.path(), Arc::new(HostDisk));
    let pulse = handle.pulse();
    assert!(futures::poll!(Box::pin(pulse.beats())).is_pending(), "nobody runs it yet");
    let running = tokio::spawn(keeper.run());
    assert!(pulse.beats().await);
    drop(handle);
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it ends with its last handle").unwrap();
    assert!(!pulse.beats().await);
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_hold_up_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(HangingDisk::default());
    let mut kept = kept(dir.path(), disk.clone());
    let (first, second) = (list_of(CLUSTER, 5, &[1, 2, 3]), list_of(CLUSTER, 9, &[1, 2, 3]));
    kept.keeper.save_max = Duration::from_millis(50);
    disk.hang(true);
    for list in [&first, &second] {
        let answer = offered(&mut kept, update(list)).await;
        assert!(matches!(answer, Answer::Ack { .. }), "{answer:?}");
        assert_eq!(held_version(&kept), Some(list.version().to_string()));
        assert!(!kept.instruments.status().borrow().saved);
    }
    assert!(kept.instruments.events.kept().iter().any(|one| matches!(one.event, Event::NotSaved { .. })));
    disk.hang(false);
    while kept.keeper.unsaved.is_some() {
        kept.keeper.save().await;
        tokio::task::yield_now().await;
    }
    drop(kept);
    assert_eq!(held_version(&super::tests::kept(dir.path(), Arc::new(HostDisk))), Some(second.version().to_string()));
}
