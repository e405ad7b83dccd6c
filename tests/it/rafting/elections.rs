//! Pre-vote and leader transfer are real: openraft's defaults for both are silent and do nothing.

use std::time::{Duration, Instant};

use pilothouse::domain::ids::ControllerId;
use pilothouse::raft::settings::{ELECTION_MS_MAX, ELECTION_MS_MIN};
use pilothouse::raft::{ChangeError, ProposeError, RaftRole};

use super::nodes::{Nodes, registrations};
use crate::support::{SOON, eventually, expect};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_raises_no_term_and_deposes_nobody() {
    let nodes = Nodes::found(3).await;
    let (leader, away) = (nodes.leader().await, nodes.followers().await[0]);
    let (leads, follows) = (&nodes.seats[leader], &nodes.seats[away]);
    let before = leads.status().term;
    let asks = || nodes.network.dials(follows.port(), leads.port());
    nodes.cut(away);
    let asked = asks();
    // It stands for election again and again, and nobody hears it.
    eventually("it asks for votes", SOON, async || expect(asks() >= asked + 5, || asks().to_string())).await;
    assert_eq!(follows.status().term, before, "it stood for election without a majority that would have had it");

    nodes.heal(away);
    leads.node().propose(registrations("edge", 1, 0)).await.unwrap();
    nodes.caught_up(away, leader).await;
    assert!(leads.status().leads());
    assert_eq!((leads.status().term, follows.status().term), (before, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_at_once_and_without_waiting_for_a_lease() {
    let nodes = Nodes::found(3).await;
    let (from, to) = (nodes.leader().await, nodes.followers().await[1]);
    let term = nodes.seats[from].status().term;
    let successor = nodes.seats[to].id();
    eventually("the successor has answered the leader", SOON, async || {
        let status = nodes.seats[from].status();
        let fit = status.live(Duration::from_millis(ELECTION_MS_MAX)).any(|id| id == successor);
        expect(fit && status.lag_entries(successor).is_some(), || format!("{status:?}"))
    })
    .await;
    let began = Instant::now();
    nodes.seats[from].node().hand_over(successor).await.unwrap();
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(ELECTION_MS_MIN),
        "an election without a transfer takes at least {ELECTION_MS_MAX} ms: {took:?}"
    );
    nodes.seats[to].becomes(RaftRole::Leader).await;
    assert_eq!(nodes.seats[to].status().term, term + 1);
}

/// A leader of this moment has nobody's answer yet: it waits for the first, and writes.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_just_begun_to_lead_writes() {
    let nodes = Nodes::found(3).await;
    let (mut from, mut to) = (nodes.leader().await, nodes.followers().await[1]);
    for round in 0..10 {
        let successor = nodes.seats[to].node();
        nodes.caught_up(to, from).await;
        let writing = async {
            successor.status().wait_for(pilothouse::raft::Status::leads).await.unwrap();
            successor.propose(registrations(&format!("edge-{round}"), 1, 0)).await
        };
        let hand_over = async || nodes.seats[from].node().hand_over(nodes.seats[to].id()).await;
        let (written, _) = tokio::join!(writing, eventually("leadership moves", SOON, hand_over));
        written.unwrap();
        (from, to) = (to, from);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_to_nobody_who_is_dead_unknown_or_a_learner() {
    let mut nodes = Nodes::found(3).await;
    let newcomer = nodes.newcomer().await;
    nodes.add(newcomer, 4).await;
    let (leader, dead) = (nodes.leader().await, nodes.followers().await[0]);
    nodes.cut(dead);
    let node = nodes.seats[leader].node();
    let dead = nodes.seats[dead].id();
    eventually("its silence is noticed", SOON, async || {
        let live = node.status().borrow().live(Duration::from_millis(ELECTION_MS_MAX)).any(|id| id == dead);
        expect(!live, || "it seems alive".to_owned())
    })
    .await;
    for unfit in [dead, ControllerId::new(4).unwrap(), ControllerId::new(9).unwrap()] {
        let refused = node.hand_over(unfit).await.unwrap_err();
        assert!(matches!(refused, ChangeError::UnfitSuccessor { .. }), "{refused}");
    }
    // Writes went on all the time.
    node.propose(registrations("edge", 1, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_reads_and_writes_nothing() {
    let nodes = Nodes::found(3).await;
    let leader = nodes.leader().await;
    let node = nodes.seats[leader].node();
    node.read_barrier(SOON).await.unwrap();
    nodes.cut(leader);
    let read = node.read_barrier(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(read, ProposeError::NoQuorum | ProposeError::Deadline { .. } | ProposeError::NotLeader { .. }));
    // What another one wrote meanwhile is read after a barrier, whoever is asked.
    let next = nodes.leader_but(&[leader]).await;
    let write = async || nodes.seats[next].node().propose(registrations("edge", 1, 0)).await;
    eventually("the next leader writes", SOON, write).await;
    nodes.heal(leader);
    nodes.seats[leader].becomes(RaftRole::Follower).await;
    nodes.caught_up(leader, next).await;
    let refused = node.read_barrier(SOON).await.unwrap_err();
    assert_eq!(refused, ProposeError::NotLeader { leader: Some(nodes.seats[next].id()) });
    nodes.seats[next].node().read_barrier(SOON).await.unwrap();
    assert_eq!(nodes.seats[next].node().read(|state| state.routers.len()), 1);
}
