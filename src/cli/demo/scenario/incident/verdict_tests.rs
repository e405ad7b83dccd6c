//! The verdict is passed on what has to be seen, and on nothing from which one thing is missing.

use super::*;
use crate::cli::demo::view::{MemberView, Offers, SessionSelf};

const EMPTY_INDEX: u64 = (2 << 32) - 1;

fn view(list: &str, ids: impl IntoIterator<Item = u64>) -> ClusterView {
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
    ClusterView {
        leader: Some(1),
        list: Some(list.to_owned()),
        members: ids.into_iter().map(member).collect(),
        ..ClusterView::default()
    }
}

fn ours(list: &str, ids: impl Iterator<Item = u64> + Clone) -> RouterSelf {
    let session = |id| SessionSelf { controller: Some(id), state: "warm".to_owned() };
    RouterSelf {
        source: "newest".to_owned(),
        held: Some(HeldSelf { version_text: list.to_owned(), controllers: ids.clone().collect() }),
        sessions: ids.map(session).collect(),
        offers: Offers::default(),
    }
}

fn theirs(connected: usize, named: usize, index: u64) -> Seen {
    Seen { connected, named: Some(named), index, log: Vec::new() }
}

/// The incident as it has to be seen: controller 2 of 3 is upgraded, a fourth joins in the end.
fn as_it_should_be() -> Observations {
    let refused = || Start::Refused("the saved list names no controller".to_owned());
    let mut offered = ours("1.1", 1..=3);
    offered.offers.refused.insert("empty".to_owned(), 1);
    Observations {
        before: view("1.1", 1..=3),
        upgraded: 2,
        empty_index: EMPTY_INDEX,
        after: view("1.9", 1..=4),
        theirs: Theirs {
            served: theirs(3, 3, (1 << 32) + 1),
            offered: theirs(0, 0, EMPTY_INDEX),
            restarted: refused(),
            end: refused(),
        },
        ours: Ours {
            served: ours("1.1", 1..=3),
            nack: "empty".to_owned(),
            offered,
            restarted: ours("1.1", 1..=3),
            end: ours("1.9", 1..=4),
        },
    }
}

#[test]
fn the_incident_happened_to_their_router_and_not_to_ours() {
    let said = verdict(&as_it_should_be()).unwrap();
    assert!(said.contains("although all 4 controllers answer") && said.contains("list 1.9"), "{said}");
}

#[test]
fn nothing_may_be_missing_from_the_incident() {
    type Change = fn(&mut Observations);
    let table: [(&str, Change); 27] = [
        ("their router held no list at first", |seen| seen.theirs.served.named = None),
        ("their router heard only two at first", |seen| seen.theirs.served.connected = 2),
        ("the empty list was no newer one", |seen| seen.theirs.served.index = EMPTY_INDEX),
        ("their router did not take it", |seen| seen.theirs.offered.index = 1),
        ("their router still names one", |seen| seen.theirs.offered.named = Some(1)),
        ("their router still hears one", |seen| seen.theirs.offered.connected = 1),
        ("their router came back", |seen| seen.theirs.restarted = Start::Runs),
        ("their router's disk was full", |seen| seen.theirs.restarted = Start::Refused("no space left".to_owned())),
        ("their router came back in the end", |seen| seen.theirs.end = Start::Runs),
        ("no list was committed at first", |seen| seen.before.list = None),
        ("ours held another list at first", |seen| seen.ours.served = ours("1.0", 1..=3)),
        ("ours had only two sessions at first", |seen| drop(seen.ours.served.sessions.pop())),
        ("ours acknowledged the empty list", |seen| seen.ours.nack = "ack".to_owned()),
        ("ours counted no refusal", |seen| seen.ours.offered.offers = Offers::default()),
        ("ours took the empty list", |seen| seen.ours.offered.held = None),
        ("ours restarted without a list", |seen| seen.ours.restarted.held = None),
        ("ours restarted from an older list", |seen| seen.ours.restarted.source = "previous".to_owned()),
        ("ours found nobody again", |seen| seen.ours.restarted.sessions.clear()),
        ("ours found nobody but the imposter", |seen| {
            seen.ours.restarted.sessions.retain(|session| session.controller == Some(2));
        }),
        ("nobody leads in the end", |seen| seen.after.leader = None),
        ("one is away in the end", |seen| seen.after.members.get_mut(&2).unwrap().up = false),
        ("no list is committed in the end", |seen| seen.after.list = None),
        ("ours holds the first list in the end", |seen| seen.ours.end = ours("1.1", 1..=4)),
        ("ours holds a list that is not committed in the end", |seen| seen.ours.end = ours("1.8", 1..=4)),
        ("ours holds others in the end", |seen| seen.ours.end = ours("1.9", 1..=3)),
        ("ours is served by nobody in the end", |seen| seen.ours.end.sessions.clear()),
        ("there was no new list", |seen| {
            (seen.after, seen.ours.end) = (view("1.1", 1..=3), ours("1.1", 1..=3));
        }),
    ];
    for (what, change) in table {
        let mut seen = as_it_should_be();
        change(&mut seen);
        assert!(verdict(&seen).is_err(), "the verdict was passed even though {what}");
    }
}
