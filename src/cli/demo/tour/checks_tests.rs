//! Each check passes on what a step should bring about, and fails on the same with one effect taken away.

use super::*;
use crate::cli::demo::view::{HeldSelf, MemberView, Offers, RouterView, SessionSelf};

fn cluster() -> ClusterView {
    let member = |id: u64| {
        (
            id,
            MemberView {
                name: format!("controller-{id}"),
                voter: true,
                up: true,
                version: String::new(),
                lag_entries: 0,
            },
        )
    };
    let router = RouterView {
        registered: true,
        held: "1.7".to_owned(),
        controllers: [1, 2].into(),
        last_refusal: String::new(),
    };
    ClusterView {
        leader: Some(2),
        list: Some("1.7".to_owned()),
        tolerance: 1,
        members: (1..=3).map(member).collect(),
        joint: false,
        routers: [("router-1".to_owned(), router)].into(),
    }
}

fn router(version: &str, ids: impl IntoIterator<Item = u64>) -> RouterSelf {
    RouterSelf {
        source: "newest".to_owned(),
        held: Some(HeldSelf { version_text: version.to_owned(), controllers: ids.into_iter().collect() }),
        sessions: vec![SessionSelf { controller: Some(2), state: "active".to_owned() }],
        offers: Offers::default(),
    }
}

/// What is taken away, and how.
type Change<'a, T> = (&'a str, &'a dyn Fn(&mut T));

