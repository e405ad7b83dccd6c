//! What operators ask for, on whichever controller they ask.

use pilothouse::domain::ids::{ControllerId, RouterId};
use pilothouse::proto::admin::{AddMember, ListRoutersRequest, change_request::Change};
use pilothouse::rpc::client::{AdminClient, ClientError};
use pilothouse::tls::Security;

use super::cluster::{Cluster, endpoint, eventually};
use super::router::{Session, hello, register, registration};

fn reason(refused: &ClientError) -> &str {
    match refused {
        ClientError::Refused { reason, .. } => reason,
        other => panic!("not refused: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_controller_joins_votes_and_leaves_and_routers_see_each_change() {
    let mut cluster = Cluster::of(3).await;
    let follower = cluster.follower().await;
    let (mut session, _) = Session::welcomed(cluster.seats[follower].router, hello("edge-1", 1)).await;
    session.adopt_until(&[1, 2, 3]).await;

    let fourth = cluster.newcomer("controller-4").await;
    let peer = format!("http://{}", cluster.seats[fourth].peer);
    let added = cluster.change(follower, Change::Add(AddMember { peer })).await.unwrap();
    assert_eq!((added.done, added.member), (true, 4));
    session.adopt_until(&[1, 2, 3, 4]).await;
    cluster.serves(fourth).await;
    let promoted = cluster.change(follower, Change::Promote(4)).await.unwrap();
    assert_eq!((promoted.done, promoted.failure_tolerance), (true, 1));
    let (mut on_fourth, _) = Session::welcomed(cluster.seats[fourth].router, hello("edge-2", 1)).await;
    on_fourth.adopt().await;

    let removed = cluster.change(follower, Change::Remove(4)).await.unwrap();
    assert!(removed.done);
    session.adopt_until(&[1, 2, 3]).await;
    assert_eq!(on_fourth.goodbye().await.reason, "not_member");
    let refused = Session::open(cluster.seats[fourth].router, hello("edge-2", 1)).await.refused().await;
    assert_eq!(refused.reason, "not_member");
    let events = cluster.seats[fourth].running().events().kept();
    assert!(events.iter().any(|kept| kept.event.code() == "removed"));

    // Its id is never used again.
    let fifth = cluster.newcomer("controller-5").await;
    let peer = format!("http://{}", cluster.seats[fifth].peer);
    assert_eq!(cluster.change(follower, Change::Add(AddMember { peer })).await.unwrap().member, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_took_its_id_before_its_addition_failed_is_added_with_it() {
    let mut cluster = Cluster::of(1).await;
    let node = cluster.seats[0].running().backend().node().clone();
    let enlisted = async |cluster: &mut Cluster, name: &str, id: u64| {
        let seat = cluster.newcomer(name).await;
        let record = node.identify(&endpoint(cluster.seats[seat].peer), None).await.unwrap();
        node.enlist(&record.member(ControllerId::new(id).unwrap())).await.unwrap();
        AddMember { peer: format!("http://{}", cluster.seats[seat].peer) }
    };
    let seventh = enlisted(&mut cluster, "controller-7", 7).await;
    assert_eq!(cluster.change(0, Change::Add(seventh)).await.unwrap().member, 7);
    // An id that somebody else has meanwhile is not given twice.
    let again = enlisted(&mut cluster, "controller-8", 7).await;
    let refused = cluster.change(0, Change::Add(again)).await.unwrap_err();
    assert_eq!(reason(&refused), "not_addable");
    assert!(refused.to_string().contains("wipe"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_a_plan_come_through_any_controller_with_their_reason() {
    let mut cluster = Cluster::of(3).await;
    let blank = cluster.newcomer("controller-2").await;
    for through in 0..3 {
        let refused = |change| async { reason(&cluster.change(through, change).await.unwrap_err()).to_owned() };
        assert_eq!(refused(Change::Promote(1)).await, "already_voter");
        assert_eq!(refused(Change::Remove(9)).await, "not_a_member");
        assert_eq!(refused(Change::Remove(0)).await, "invalid");
        let peer = |address| Change::Add(AddMember { peer: format!("http://{address}") });
        assert_eq!(refused(peer(cluster.seats[blank].peer)).await, "name_taken");
        assert_eq!(refused(peer(cluster.seats[0].peer)).await, "already_member");
        assert_eq!(refused(peer(cluster.seats[0].router)).await, "not_addable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_can_be_removed_through_itself() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let id = cluster.seats[leader].id().unwrap();
    let removed = cluster.change(leader, Change::Remove(id.get())).await.unwrap();
    assert_eq!((removed.done, removed.member), (true, id.get()));
    let other = (0..3).find(|seat| *seat != leader).unwrap();
    let status = cluster.seats[other].admin_client().await.status().await.unwrap();
    assert_eq!(status.members.len(), 2);
    assert!(status.members.iter().all(|member| member.id != id.get()));
    assert_ne!(status.leader, id.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_the_same_from_every_controller_and_counts_who_is_down() {
    let mut cluster = Cluster::of(3).await;
    let (_session, _) = Session::welcomed(cluster.seats[1].router, hello("edge-1", 1)).await;
    for seat in &cluster.seats {
        let status = seat.admin_client().await.status().await.unwrap();
        assert_eq!((status.epoch, status.failure_tolerance, status.members.len()), (1, 1, 3));
        assert!(status.leader > 0 && status.list_index > 0 && status.cluster_id.len() == 16);
        assert!(status.members.iter().all(|m| m.state == "up" && m.role == "voter" && !m.software_version.is_empty()));
        assert_eq!(status.members.iter().map(|member| member.sessions).collect::<Vec<_>>(), [0, 1, 0]);
    }
    let follower = cluster.follower().await;
    let id = cluster.seats[follower].id().unwrap().get();
    cluster.stop(follower).await;
    let leader = cluster.leader().await;
    eventually("it is seen as down", async || {
        let status = cluster.seats[leader].admin_client().await.status().await.unwrap();
        let down = status.members.iter().find(|member| member.id == id).unwrap().state == "down";
        (down && status.failure_tolerance == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_whom_an_operator_names() {
    let cluster = Cluster::of(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let to = cluster.seats[follower].id();
    for through in [follower, leader] {
        let mut client = cluster.seats[through].admin_client().await;
        assert_eq!(client.transfer(to).await.unwrap(), to);
    }
    eventually("it leads", async || cluster.seats[follower].leads().then_some(())).await;
    let refused = cluster.seats[0].admin_client().await.transfer(ControllerId::new(9)).await.unwrap_err();
    assert_eq!(reason(&refused), "transfer_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_are_listed_in_pages_and_can_be_forgotten() {
    let cluster = Cluster::of(1).await;
    let seat = &cluster.seats[0];
    for n in 0..7 {
        register(seat.router, registration(&format!("edge-{n}"), 1, 1)).await.unwrap();
    }
    let (_live, _) = Session::welcomed(seat.router, hello("edge-31", 1)).await;
    let mut client = seat.admin_client().await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.list_routers(ListRoutersRequest { after, limit: 3, only: String::new() }).await.unwrap();
        assert!(page.routers.len() <= 3);
        seen.extend(page.routers.iter().map(|router| (router.id.clone(), router.registered)));
        after = seen.last().unwrap().0.clone();
        if !page.more {
            break;
        }
    }
    let expected = ["edge-0", "edge-1", "edge-2", "edge-3", "edge-31", "edge-4", "edge-5", "edge-6"];
    assert_eq!(seen, expected.map(|id| (id.to_owned(), id != "edge-31")));
    let edge = RouterId::new("edge-3").unwrap();
    assert!(client.forget(&edge).await.unwrap());
    assert!(!client.forget(&edge).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_tries_each_endpoint_and_names_those_that_do_not_answer() {
    let cluster = Cluster::of(1).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = endpoint(free);
    let mut client = AdminClient::connect(&[dead.clone(), endpoint(cluster.seats[0].admin)], None, Security::default())
        .await
        .unwrap();
    assert_eq!(client.status().await.unwrap().leader, 1);
    let unreachable = AdminClient::connect(std::slice::from_ref(&dead), None, Security::default()).await.unwrap_err();
    assert!(unreachable.to_string().contains(&dead.to_string()), "{unreachable}");
    assert!(matches!(AdminClient::connect(&[], None, Security::default()).await.unwrap_err(), ClientError::NoTarget));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_without_a_cluster_says_so_to_everybody() {
    let mut cluster = Cluster::of(0).await;
    let blank = cluster.newcomer("controller-1").await;
    let seat = &cluster.seats[blank];
    let refused = Session::open(seat.router, hello("edge-1", 1)).await.refused().await;
    assert_eq!(refused.reason, "not_member");
    let status = register(seat.router, registration("edge-1", 1, 1)).await.unwrap_err();
    assert_eq!(pilothouse::rpc::status::reason_of(&status), Some("not_member"));
    let refused = cluster.change(blank, Change::Promote(1)).await.unwrap_err();
    assert_eq!(reason(&refused), "not_member");
    let status = seat.admin_client().await.status().await.unwrap();
    assert_eq!((status.leader, status.cluster_id.len(), status.members.len()), (0, 0, 0));
}
