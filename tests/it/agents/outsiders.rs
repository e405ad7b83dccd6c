//! Controllers that the held list does not name, or says are retired: what they may do, and when they are left.

use pilothouse::ops::events::Event;
use pilothouse::router::{Agent, Parts, Timing};

use super::scripted::{CLUSTER, Controller, Manner, offer, offer_that_retires};
use super::{TIMING, agent, becomes, config, holds, open, parts};
use crate::support::SOON;

#[tokio::test]
async fn while_a_member_answers_or_is_being_dialed_an_outsiders_list_is_refused() {
    for member in [Manner::Proper, Manner::Mute] {
        let dir = tempfile::tempdir().unwrap();
        let inside = Controller::start(1, member).await;
        let outside = Controller::start(9, Manner::Proper).await;
        outside.offers(offer(1, CLUSTER, 5, &[(1, &inside.endpoint)])).await;
        let before = agent(dir.path(), &[&outside.endpoint], 1).await;
        becomes(&before, "it holds the first list ever", |status| holds(status, "1.5")).await;
        before.stop().await;

        // A mute member is waited for during the whole test: it may answer yet.
        let parts = Parts { timing: Timing { welcome: SOON * 2, ..TIMING }, ..parts() };
        let agent = Agent::start(config(dir.path(), &[&outside.endpoint], 2), parts).await.unwrap();
        becomes(&agent, "one session is on the outsider, the other on its way or there", |status| {
            open(status).contains(&9) && status.sessions.len() == 2
        })
        .await;
        outside.offers(offer(2, CLUSTER, 8, &[(9, &outside.endpoint)])).await;
        assert_eq!(outside.hears_nack(2).await.reason, "outsider", "{member:?}");
        assert!(holds(&agent.status().borrow(), "1.5"), "{member:?}");
    }
}

#[tokio::test]
async fn an_outsider_is_left_for_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Controller::start(1, Manner::Proper).await;
    let outside = Controller::start(9, Manner::Proper).await;
    outside.offers(offer(1, CLUSTER, 5, &[(1, &inside.endpoint)])).await;
    let agent = agent(dir.path(), &[&outside.endpoint], 1).await;
    becomes(&agent, "it is on the member", |status| holds(status, "1.5") && open(status) == [1]).await;
}

#[tokio::test]
async fn a_controller_that_the_next_list_retires_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let [removed, stays] = [Controller::start(1, Manner::Proper).await, Controller::start(2, Manner::Proper).await];
    let both = offer(1, CLUSTER, 5, &[(1, &removed.endpoint), (2, &stays.endpoint)]);
    stays.offers(both).await;
    let agent = agent(dir.path(), &[&stays.endpoint], 2).await;
    becomes(&agent, "it is on both", |status| holds(status, "1.5") && open(status).len() == 2).await;
    stays.offers(offer_that_retires(2, CLUSTER, 6, &[(2, &stays.endpoint)], &[1])).await;
    becomes(&agent, "it left the removed one", |status| holds(status, "1.6") && open(status) == [2]).await;
}

#[tokio::test]
async fn a_retired_controller_behind_a_seed_is_not_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let retired = Controller::start(1, Manner::Proper).await;
    let member = Controller::start(2, Manner::Proper).await;
    member.offers(offer_that_retires(1, CLUSTER, 5, &[(2, &member.endpoint)], &[1])).await;
    let before = agent(dir.path(), &[&member.endpoint], 1).await;
    becomes(&before, "it holds the list", |status| holds(status, "1.5")).await;
    before.stop().await;
    drop(member);

    let agent = agent(dir.path(), &[&retired.endpoint], 1).await;
    becomes(&agent, "it tried the seed several times", |_| retired.dials() >= 3).await;
    let events = agent.events().kept();
    let on_it = |event: &Event| matches!(event, Event::FellBack { .. } | Event::RunningOnSeeds { .. });
    assert!(!events.iter().any(|one| on_it(&one.event)), "it has no session: {events:?}");
    assert_eq!(retired.registrations(), 0);
}
