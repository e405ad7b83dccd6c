//! A real router whose files are damaged between two lives, and one that is killed while it adopts.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::fleet::Fleet;
use crate::support::{SOON, eventually, expect, http};

/// How often a router is killed while lists change.
const KILLS: usize = 12;

async fn status(port: u16) -> Result<Value, String> {
    http::get_json(port, "/api/v1/status").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_list_file_is_set_aside_and_the_router_recovers() {
    let mut fleet = Fleet::found(1).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let committed = fleet.status().await["list_version"].clone();
    let data = fleet.data("edge-1");
    let current = data.join("list.current");
    let good = fs::read(&current).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damages = [
        ("emptied", Vec::new()),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("corrupt", flipped),
        ("foreign", b"{\"addresses\": []}".to_vec()),
    ];
    for (lives, (damage, bytes)) in (1..).zip(damages) {
        fleet.routers[0].1.kill().await;
        fs::write(&current, bytes).unwrap();
        fs::remove_file(data.join("list.previous")).or_else(|_| fs::metadata(&data).map(drop)).unwrap();
        fleet.routers[0].1.run();
        eventually(&format!("{damage}: it holds the committed list again"), SOON, || async {
            let status = status(fleet.routers[0].0).await?;
            expect(status["held"]["version_text"] == committed, || status.to_string())
        })
        .await;
        let log = fleet.routers[0].1.log();
        assert_eq!(log.matches("file_set_aside").count(), lives, "{damage}: {log}");
        let names = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("list.current.rejected-")).count(), lives, "{damage}");
        assert!(fs::read(&current).unwrap().len() >= good.len(), "{damage}: it is saved again");
    }
    fleet.routers_are_current().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_is_killed_while_it_adopts_never_loses_or_ages_its_list() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let mut newest = (0, 0);
    for round in 0..KILLS {
        // Demoting and promoting changes the list at each round, twice: while joint, and after.
        let change = if round % 2 == 0 { "demote" } else { "promote" };
        let member = (fleet.leader().await + 1) % 3 + 1;
        let member = if round % 2 == 0 { member } else { learner(&fleet).await };
        let member = member.to_string();
        let arguments = ["cluster", change, member.as_str()];
        let (port, mut router) = fleet.routers.remove(0);
        // At another moment of the change in every round.
        let moment = Duration::from_millis(10 * u64::try_from(round).unwrap());
        let killed = async {
            tokio::time::timeout(moment, std::future::pending::<()>()).await.unwrap_err();
            router.kill().await;
            router.run();
        };
        let (answer, ()) = tokio::join!(fleet.cli(&arguments), killed);
        assert_eq!(answer.code, 0, "{answer:?}");
        fleet.routers.push((port, router));
        let held = eventually("it is up, with a list", SOON, || async {
            let status = status(port).await?;
            version(&status["held"]["version"]).ok_or_else(|| status.to_string())
        })
        .await;
        assert!(held >= newest, "round {round}: {held:?} is older than {newest:?}");
        newest = held;
    }
    fleet.routers_are_current().await;
    let log = fleet.routers[0].1.log();
    assert!(!log.contains("file_set_aside"), "a file was damaged by a kill: {log}");
}

fn version(value: &Value) -> Option<(u64, u64)> {
    Some((value["epoch"].as_u64()?, value["index"].as_u64()?))
}

/// The member that is not a voter at the moment.
async fn learner(fleet: &Fleet) -> usize {
    let status = fleet.status().await;
    let members = status["members"].as_array().unwrap();
    let learner = members.iter().find(|member| member["role"] == "learner").unwrap();
    usize::try_from(learner["id"].as_u64().unwrap()).unwrap()
}
