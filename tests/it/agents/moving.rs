//! Sessions come and go: two at a time on different controllers, make before break, fallbacks.

use std::time::{Duration, Instant};

use pilothouse::domain::retry::Backoff;
use pilothouse::ops::events::Event;
use pilothouse::proto::router::Goodbye;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::router::config::{OutputFile, RouterConfig, RouterFile};
use pilothouse::router::{Agent, Parts, Timing};

use super::scripted::{CLUSTER, Controller, Manner, offer};
use super::{TIMING, agent, becomes, config, holds, open, parts};
use crate::support::{SOON, eventually, expect};

/// Two controllers that offer the list of both.
pub(super) async fn pair() -> [Controller; 2] {
    let pair = [Controller::start(1, Manner::Proper).await, Controller::start(2, Manner::Proper).await];
    let list = offer(1, CLUSTER, 5, &[(1, &pair[0].endpoint), (2, &pair[1].endpoint)]);
    for controller in &pair {
        controller.offers(list.clone()).await;
    }
    pair
}

#[tokio::test]
async fn two_sessions_are_on_different_controllers_even_from_a_single_seed() {
    let dir = tempfile::tempdir().unwrap();
    let [first, _second] = pair().await;
    let agent = agent(dir.path(), &[&first.endpoint], 2).await;
    becomes(&agent, "it is on both", |status| {
        let mut open = open(status);
        open.sort_unstable();
        open == [1, 2]
    })
    .await;
}

#[tokio::test]
async fn a_controller_that_drains_is_left_after_the_next_session_stands() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = pair().await;
    let agent = agent(dir.path(), &[&first.endpoint], 1).await;
    becomes(&agent, "it is on the seed", |status| open(status) == [1] && holds(status, "1.5")).await;
    let mut status = agent.status();
    let goodbye = Goodbye { reason: "draining".into(), ..Goodbye::default() };
    first.says_once(Kind::Goodbye(goodbye)).await;
    first.closes();
    let moved = tokio::time::timeout(SOON, async {
        loop {
            status.changed().await.unwrap();
            let open = open(&status.borrow_and_update());
            assert!(!open.is_empty(), "there was a moment without a session");
            if open == [2] {
                return;
            }
        }
    });
    moved.await.unwrap();
    second.hears("heartbeats", |heard| matches!(heard, FromRouter::Heartbeat(_)).then_some(())).await;
}

#[tokio::test]
async fn the_only_controller_is_taken_again_after_it_drained_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let only = Controller::start(1, Manner::Proper).await;
    only.offers(offer(1, CLUSTER, 5, &[(1, &only.endpoint)])).await;
    let agent = agent(dir.path(), &[&only.endpoint], 1).await;
    becomes(&agent, "it is there", |status| open(status) == [1] && holds(status, "1.5")).await;
    only.says_once(Kind::Goodbye(Goodbye { reason: "draining".into(), ..Goodbye::default() })).await;
    only.closes();
    becomes(&agent, "it is there again", |status| open(status) == [1] && only.dials() > 1).await;
}

#[tokio::test]
async fn a_router_whose_session_another_one_took_stays_away_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    controller.offers(offer(1, CLUSTER, 5, &[(1, &controller.endpoint)])).await;
    // A quarter of it is the least; two orders of magnitude more than that of an ordinary retry.
    let superseded = Backoff { base: Duration::from_secs(4), cap: Duration::from_secs(8) };
    let parts = Parts { timing: Timing { superseded, ..TIMING }, ..parts() };
    let agent = Agent::start(config(dir.path(), &[&controller.endpoint], 1), parts).await.unwrap();
    becomes(&agent, "it holds the list", |status| open(status) == [1] && holds(status, "1.5")).await;
    let said = Instant::now();
    controller.says_once(Kind::Goodbye(Goodbye { reason: "superseded".into(), ..Goodbye::default() })).await;
    becomes(&agent, "it comes back", |_| controller.dials() > 1).await;
    assert!(said.elapsed() >= superseded.base / 4, "after {:?}", said.elapsed());
    let events = agent.events().kept();
    assert!(events.iter().any(|one| matches!(one.event, Event::SessionSuperseded { .. })), "{events:?}");
}

