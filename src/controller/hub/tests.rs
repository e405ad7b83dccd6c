//! What leaves a controller, and what does not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus_client::registry::Registry;

use super::*;
use crate::domain::controller_list::{Applied, ClusterIdentity, Epoch, ListState};
use crate::domain::ids::{BootId, ClusterId, ControllerId, ControllerName, Incarnation};
use crate::domain::membership::{Member, Membership};
use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
use crate::rpc::list_codec;

/// The list of a cluster of `controllers`, from the membership entry at `log_index`.
fn list(controllers: u64, log_index: u64) -> ControllerList {
    let id = |id| ControllerId::new(id).unwrap();
    let endpoint = |port: u64| vec![format!("http://127.0.0.1:{port}").parse().unwrap()];
    let member = |n: u64| Member {
        id: id(n),
        name: ControllerName::new(format!("controller-{n}")).unwrap(),
        incarnation: Incarnation::from_u128(n.into()),
        peer: endpoint(7000 + 10 * n),
        router: endpoint(7001 + 10 * n),
        admin: endpoint(7002 + 10 * n),
        keys: Vec::new(),
    };
    let voters: BTreeSet<_> = (1..=controllers).map(id).collect();
    let membership = Membership::new(vec![voters.clone()], (1..=controllers).map(member));
    let identity = ClusterIdentity { cluster: ClusterId::from_u128(1), epoch: Epoch::FIRST, recovery: None };
    let applied =
        Applied { identity: Some(&identity), term: 1, log_index, used_ids: &voters, previous_log_index: None };
    match ControllerList::derive(&membership, applied).unwrap() {
        ListState::Known(list) => list,
        ListState::Unknown => unreachable!(),
    }
}

fn hub(codec: Codec) -> (Arc<Hub>, Events) {
    let events = Events::default();
    (Hub::new(codec, events.clone(), Metrics::new(&mut Registry::default())), events)
}

fn session(router: &str, boot: u128) -> Arc<LiveSession> {
    let router = RouterId::new(router).unwrap();
    Arc::new(LiveSession::new(router, Some(BootId::from_u128(boot)), "0.1.0", ProtocolVersion::STRUCTURED, None))
}

fn superseded(events: &Events) -> usize {
    events.kept().iter().filter(|kept| matches!(kept.event, Event::SessionSuperseded { .. })).count()
}

/// Ways in which an encoder can be wrong.
const FAULTS: [fn(Bytes) -> Bytes; 4] = [
    |_| Bytes::new(),
    |bytes| bytes.slice(..bytes.len() / 2),
    |bytes| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        bytes.into()
    },
    |bytes| [bytes, Bytes::from(vec![0; crate::domain::controller_list::LIST_BYTES_MAX])].concat().into(),
];

#[test]
fn nothing_that_a_faulty_encoder_makes_leaves_and_the_last_good_list_stays() {
    // One protocol at a time: the others are right, so that each judgement stands for itself.
    for wrong in ProtocolRange::SUPPORTED.versions() {
        for (number, fault) in FAULTS.into_iter().enumerate() {
            what_is_faulty_in_one_protocol_stays(wrong, number, fault);
        }
    }
}

fn what_is_faulty_in_one_protocol_stays(wrong: ProtocolVersion, number: usize, fault: fn(Bytes) -> Bytes) {
    let case = format!("fault {number} in protocol {wrong}");
    let broken = Arc::new(AtomicBool::new(false));
    let (hub, events) = hub(Codec::with_encoder({
        let broken = broken.clone();
        move |list, protocol| {
            let bytes = list_codec::encode(list, protocol);
            if broken.load(Ordering::Relaxed) && protocol == wrong { fault(bytes) } else { bytes }
        }
    }));
    let seat = hub.seat(session("edge-1", 1)).unwrap();
    assert!(hub.publish(&list(3, 5)));
    broken.store(true, Ordering::Relaxed);
    assert!(!hub.publish(&list(3, 9)), "{case}");
    let seen = seat.lists.borrow().clone().unwrap();
    assert_eq!(*seen.held().list, list(3, 5), "{case}");
    assert_eq!(hub.newest(), Some(seen));
    let withheld = events.kept().iter().filter(|e| e.event.code() == "publication_withheld").count();
    assert_eq!(withheld, 1, "{case}");
}

#[test]
fn a_controller_that_is_lost_in_one_encoding_is_missed_in_each() {
    for wrong in ProtocolRange::SUPPORTED.versions() {
        let (hub, events) = hub(Codec::with_encoder(move |whole, protocol| {
            // A list that any router would take: only what it should have said tells that it is wrong.
            list_codec::encode(if protocol == wrong { &SMALLER } else { whole }, protocol)
        }));
        assert!(!hub.publish(&list(3, 5)), "protocol {wrong}");
        assert!(matches!(&events.kept()[0].event, Event::PublicationWithheld { reason: "undecodable", .. }));
    }
}