/// The check fails after each of these changes.
fn fails_without_each<T: Clone>(good: &T, check: impl Fn(&T) -> anyhow::Result<String>, changes: &[Change<'_, T>]) {
    check(good).unwrap();
    for (name, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(check(&bad).is_err(), "it held even though {name}");
    }
}

#[test]
fn a_cluster_has_formed() {
    fails_without_each(
        &cluster(),
        |view| formed(view, 3),
        &[
            ("nobody leads", &|view| view.leader = None),
            ("no list is committed", &|view| view.list = None),
            ("one is missing", &|view| drop(view.members.remove(&3))),
            ("one has no vote", &|view| view.members.get_mut(&3).unwrap().voter = false),
            ("one does not answer", &|view| view.members.get_mut(&3).unwrap().up = false),
            ("the change is half done", &|view| view.joint = true),
            ("none may fail", &|view| view.tolerance = 0),
        ],
    );
}

#[test]
fn routers_hold_the_committed_list() {
    let selves = BTreeMap::from([("router-1".to_owned(), router("1.7", 1..=3))]);
    fails_without_each(
        &(cluster(), selves),
        |(view, selves)| agreed(view, selves),
        &[
            ("there are none", &|(_, selves)| selves.clear()),
            ("it is not listed", &|(view, _)| view.routers.clear()),
            ("it is not registered", &|(view, _)| view.routers.get_mut("router-1").unwrap().registered = false),
            ("it has no session", &|(view, _)| view.routers.get_mut("router-1").unwrap().controllers.clear()),
            ("it acknowledged an older one", &|(view, _)| {
                view.routers.get_mut("router-1").unwrap().held = "1.6".into()
            }),
            ("it holds an older one", &|(_, selves)| drop(selves.insert("router-1".into(), router("1.6", 1..=3)))),
            ("it holds others", &|(_, selves)| drop(selves.insert("router-1".into(), router("1.7", 1..=2)))),
            ("it holds none", &|(_, selves)| selves.get_mut("router-1").unwrap().held = None),
        ],
    );
}

#[test]
fn writes_went_on_under_another_leader() {
    let limit = u64::try_from(WRITE_GAP_MAX.as_millis()).unwrap();
    fails_without_each(
        &(1_u64, cluster(), vec![10, 30, 1_800, 1_820], 1_840_u64),
        |(killed, view, acks, ended)| failed_over(*killed, view, acks, *ended),
        &[
            ("the killed one leads", &|(killed, ..)| *killed = 2),
            ("nobody leads", &|(_, view, ..)| view.leader = None),
            ("nothing was acknowledged", &|(_, _, acks, _)| acks.clear()),
            ("the gap was too long", &|(_, _, acks, ended)| {
                acks.push(1_821 + limit);
                *ended = 1_822 + limit;
            }),
            ("writes never came back", &|(_, _, _, ended)| *ended = 1_821 + limit),
        ],
    );
    assert_eq!(longest_gap(&[1_800, 10, 30], 1_840), Some(Duration::from_millis(1_770)));
}

#[test]
fn a_controller_was_added_and_one_was_removed() {
    let up = &|view: &mut ClusterView| view.members.get_mut(&3).unwrap().up = false;
    let learner = &|view: &mut ClusterView| view.members.get_mut(&3).unwrap().voter = false;
    let missing = &|view: &mut ClusterView| drop(view.members.remove(&3));
    let joint = &|view: &mut ClusterView| view.joint = true;
    fails_without_each(
        &cluster(),
        |view| member(view, 3, true),
        &[("it is down", up), ("it has no vote", learner), ("it is not there", missing), ("it is half done", joint)],
    );
    assert!(member(&cluster(), 3, false).is_err(), "a voter is no learner");
    fails_without_each(
        &cluster(),
        |view| removed(view, "controller-4", 4, 3),
        &[
            ("it is still there", &|view| drop(view.members.insert(4, view.members[&3].clone()))),
            ("a voter is missing", missing),
            ("it is half done", joint),
            ("nobody leads", &|view| view.leader = None),
        ],
    );
}

#[test]
fn a_router_fell_back_and_said_so() {
    let restart = Restart {
        name: "router-1".to_owned(),
        set_aside: [("list.current.rejected-0000000000007".to_owned(), b"junk".to_vec())].into(),
        damaged: b"junk".to_vec(),
        log: "WARN set /d/list.current aside as /d/list.current.rejected-0000000000007: it is empty\n\
              WARN fell back to previous: it is empty\n"
            .to_owned(),
    };
    assert!(fell_back(&restart).unwrap().ends_with("fell back to previous"));
    fails_without_each(
        &restart,
        fell_back,
        &[
            ("nothing was set aside", &|restart| restart.set_aside.clear()),
            ("another file was", &|restart| restart.set_aside = [("floor.rejected-1".to_owned(), Vec::new())].into()),
            ("something else was in it", &|restart| restart.damaged = b"junk, and more".to_vec()),
            ("it did not say so", &|restart| restart.log.clear()),
            ("it did not fall back", &|restart| restart.log = restart.log.lines().next().unwrap().to_owned()),
        ],
    );
}

#[test]
fn a_router_was_rescued_by_its_seed() {
    fails_without_each(
        &(BTreeSet::from([7, 8]), cluster(), router("1.7", 1..=3)),
        |(knew, view, router)| rescued(knew, view, router),
        &[
            ("one that it knew is there", &|(knew, ..)| knew.extend([1])),
            ("it knew nobody", &|(knew, ..)| knew.clear()),
            ("it holds the old list", &|(_, _, router)| router.held.as_mut().unwrap().version_text = "1.1".into()),
            ("it reached nobody", &|(_, _, router)| router.sessions.clear()),
            ("it only tries to", &|(_, _, router)| router.sessions[0].state = "connecting".into()),
            ("it reached a stranger", &|(_, _, router)| router.sessions[0].controller = Some(7)),
        ],
    );
}

#[test]
fn an_empty_list_was_refused() {
    let before = router("1.7", 1..=3);
    let mut after = before.clone();
    after.offers.refused.insert("empty".to_owned(), 1);
    fails_without_each(
        &Refused { before, after, nack: "empty".to_owned() },
        refused_empty,
        &[
            ("it acknowledged it", &|seen| seen.nack.clear()),
            ("it refused it for another reason", &|seen| seen.nack = "below_floor".into()),
            ("it did not count it", &|seen| seen.after.offers.refused.clear()),
            ("it lost its list", &|seen| seen.after.held = None),
            ("it held none", &|seen| (seen.before.held, seen.after.held) = (None, None)),
            ("it holds another", &|seen| seen.after.held = router("9.9", 1..=3).held),
        ],
    );
}

#[test]
fn what_was_counted_is_what_the_tour_was_about() {
    let total = Offers { adopted: 3, merged: 0, unchanged: 2, refused: [("empty".to_owned(), 1)].into() };
    fails_without_each(
        &total,
        |total| offered(total).map(|()| String::new()),
        &[
            ("nobody adopted anything", &|total| total.adopted = 0),
            ("nobody refused anything", &|total| total.refused.clear()),
            ("what was refused was not empty", &|total| total.refused = [("stale".to_owned(), 1)].into()),
        ],
    );
}