#[tokio::test]
async fn a_router_whose_list_is_dead_falls_back_to_a_live_seed_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = pair().await;
    let before = agent(dir.path(), &[&first.endpoint], 1).await;
    becomes(&before, "it holds the list", |status| holds(status, "1.5")).await;
    before.stop().await;
    drop((first, second));

    let newcomer = Controller::start(9, Manner::Proper).await;
    newcomer.offers(offer(1, CLUSTER, 8, &[(9, &newcomer.endpoint)])).await;
    let agent = agent(dir.path(), &[&newcomer.endpoint], 1).await;
    assert!(holds(&agent.status().borrow(), "1.5"), "the saved list is in use from the first moment");
    becomes(&agent, "it adopts the newer list", |status| holds(status, "1.8") && open(status) == [9]).await;
    let events = agent.events().kept();
    assert!(events.iter().any(|one| matches!(&one.event, Event::RunningOnSeeds { first: false, .. })), "{events:?}");
}

#[tokio::test]
async fn a_router_that_reaches_nobody_says_so_after_its_time_until_somebody_answers() {
    let dir = tempfile::tempdir().unwrap();
    // Somebody listens there, and nobody answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seed = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let after = Duration::from_millis(300);
    let config = RouterConfig { no_controller_after: after, ..config(dir.path(), &[&seed], 1) };
    let agent = Agent::start(config, parts()).await.unwrap();
    let alone = || agent.events().lasting().iter().any(|one| one.event.code() == "no_controller_reachable");
    eventually("it says that it is alone", SOON, || async {
        expect(alone(), || format!("{:?}", agent.events().kept()))
    })
    .await;

    let controller = Controller::start_at(listener, 1, Manner::Proper);
    controller.offers(offer(1, CLUSTER, 5, &[(1, &controller.endpoint)])).await;
    becomes(&agent, "it holds the list", |status| holds(status, "1.5") && open(status) == [1]).await;
    eventually("it is over", SOON, || async { expect(!alone(), || format!("{:?}", agent.events().kept())) }).await;
}

#[tokio::test]
async fn outputs_follow_the_list_and_a_failed_one_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    controller.offers(offer(1, CLUSTER, 5, &[(1, &controller.endpoint)])).await;
    let (json_file, seen) = (dir.path().join("out/controllers.json"), dir.path().join("seen"));
    let file = RouterFile {
        id: Some("edge-1".into()),
        data_dir: Some(dir.path().join("data")),
        seeds: vec![controller.endpoint.to_string()],
        sessions: Some(1),
        tls: pilothouse::tls::TlsFile::plain(),
        output: OutputFile {
            json_file: Some(json_file.clone()),
            on_change: Some(format!("echo $CONTROLLER_LIST_VERSION >> {}", seen.display())),
        },
        ..RouterFile::default()
    };
    let agent = Agent::start(file.validate().unwrap(), parts()).await.unwrap();
    becomes(&agent, "it holds the list", |status| holds(status, "1.5")).await;
    assert!(!json_file.exists(), "its directory is not there yet");
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let written = async |version: &str| {
        eventually("the outputs follow", SOON, || async {
            let json = std::fs::read_to_string(&json_file).map_err(|error| error.to_string())?;
            let commands = std::fs::read_to_string(&seen).map_err(|error| error.to_string())?;
            let json: serde_json::Value = serde_json::from_str(&json).expect("never a part of a file");
            expect(json["version"] == version && commands.lines().last() == Some(version), || {
                format!("{json} {commands}")
            })
        })
        .await;
    };
    written("1.5").await;
    controller.offers(offer(2, CLUSTER, 6, &[(1, &controller.endpoint)])).await;
    written("1.6").await;
}