/// A member short of `list(3, 5)`.
static SMALLER: std::sync::LazyLock<ControllerList> = std::sync::LazyLock::new(|| list(2, 5));

#[test]
fn a_faulty_encoder_at_the_start_publishes_nothing_at_all() {
    let (hub, events) = hub(Codec::with_encoder(|_, _| Bytes::new()));
    assert!(!hub.publish(&list(3, 5)));
    assert_eq!(hub.newest(), None);
    assert_eq!(events.kept().len(), 1);
}

#[test]
fn an_older_list_is_withheld() {
    let (hub, events) = hub(Codec::default());
    assert!(hub.publish(&list(3, 9)));
    assert!(!hub.publish(&list(3, 5)));
    assert_eq!(*hub.newest().unwrap().held().list, list(3, 9));
    assert!(matches!(&events.kept()[0].event, Event::PublicationWithheld { reason: "stale", .. }));
    assert_eq!(events.lasting().len(), 1);
    assert!(hub.publish(&list(3, 11)));
    assert_eq!(events.lasting(), [], "a list that routers take is published: it is over");
}

#[test]
fn a_list_is_encoded_once_per_protocol_however_many_sessions_there_are() {
    let encodings = Arc::new(AtomicUsize::new(0));
    let counted = encodings.clone();
    let (hub, _) = hub(Codec::with_encoder(move |list, protocol| {
        counted.fetch_add(1, Ordering::Relaxed);
        list_codec::encode(list, protocol)
    }));
    let seats: Vec<_> = (0..100).map(|n| hub.seat(session(&format!("edge-{n}"), 1)).unwrap()).collect();
    assert!(hub.publish(&list(3, 5)));
    assert!(hub.publish(&list(3, 5)));
    assert_eq!(encodings.load(Ordering::Relaxed), 2);
    let first = seats[0].lists.borrow().clone().unwrap();
    for seat in &seats {
        assert!(Arc::ptr_eq(&first, seat.lists.borrow().as_ref().unwrap()));
    }
}

#[test]
fn the_newer_session_of_a_router_stays_and_the_older_one_ends() {
    let (hub, events) = hub(Codec::default());
    let (older, newer) = (session("edge-1", 1), session("edge-1", 2));
    let first = hub.seat(older.clone()).unwrap();
    let second = hub.seat(newer.clone()).unwrap();
    assert!(older.ending().borrow().is_some() && newer.ending().borrow().is_none());
    assert_eq!(superseded(&events), 1);
    drop(first);
    assert!(Arc::ptr_eq(&hub.sessions()[0], &newer), "the older one's end does not unseat the newer one");
    drop(second);
    assert_eq!((hub.session_count(), hub.lock().taken()), (0, 0));
}

#[test]
fn a_reconnect_of_the_same_boot_is_no_event() {
    let (hub, events) = hub(Codec::default());
    let older = session("edge-1", 1);
    let _first = hub.seat(older.clone()).unwrap();
    let _second = hub.seat(session("edge-1", 1)).unwrap();
    assert!(older.ending().borrow().is_some());
    assert_eq!(superseded(&events), 0);
}

#[test]
fn a_full_hub_refuses_and_a_free_seat_is_taken_again() {
    let (hub, _) = hub(Codec::default());
    let mut seats: Vec<_> = (0..SESSIONS_MAX).map(|_| hub.seat_watcher(None).unwrap()).collect();
    assert_eq!(hub.seat(session("edge-1", 1)).unwrap_err(), NotServing::Full { limit: SESSIONS_MAX });
    seats.pop();
    assert!(hub.seat(session("edge-1", 1)).is_ok());
}

#[test]
fn one_router_takes_few_seats_as_a_watcher_and_gives_them_back() {
    let (hub, _) = hub(Codec::default());
    let [one, other] = ["edge-1", "edge-2"].map(|id| RouterId::new(id).unwrap());
    let mut seats: Vec<_> = (0..WATCHES_PER_ROUTER_MAX).map(|_| hub.seat_watcher(Some(&one)).unwrap()).collect();
    let enough = NotServing::WatchesEnough { limit: WATCHES_PER_ROUTER_MAX };
    assert_eq!(hub.seat_watcher(Some(&one)).unwrap_err(), enough);
    assert!(hub.seat_watcher(Some(&other)).is_ok() && hub.seat(session("edge-1", 1)).is_ok());
    seats.pop();
    assert!(hub.seat_watcher(Some(&one)).is_ok());
    drop(seats);
    assert!(hub.lock().watches.is_empty(), "what is remembered is bounded by who watches");
}

#[test]
fn a_closing_hub_seats_nobody_and_keeps_its_first_reason() {
    let (hub, _) = hub(Codec::default());
    let seat = hub.seat_watcher(None).unwrap();
    hub.close(Farewell::NotMember);
    hub.drain();
    assert_eq!(*seat.closing.borrow(), Some(Farewell::NotMember));
    assert_eq!(hub.seat(session("edge-1", 1)).unwrap_err(), NotServing::NotMember);
}
