//! Changes of membership that a leader does not live to finish, and members that moved.

use std::collections::BTreeSet;

use pilothouse::domain::controller_list::ListState;
use pilothouse::domain::ids::ControllerId;
use pilothouse::domain::membership::Step;
use pilothouse::raft::ChangeError;

use super::nodes::{Nodes, registrations};
use crate::support::{SOON, eventually, expect};

fn ids(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<ControllerId> {
    numbers.into_iter().map(|number| ControllerId::new(number).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joint_change_that_a_leader_left_behind_is_finished_by_the_next_one() {
    let mut nodes = Nodes::found(3).await;
    let newcomer = nodes.newcomer().await;
    nodes.add(newcomer, 4).await;
    let leader = nodes.leader().await;
    let followers: Vec<_> = (0..3).filter(|place| *place != leader).collect();
    let (heir, late) = (followers[0], followers[1]);

    // The joint entry reaches one follower: a majority of the old voters, none of the new ones. It is not committed.
    nodes.cut(late);
    nodes.cut(newcomer);
    let (node, last) = (nodes.seats[leader].node().clone(), nodes.seats[leader].applied_membership().unwrap());
    let log = nodes.seats[leader].status().last_log;
    let change = tokio::spawn(async move { node.carry_out(&Step::SetVoters(ids(1..=4)), last).await });
    eventually("the heir has the joint entry", SOON, async || {
        let heir = nodes.seats[heir].status();
        expect(heir.last_log > log, || format!("{heir:?}"))
    })
    .await;
    nodes.cut(leader);
    nodes.heal(late);
    nodes.heal(newcomer);

    let next = nodes.leader_but(&[leader]).await;
    assert_eq!(next, heir, "nobody else has the entry");
    for place in [heir, late, newcomer] {
        eventually("the change is finished", SOON, async || {
            let membership = nodes.seats[place].node().read(|state| state.membership.clone()).unwrap().membership;
            expect(membership.voter_sets() == [ids(1..=4)], || format!("{membership:?}"))
        })
        .await;
        let lists = nodes.seats[place].node().lists();
        let list = lists.borrow().clone();
        assert!(matches!(&*list, ListState::Known(list) if list.controllers().len() == 4), "{list:?}");
    }
    assert!(change.await.unwrap().is_err(), "the leader that was cut off cannot know");
    nodes.heal(leader);
    nodes.caught_up(leader, next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_upon_a_membership_that_has_changed_is_refused() {
    let mut nodes = Nodes::found(3).await;
    let newcomer = nodes.newcomer().await;
    let leader = nodes.leader().await;
    let planned_upon = nodes.seats[leader].applied_membership().unwrap();
    nodes.add(newcomer, 4).await;
    let late = Step::RemoveLearner(ControllerId::new(4).unwrap());
    assert_eq!(nodes.seats[leader].node().carry_out(&late, planned_upon).await, Err(ChangeError::Stale));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moved_is_found_at_its_new_address() {
    let nodes = Nodes::found(3).await;
    let (leader, moves) = (nodes.leader().await, nodes.followers().await[0]);
    let id = nodes.seats[moves].id();
    let mut member = nodes.seats[leader].node().read(|state| {
        let membership = &state.membership.as_ref().unwrap().membership;
        membership.member(id).unwrap().clone()
    });
    // The same node under another name for the same host: a connection to it can only come from the new record.
    let port = nodes.seats[moves].port();
    member.peer = vec![format!("http://localhost:{port}").parse().unwrap()];
    nodes.step(&Step::ReplaceMember(member)).await;
    nodes.caught_up(moves, leader).await;
    nodes.cut(moves);
    nodes.network.forget_dials();
    nodes.heal(moves);
    nodes.seats[leader].node().propose(registrations("edge", 1, 0)).await.unwrap();
    nodes.caught_up(moves, leader).await;
    let hosts = nodes.network.hosts(nodes.seats[leader].port(), port);
    assert!(hosts.iter().any(|host| host == "localhost") && !hosts.iter().any(|host| host == "127.0.0.1"), "{hosts:?}");
}
