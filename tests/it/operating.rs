//! A cluster of real processes, operated through the command line from its founding to a fourth member and back.

use serde_json::{Value, json};

use crate::support::fleet::{Answer, Fleet};
use crate::support::{SOON, eventually, expect};

fn done(answer: &Answer) {
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn refused(answer: &Answer, because: &str) {
    assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{answer:?}");
    assert!(answer.err.contains(because) && answer.err.contains("\nhint: "), "{because}: {}", answer.err);
    // What to do is said for this refusal, whoever passed it on; not that there was one.
    assert!(!answer.err.contains("answered so"), "{}", answer.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_grown_changed_and_shrunk_while_its_routers_follow() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;

    let status = fleet.settled(3).await;
    assert_eq!((&status["voters"], &status["failure_tolerance"]), (&json!([1, 2, 3]), &json!(1)));
    for member in status["members"].as_array().unwrap() {
        assert!(member["name"].as_str().unwrap().starts_with("controller-"), "{member}");
        assert_eq!(member["leader"], json!(member["id"] == status["leader"]));
        assert_eq!(member["version"], json!(env!("CARGO_PKG_VERSION")));
    }
    let members = fleet.cli(&["cluster", "members"]).await;
    assert!(members.out.contains(&format!("http://127.0.0.1:{}", fleet.controllers[0].0.peer)), "{}", members.out);

    // A fourth joins through a follower, is promoted, changes its address.
    let leader = fleet.leader().await;
    let follower = (leader + 1) % 3;
    let peer = fleet.newcomer().await;
    let added = fleet.cli_at(follower, &["cluster", "add", "--peer", &peer, "--wait", "-o", "json"]).await;
    done(&added);
    assert_eq!(added.json()["member"], 4);
    for through in [leader, follower] {
        refused(&fleet.cli_at(through, &["cluster", "add", "--peer", &peer]).await, "controller 4");
        let nobody = fleet.cli_at(through, &["cluster", "add", "--peer", "http://127.0.0.1:1"]).await;
        refused(&nobody, "does not answer");
        assert!(nobody.err.contains("join = true"), "{}", nobody.err);
    }
    done(&fleet.cli(&["cluster", "promote", "4", "--wait"]).await);
    assert_eq!(fleet.settled(4).await["voters"], json!([1, 2, 3, 4]));
    fleet.routers_are_current().await;
    let moved = format!("http://localhost:{}", fleet.controllers[3].0.router);
    done(&fleet.cli(&["cluster", "readdress", "4", "--router", &moved]).await);
    assert_eq!(member(&fleet.status().await, 4)["router"], json!([moved]));
    fleet.routers_are_current().await;

    // Leadership is handed over; a controller steps down to a learner, and is removed.
    let to = (1..=4).find(|id| *id != leader + 1).unwrap();
    let transfer = fleet.cli(&["cluster", "transfer", "--to", &to.to_string(), "-o", "json"]).await;
    done(&transfer);
    assert_eq!(transfer.json()["leader"], json!(to));
    fleet.settled(4).await;
    let gone = leader + 1;
    done(&fleet.cli(&["cluster", "demote", &gone.to_string()]).await);
    assert_eq!(member(&fleet.status().await, gone)["role"], "learner");
    done(&fleet.cli(&["cluster", "remove", &gone.to_string()]).await);
    // It is asked no more: what it knows of the cluster ends with its removal.
    fleet.controllers[leader].1.kill().await;
    let status = fleet.settled(3).await;
    assert!(status["members"].as_array().unwrap().iter().all(|member| member["id"] != json!(gone)), "{status}");
    fleet.routers_are_current().await;

    refused(&fleet.cli(&["cluster", "promote", "99"]).await, "99");
    refused(&fleet.cli(&["cluster", "promote", &to.to_string()]).await, "already");
    refused(&fleet.cli(&["cluster", "transfer", "--to", &gone.to_string()]).await, &gone.to_string());
}

fn member(status: &Value, id: usize) -> Value {
    let members = status["members"].as_array().unwrap();
    members.iter().find(|member| member["id"] == json!(id)).cloned().unwrap_or_else(|| panic!("no {id} in {status}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_are_listed_shown_and_forgotten() {
    let mut fleet = Fleet::found(1).await;
    fleet.router("edge-1");
    fleet.router("edge-2");
    fleet.routers_are_current().await;

    let shown = fleet.cli(&["routers", "show", "edge-1", "-o", "json"]).await.json();
    assert_eq!((&shown["protocol"], &shown["labels"]["zone"]), (&json!(2), &json!("north")));
    let table = fleet.cli(&["routers", "list"]).await;
    assert!(table.out.contains("edge-1") && table.out.contains("edge-2"), "{}", table.out);

    let held = tokio::process::Command::new(env!("CARGO_BIN_EXE_pilothouse"))
        .args(["router", "list", "-o", "json", "--config"])
        .arg(&fleet.routers[0].1.config)
        .output()
        .await
        .unwrap();
    let held: Value = serde_json::from_slice(&held.stdout).unwrap();
    assert_eq!(held["lists"][0]["state"], "valid", "{held}");

    let (_, mut gone) = fleet.routers.pop().unwrap();
    gone.kill().await;
    done(&fleet.cli(&["routers", "forget", "edge-2"]).await);
    eventually("it is not shown any more", SOON, || async {
        let list = fleet.cli(&["routers", "list"]).await;
        expect(!list.out.contains("edge-2"), || list.out)
    })
    .await;
    refused(&fleet.cli(&["routers", "forget", "edge-2"]).await, "edge-2");
}
