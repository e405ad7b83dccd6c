//! What happens in a demo, in plain sentences: the differences between two views. Pure; it asks nobody.

use super::view::{ClusterView, MemberView, RouterView};

/// What changed from one view to the next, in the order in which it matters.
pub(crate) fn sentences(before: &ClusterView, after: &ClusterView) -> Vec<String> {
    let mut said = Vec::new();
    leader(before, after, &mut said);
    members(before, after, &mut said);
    list(before, after, &mut said);
    for (id, now) in &after.routers {
        router(id, before.routers.get(id), now, after, &mut said);
    }
    let gone = before.routers.keys().filter(|id| !after.routers.contains_key(*id));
    said.extend(gone.map(|id| format!("{id} was forgotten")));
    said
}

fn leader(before: &ClusterView, after: &ClusterView, said: &mut Vec<String>) {
    match (before.leader, after.leader) {
        (was, is) if was == is => {}
        (_, Some(id)) => said.push(format!("{} leads the cluster", after.name(id))),
        (_, None) => {
            said.push("nobody leads: writes wait until a leader is elected; routers keep their lists".to_owned())
        }
    }
}

fn members(before: &ClusterView, after: &ClusterView, said: &mut Vec<String>) {
    for (id, now) in &after.members {
        let MemberView { name, voter, up, .. } = now;
        let role = if *voter { "voter" } else { "learner" };
        match before.members.get(id) {
            None => said.push(format!("{name} is a member (id {id}, {role})")),
            Some(was) if was.voter != *voter => said.push(format!("{name} is a {role} now")),
            Some(was) if was.up && !up => said.push(format!("{name} does not answer any more")),
            Some(was) if !was.up && *up => said.push(format!("{name} answers again")),
            Some(_) => {}
        }
    }
    let gone = before.members.iter().filter(|(id, _)| !after.members.contains_key(*id));
    said.extend(
        gone.map(|(id, was)| format!("{} (id {id}) is no member any more, and its id is never used again", was.name)),
    );
}

fn list(before: &ClusterView, after: &ClusterView, said: &mut Vec<String>) {
    if let Some(list) = after.list.as_ref().filter(|_| before.list != after.list) {
        let names: Vec<&str> = after.members.values().map(|member| member.name.as_str()).collect();
        said.push(format!("list {list} is committed: {}", names.join(", ")));
    }
    if before.tolerance != after.tolerance {
        said.push(match after.tolerance {
            0 => "no further controller may fail without stopping writes".to_owned(),
            1 => "one controller may fail".to_owned(),
            n => format!("{n} controllers may fail"),
        });
    }
}

fn router(id: &str, was: Option<&RouterView>, now: &RouterView, after: &ClusterView, said: &mut Vec<String>) {
    let nothing = RouterView::default();
    let was = was.unwrap_or(&nothing);
    if now.registered && !was.registered {
        said.push(format!("{id} is registered"));
    }
    if now.held != was.held && !now.held.is_empty() {
        said.push(format!("{id} holds list {}", now.held));
    }
    if now.controllers != was.controllers {
        let names: Vec<String> = now.controllers.iter().map(|id| after.name(*id)).collect();
        said.push(match names.as_slice() {
            [] => format!("{id} has no session; it keeps its list and looks for a controller"),
            names => format!("{id} has sessions on {}", names.join(" and ")),
        });
    }
    if now.last_refusal != was.last_refusal && !now.last_refusal.is_empty() {
        said.push(format!("{id} refused a list: {}", now.last_refusal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(leader: Option<u64>, members: &[(u64, bool, bool)], list: &str) -> ClusterView {
        let member = |(id, voter, up): &(u64, bool, bool)| {
            (*id, MemberView { name: format!("c{id}"), voter: *voter, up: *up, version: String::new(), lag_entries: 0 })
        };
        ClusterView {
            leader,
            list: (!list.is_empty()).then(|| list.to_owned()),
            members: members.iter().map(member).collect(),
            ..ClusterView::default()
        }
    }

    fn with_router(mut view: ClusterView, held: &str, controllers: &[u64], refusal: &str) -> ClusterView {
        let router = RouterView {
            registered: true,
            held: held.to_owned(),
            controllers: controllers.iter().copied().collect(),
            last_refusal: refusal.to_owned(),
        };
        view.routers.insert("r1".to_owned(), router);
        view
    }

    #[test]
    fn every_change_is_said_once_and_nothing_else() {
        let two = || view(Some(1), &[(1, true, true), (2, true, true)], "1.1");
        let table: Vec<(ClusterView, ClusterView, &[&str])> = vec![
            (two(), two(), &[]),
            (two(), view(Some(2), &[(1, true, false), (2, true, true)], "1.1"), &["c2 leads", "c1 does not answer"]),
            (two(), view(None, &[(1, true, true), (2, true, true)], "1.1"), &["nobody leads"]),
            (
                two(),
                view(Some(1), &[(1, true, true), (2, true, true), (3, false, true)], "1.9"),
                &["c3 is a member (id 3, learner)", "list 1.9 is committed: c1, c2, c3"],
            ),
            (two(), view(Some(1), &[(1, true, true)], "1.1"), &["c2 (id 2) is no member any more"]),
            (
                two(),
                with_router(two(), "1.1", &[1, 2], ""),
                &["r1 is registered", "r1 holds list 1.1", "r1 has sessions on c1 and c2"],
            ),
            (with_router(two(), "1.1", &[1], ""), with_router(two(), "1.1", &[], ""), &["r1 has no session"]),
            (
                with_router(two(), "1.1", &[1], ""),
                with_router(two(), "1.1", &[1], "empty"),
                &["r1 refused a list: empty"],
            ),
            (with_router(two(), "1.1", &[1], ""), two(), &["r1 was forgotten"]),
        ];
        for (before, after, expected) in table {
            let said = sentences(&before, &after);
            assert_eq!(said.len(), expected.len(), "{said:?}");
            assert!(said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)), "{said:?}");
        }
    }
}
