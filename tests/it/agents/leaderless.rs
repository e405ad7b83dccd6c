//! Controllers that are out of contact with a leader: left for one that is not, and not left for another such.

use std::sync::Arc;
use std::time::Duration;

use pilothouse::domain::retry::Backoff;
use pilothouse::proto::router::router_message::Kind as FromRouter;
use pilothouse::router::{Agent, Parts, Timing};

use super::moving::pair;
use super::{TIMING, agent, becomes, config, holds, open, parts};
use crate::support::{SOON, eventually, expect};

/// Heartbeats that both controllers answer together before dials are counted: about a second.
const BEATS: usize = 25;
/// Most sessions that are begun meanwhile: the first one, and what two rounds of a search with growing pauses begin.
const DIALS_MAX: usize = 6;

#[tokio::test]
async fn a_controller_without_contact_to_a_leader_is_left_for_one_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = pair().await;
    let agent = agent(dir.path(), &[&first.endpoint], 1).await;
    becomes(&agent, "it is on the seed", |status| open(status) == [1] && holds(status, "1.5")).await;
    first.loses_its_leader(0);
    becomes(&agent, "it is on the other one", |status| open(status) == [2]).await;
    second.hears("heartbeats", |heard| matches!(heard, FromRouter::Heartbeat(_)).then_some(())).await;
}

#[tokio::test]
async fn when_all_have_lost_the_leader_a_router_does_not_hop_between_them() {
    // Whether they admit it in their welcome, or name the leader that they had.
    for hint in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let both = pair().await;
        both.iter().for_each(|controller| controller.loses_its_leader(hint));
        let improve = Backoff { base: Duration::from_millis(400), cap: Duration::from_secs(30) };
        let timing = Timing { improve, ..TIMING };
        // The longest pause that may be drawn, so that the count does not depend on luck.
        let parts = Parts { timing, random: Arc::new(|| u32::MAX), ..parts() };
        let agent = Agent::start(config(dir.path(), &[&both[0].endpoint], 1), parts).await.unwrap();
        let beats =
            || both.iter().map(|one| one.count(|heard| matches!(heard, FromRouter::Heartbeat(_)))).sum::<usize>();
        eventually("it is served for a while", SOON, || async { expect(beats() >= BEATS, || beats().to_string()) })
            .await;
        let dials: usize = both.iter().map(|controller| controller.dials()).sum();
        assert!((2..=DIALS_MAX).contains(&dials), "hint {hint}: {dials} sessions were begun");
        // It may be trying another one at this moment, whose session it then leaves.
        becomes(&agent, "one is held", |status| open(status).len() == 1).await;
    }
}
