//! The next certificate: what is taken for one, and when it takes the place of the present one.

use std::path::Path;

use rcgen::KeyPair;

use super::authority::{Trust, Wanted, issue, issue_for, wanted};
use crate::domain::principal::RoleKind;
use crate::tls::Store;
use crate::tls::succession::SuccessionError;

const ROUTER: &str = "spiffe://example.org/router/edge-7";

fn until(days: i64) -> Wanted {
    Wanted { until_days: days, ..wanted(ROUTER) }
}

/// A store with a certificate of ten days, and its key.
fn present(trust: &Trust) -> (Store, KeyPair) {
    let first = issue(&until(10), &trust.routers);
    let store = Store::open(trust.files("a", RoleKind::Router, &first.pem, &first.key)).unwrap();
    (store, KeyPair::from_pem(&first.key).unwrap())
}

fn names(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn the_next_one_is_for_the_present_identity_and_key_and_lasts_longer() {
    let trust = Trust::new();
    let (store, key) = present(&trust);
    let request = store.request().unwrap();
    let before = names(trust.folder.path());
    let refused = |chain: &str| store.successor(chain, &request).unwrap_err();

    let other = Wanted { uris: vec!["spiffe://example.org/router/edge-8".into()], ..until(20) };
    assert!(matches!(refused(&issue_for(&other, &key, &trust.routers)), SuccessionError::NotGranted(_)));
    assert!(matches!(refused(&issue(&until(20), &trust.routers).pem), SuccessionError::NotGranted(_)));
    assert!(matches!(refused(&issue_for(&until(9), &key, &trust.routers)), SuccessionError::NoLonger));
    assert!(matches!(refused("garbage"), SuccessionError::NotGranted(_)));
    assert_eq!(names(trust.folder.path()), before, "nothing of what was refused stays");

    let next = issue_for(&until(20), &key, &trust.routers);
    let read = || std::fs::read_to_string(trust.path("a.pem")).unwrap();
    drop(store.successor(&next, &request).unwrap());
    assert!((read() != next) && (names(trust.folder.path()) == before), "one that was only tried leaves nothing");
    store.successor(&next, &request).unwrap().replace().unwrap();
    assert!((read() == next) && (names(trust.folder.path()) == before));
}

#[test]
fn a_key_that_was_replaced_meanwhile_keeps_its_own_certificate() {
    let trust = Trust::new();
    let (store, key) = present(&trust);
    let request = store.request().unwrap();
    let successor = store.successor(&issue_for(&until(20), &key, &trust.routers), &request).unwrap();
    let by_hand = issue(&until(15), &trust.routers);
    trust.write("a-key.pem", &by_hand.key);
    trust.write("a.pem", &by_hand.pem);
    assert!(matches!(successor.replace().unwrap_err(), SuccessionError::Unusable(_)));
    assert_eq!(std::fs::read_to_string(trust.path("a.pem")).unwrap(), by_hand.pem);
}
