//! Files that change while they are in use.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::authority::{Trust, issue, wanted};
use crate::domain::principal::RoleKind;
use crate::tls::{Reload, Store};

const ROUTER: &str = "spiffe://example.org/router/edge-7";

/// What is told next, leaving out that nothing changed.
async fn next(told: &mut mpsc::Receiver<Reload>) -> Reload {
    let next = async {
        loop {
            match told.recv().await.unwrap() {
                Reload::Unchanged(_) => {}
                other => return other,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.expect("something is told")
}

#[tokio::test]
async fn what_changes_between_the_first_read_and_the_first_look_is_seen() {
    let trust = Trust::new();
    let first = issue(&wanted(ROUTER), &trust.routers);
    let store = Store::open(trust.files("a", RoleKind::Router, &first.pem, &first.key)).unwrap();
    let second = issue(&wanted(ROUTER), &trust.routers);
    trust.write("a-key.pem", &second.key);
    trust.write("a.pem", &second.pem);
    let (tell, mut told) = mpsc::channel(64);
    let following = store.follow(CancellationToken::new(), move |reload| drop(tell.try_send(reload)));
    tokio::select! {
        () = following => {}
        reload = next(&mut told) => assert!(matches!(reload, Reload::Done(_))),
    }
}

#[tokio::test]
async fn a_start_in_the_middle_of_a_replacement_waits_for_its_end() {
    let trust = Trust::new();
    let (first, second) = (issue(&wanted(ROUTER), &trust.routers), issue(&wanted(ROUTER), &trust.routers));
    let files = trust.files("a", RoleKind::Router, &first.pem, &second.key);
    let mut opening = Box::pin(Store::open_patiently(files));
    assert!(futures::poll!(&mut opening).is_pending(), "key and certificate are not of one piece yet");
    trust.write("a.pem", &second.pem);
    opening.await.unwrap();
}

#[tokio::test]
async fn what_changes_is_used_and_what_is_broken_is_told_and_not_used() {
    let trust = Trust::new();
    let first = issue(&wanted(ROUTER), &trust.routers);
    let store = Store::open(trust.files("a", RoleKind::Router, &first.pem, &first.key)).unwrap();
    let (tell, mut told) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let following = {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move { store.follow(stop, move |reload| drop(tell.try_send(reload))).await })
    };
    assert!(matches!(told.recv().await, Some(Reload::Unchanged(_))), "it has begun to look");

    let second = issue(&wanted(ROUTER), &trust.routers);
    trust.write("a-key.pem", &second.key);
    trust.write("a.pem", &second.pem);
    let Reload::Done(material) = next(&mut told).await else { panic!("it is used") };
    assert_eq!(material.chain().next(), store.current().chain().next());
    let used = store.current().chain().next().map(<[u8]>::to_vec);

    trust.write("a-key.pem", &first.key);
    let Reload::Failed(why) = next(&mut told).await else { panic!("it is told") };
    assert!(why.contains("a-key.pem is not the key of"), "{why}");
    assert_eq!(store.current().chain().next().map(<[u8]>::to_vec), used, "what was in use stays in use");

    trust.write("a.pem", &first.pem);
    assert!(matches!(next(&mut told).await, Reload::Done(_)));

    // Somebody else's certificate, valid in itself.
    let other = issue(&wanted("spiffe://example.org/router/edge-8"), &trust.routers);
    trust.write("a-key.pem", &other.key);
    trust.write("a.pem", &other.pem);
    let Reload::Failed(why) = next(&mut told).await else { panic!("it is not taken") };
    assert!(why.contains("edge-8's, and this process is spiffe://example.org/router/edge-7"), "{why}");
    stop.cancel();
    following.await.unwrap();
}
