//! Bad offers and bad controllers: each is refused over the wire with its reason, and nothing is lost.

use pilothouse::domain::endpoint::Endpoint;
use pilothouse::proto::router::FlatList;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::proto::router::{ControllerHeartbeat, ListUpdate};
use pilothouse::router::{Agent, Parts, Timing};
use prost::Message;

use super::scripted::{CLUSTER, Controller, Manner, offer, sealed};
use super::{TIMING, agent, becomes, config, holds, parts};
use crate::support::SOON;

#[tokio::test]
async fn bad_lists_are_answered_with_a_nack_that_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    let me = (1, &controller.endpoint);
    let agent = agent(dir.path(), &[&controller.endpoint], 1).await;
    controller.offers(offer(1, CLUSTER, 5, &[me])).await;
    controller.hears_ack(1).await;
    becomes(&agent, "it holds the list", |status| holds(status, "1.5")).await;

    let whole = offer(0, CLUSTER, 9, &[me]).list;
    let nowhere = "http://192.0.2.9:1".parse().unwrap();
    let bad = [
        (2, "empty", offer(2, CLUSTER, 9, &[])),
        (3, "undecodable", sealed(3, whole[..whole.len() - 1].to_vec())),
        (4, "oversized", sealed(4, vec![0; 200 * 1024])),
        (5, "duplicate_controller", offer(5, CLUSTER, 9, &[me, me])),
        (6, "stale", offer(6, CLUSTER, 4, &[me])),
        (7, "conflict", offer(7, CLUSTER, 5, &[me, (2, &nowhere)])),
        (8, "digest_mismatch", ListUpdate { list: whole.clone(), ..offer(8, CLUSTER, 10, &[me]) }),
        (9, "undecodable", another_dialect(9, &controller.endpoint)),
        (10, "foreign_cluster", offer(10, [8; 16], 9, &[me])),
    ];
    for (nonce, reason, update) in bad {
        // Said once: a session that begins anew does not repeat it.
        controller.says_once(Kind::Update(update)).await;
        let nack = controller.hears_nack(nonce).await;
        assert_eq!(nack.reason, reason);
        assert!(!nack.message.is_empty() && !nack.hint.is_empty(), "{nack:?}");
        becomes(&agent, "it still holds the list, and counts the refusal", |status| {
            holds(status, "1.5") && status.offers.refused.contains_key(reason)
        })
        .await;
    }
    agent.stop().await;

    let again = super::agent(dir.path(), &[&controller.endpoint], 1).await;
    assert!(holds(&again.status().borrow(), "1.5"), "and after a restart, before anybody was asked");
}

/// A whole, good list in the encoding of protocol 1, which was not what this session agreed upon.
fn another_dialect(nonce: u64, endpoint: &Endpoint) -> ListUpdate {
    let flat = FlatList { addresses: vec![endpoint.to_string()], index: 1 << 32 | 12 };
    ListUpdate { protocol: 1, ..sealed(nonce, flat.encode_to_vec()) }
}

#[tokio::test]
async fn a_message_over_its_limit_ends_that_session_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    let agent = agent(dir.path(), &[&controller.endpoint], 1).await;
    controller.offers(offer(1, CLUSTER, 5, &[(1, &controller.endpoint)])).await;
    becomes(&agent, "it holds the list", |status| holds(status, "1.5")).await;
    controller.says_once(Kind::Update(sealed(2, vec![0; 300 * 1024]))).await;
    becomes(&agent, "it says so", |status| status.offers.refused.contains_key("undecodable")).await;
    controller.offers(offer(3, CLUSTER, 6, &[(1, &controller.endpoint)])).await;
    becomes(&agent, "it comes back and follows the next list", |status| holds(status, "1.6")).await;
}

#[tokio::test]
async fn a_mute_controller_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let mute = Controller::start(1, Manner::Mute).await;
    let proper = Controller::start(2, Manner::Proper).await;
    proper.offers(offer(1, CLUSTER, 5, &[(1, &mute.endpoint), (2, &proper.endpoint)])).await;
    let agent = agent(dir.path(), &[&mute.endpoint, &proper.endpoint], 1).await;
    becomes(&agent, "it holds the list of the other one", |status| holds(status, "1.5")).await;
    assert!(proper.registrations() > 0, "it registered there");
}

#[tokio::test]
async fn an_old_controller_only_adds_hints_and_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let proper = Controller::start(1, Manner::Proper).await;
    proper.offers(offer(1, CLUSTER, 5, &[(1, &proper.endpoint)])).await;
    let first = agent(dir.path(), &[&proper.endpoint], 1).await;
    becomes(&first, "it holds the list", |status| holds(status, "1.5")).await;
    first.stop().await;
    drop(proper);

    let old = Controller::start(0, Manner::Old).await;
    let flat = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        ListUpdate { protocol: 1, ..sealed(1, FlatList { addresses, index: u64::MAX }.encode_to_vec()) }
    };
    old.offers(flat(&["http://192.0.2.1:7002"])).await;
    let agent = agent(dir.path(), &[&old.endpoint], 1).await;
    becomes(&agent, "the address is a hint", |status| status.hints == 1 && holds(status, "1.5")).await;
    old.says_once(Kind::Update(ListUpdate { nonce: 2, ..flat(&[]) })).await;
    assert_eq!(old.hears_nack(2).await.reason, "empty");
    assert!(holds(&agent.status().borrow(), "1.5"));
}

#[tokio::test]
async fn a_lost_push_heals_with_a_heartbeat() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    let me = (1, &controller.endpoint);
    controller.offers(offer(1, CLUSTER, 5, &[me])).await;
    // Its own heartbeats are so rare that only an answer to the controller's can be seen here.
    let timing = Timing { heartbeat: (SOON * 2, SOON * 2), ..TIMING };
    let parts = Parts { timing, ..parts() };
    let agent = Agent::start(config(dir.path(), &[&controller.endpoint], 1), parts).await.unwrap();
    becomes(&agent, "it holds the list", |status| holds(status, "1.5")).await;
    // The digest of a list that never came: the router says at once what it holds, so that it is sent again.
    let missing = offer(0, CLUSTER, 6, &[me]).digest;
    controller.says_once(Kind::Heartbeat(ControllerHeartbeat { digest: missing, ..Default::default() })).await;
    let held = controller
        .hears("what it holds", |heard| match heard {
            FromRouter::Heartbeat(beat) => beat.held.clone()?.version,
            _ => None,
        })
        .await;
    assert_eq!((held.epoch, held.index), (1, 5));
}
