//! A router that is refused: it keeps its list and goes on trying, no more often than it is told.

use std::time::Duration;

use pilothouse::proto::router::Goodbye;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::rpc::status::{refusal, refusal_for_now};
use tonic::Code;

use super::scripted::{CLUSTER, Controller, Manner, offer};
use super::{agent, becomes, holds, open};

#[tokio::test]
async fn a_router_that_registers_too_often_waits_as_long_as_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let controller = Controller::start(1, Manner::Proper).await;
    let told = Duration::from_millis(700);
    controller.refuses_a_registration(refusal_for_now("too_fast", "too often", 700));
    let router = agent(directory.path(), &[&controller.endpoint], 1).await;
    becomes(&router, "registered all the same", |status| status.registered).await;
    let at = controller.registered_at();
    assert_eq!(at.len(), 2);
    assert!(at[1] - at[0] >= told, "{:?}", at[1] - at[0]);
    router.stop().await;
}

#[tokio::test]
async fn a_banned_router_keeps_its_list_and_its_other_sessions_and_goes_on_trying() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (Controller::start(1, Manner::Proper).await, Controller::start(2, Manner::Proper).await);
    let list = offer(1, CLUSTER, 5, &[(1, &one.endpoint), (2, &two.endpoint)]);
    one.offers(list.clone()).await;
    two.offers(list).await;
    for _ in 0..3 {
        one.refuses_a_registration(refusal(Code::PermissionDenied, "banned", "this router is banned", "ask"));
    }
    let router = agent(directory.path(), &[&one.endpoint, &two.endpoint], 2).await;
    becomes(&router, "on both", |status| open(status).len() == 2 && holds(status, "1.5")).await;

    let dials = one.dials();
    let goodbye = Goodbye { reason: "banned".into(), hint: "ask".into(), retry_after_ms: 50 };
    one.says_once(Kind::Goodbye(goodbye)).await;
    one.closes();
    becomes(&router, "on the other one, and back on the first", |status| {
        open(status).len() == 2 && one.dials() > dials && holds(status, "1.5") && status.registered
    })
    .await;
    router.stop().await;
}

#[tokio::test]
async fn a_router_that_one_controller_has_nothing_in_common_with_keeps_its_list_and_its_other_session() {
    let directory = tempfile::tempdir().unwrap();
    let (one, foreign) = (Controller::start(1, Manner::Proper).await, Controller::start(2, Manner::Foreign).await);
    one.offers(offer(1, CLUSTER, 5, &[(1, &one.endpoint), (2, &foreign.endpoint)])).await;
    let router = agent(directory.path(), &[&foreign.endpoint, &one.endpoint], 2).await;
    becomes(&router, "on the other one, and refused again and again", |status| {
        foreign.dials() > 3 && open(status) == [1] && holds(status, "1.5") && status.registered
    })
    .await;
    one.offers(offer(2, CLUSTER, 6, &[(1, &one.endpoint)])).await;
    becomes(&router, "it follows the list all the same", |status| holds(status, "1.6") && open(status) == [1]).await;
    router.stop().await;
}
