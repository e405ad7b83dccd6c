//! Protocol 1, frozen: routers that were built before there was another one, against the controllers of today.

use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::{SOON, eventually, expect};
use router::{Manner, Router, Seen};

mod golden;
mod messages;
mod router;

fn address(fleet: &Fleet, place: usize) -> String {
    format!("http://127.0.0.1:{}", fleet.controllers[place].0.router)
}

/// Waits until every router holds exactly these addresses; the index of the list in which they are.
async fn hold(routers: &[Router], addresses: &[String]) -> u64 {
    let mut wanted = addresses.to_vec();
    wanted.sort();
    let mut newest = 0;
    for router in routers {
        let list = eventually(&format!("a router of protocol 1 holds {wanted:?}"), SOON, || async {
            let seen = router.seen();
            let mut held = seen.list.addresses.clone();
            held.sort();
            expect(held == wanted && seen.connected.is_some(), || format!("{seen:?}")).map(|()| seen.list)
        })
        .await;
        newest = newest.max(list.index);
    }
    newest
}

async fn done(fleet: &Fleet, arguments: &[&str]) {
    let answer = fleet.cli(arguments).await;
    assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
}

/// Waits until the cluster says that both are registered, and which protocol is spoken in a session; whoever has one is
/// known to hold the newest list.
async fn are_known(fleet: &Fleet, wanted: &[(&str, Value)]) {
    eventually("the routers of protocol 1 are listed", SOON, || async {
        let answer = fleet.cli(&["routers", "list", "-o", "json"]).await;
        let list: Value = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
        let routers = list["routers"].as_array().cloned().unwrap_or_default();
        let mut known = wanted.iter().map(|(id, protocol)| {
            let right = |router: &Value| {
                let current = router["current"] == json!(!protocol.is_null());
                router["registered"] == true && router["protocol"] == *protocol && current
            };
            routers.iter().any(|router| router["id"] == *id && right(router))
        });
        expect(known.all(|known| known), || format!("{answer:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_of_protocol_1_register_follow_the_membership_and_fail_over() {
    let mut fleet = Fleet::found(3).await;
    let leader = fleet.leader().await;
    // They know one controller only, and it is not the leader: what they know of others they have from the list.
    let seed = (leader + 1) % 3;
    let spare = (leader + 2) % 3;
    let routers = [("old-1", Manner::Session), ("old-2", Manner::Watch)]
        .map(|(id, manner)| Router::start(id, address(&fleet, seed), manner));
    let founders: Vec<_> = (0..3).map(|place| address(&fleet, place)).collect();
    let first = hold(&routers, &founders).await;
    assert_eq!(first >> 32, 1, "the first epoch");
    // Who watches has no session: it is registered, and no more is known of it.
    are_known(&fleet, &[("old-1", json!(1)), ("old-2", Value::Null)]).await;

    // A fourth is added and promoted, one of the founders is removed.
    let peer = fleet.newcomer().await;
    done(&fleet, &["cluster", "add", "--peer", &peer, "--wait"]).await;
    done(&fleet, &["cluster", "promote", "4", "--wait"]).await;
    let four: Vec<_> = (0..4).map(|place| address(&fleet, place)).collect();
    let second = hold(&routers, &four).await;
    assert!(second > first, "{second} after {first}");
    let gone = (spare + 1).to_string();
    done(&fleet, &["cluster", "demote", &gone]).await;
    done(&fleet, &["cluster", "remove", &gone]).await;
    fleet.controllers[spare].1.kill().await;
    let three: Vec<_> = [leader, seed, 3].map(|place| address(&fleet, place)).into();
    let third = hold(&routers, &three).await;
    assert!(third > second, "{third} after {second}");

    // Their controller dies: they go to one that the list named, and follow there.
    let at = |seen: &Seen| seen.connected.clone();
    assert!(routers.iter().all(|router| at(&router.seen()) == Some(address(&fleet, seed))), "{routers:?}");
    fleet.controllers[seed].1.kill().await;
    for router in &routers {
        eventually("it is served by another one, and registered there", SOON, || async {
            let seen = router.seen();
            let moved = at(&seen).is_some_and(|at| at != address(&fleet, seed) && seen.registered.contains(&at));
            expect(moved, || format!("{seen:?}"))
        })
        .await;
    }
    let moved = format!("http://localhost:{}", fleet.controllers[3].0.router);
    done(&fleet, &["cluster", "readdress", "4", "--router", &moved]).await;
    let last = hold(&routers, &[address(&fleet, leader), address(&fleet, seed), moved]).await;
    assert!(last > third, "{last} after {third}");
    for router in &routers {
        assert_eq!(router.seen().wrong, [], "no list was empty or older: {router:?}");
    }
}
