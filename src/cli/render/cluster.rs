//! `cluster status`, `cluster members`, and the outcome of a change. Field names of the JSON are stable.

use std::collections::BTreeSet;

use serde::Serialize;

use super::table::{Table, facts};
use super::{ago, listed};
use crate::cli::console::Tone;
use crate::domain::controller_list::ListVersion;
use crate::domain::ids::ClusterId;
use crate::proto::admin::{MemberStatus, StatusResponse};

/// The cluster, as `cluster status -o json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Cluster {
    /// Id of the leader; `null` when there is none.
    pub leader: Option<u64>,
    /// `null` before the cluster was formed.
    pub cluster_id: Option<String>,
    /// Which life of the cluster.
    pub epoch: u32,
    /// `EPOCH.INDEX`; `null` when it is not known.
    pub list_version: Option<String>,
    /// Every voter; while a change is under way those before and after it.
    pub voters: BTreeSet<u64>,
    /// One set, or two while a change is under way.
    pub voter_sets: Vec<Vec<u64>>,
    /// How many further voters may fail before the cluster stops.
    pub failure_tolerance: u32,
    /// Raft's term.
    pub term: u64,
    /// Index of the last committed log entry.
    pub committed_index: u64,
    /// What the whole cluster may write.
    pub feature_level: u32,
    /// How many routers are registered.
    pub routers: u64,
    /// Who answered.
    pub answered_by: u64,
    /// The id that a new controller may have; `null` when it is not known.
    pub next_id: Option<u64>,
    /// Ordered by id.
    pub members: Vec<Member>,
}

/// A member of the cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `voter` or `learner`.
    pub role: String,
    /// Whether it leads.
    pub leader: bool,
    /// `up`, `down` or `unknown`.
    pub state: String,
    /// Of its software; `null` when it is not known.
    pub version: Option<String>,
    /// Index of the last log entry that it applied; `null` when it does not say.
    pub applied_index: Option<u64>,
    /// How many entries it is behind; `null` when nobody knows.
    pub lag_entries: Option<u64>,
    /// Milliseconds since it was heard; `null` when it is not known.
    pub last_contact_ms: Option<u64>,
    /// Live sessions of routers on it.
    pub sessions: u64,
    /// Its addresses for other controllers.
    pub peer: Vec<String>,
    /// Its addresses for routers.
    pub router: Vec<String>,
    /// Its addresses for operators.
    pub admin: Vec<String>,
}

impl From<StatusResponse> for Cluster {
    fn from(answer: StatusResponse) -> Self {
        let leader = (answer.leader != 0).then_some(answer.leader);
        let id = ClusterId::from_slice(&answer.cluster_id);
        let mut members: Vec<_> = answer.members.into_iter().map(|member| Member::seen(member, leader)).collect();
        members.sort_by_key(|member| member.id);
        Self {
            leader,
            cluster_id: id.map(|id| id.to_string()),
            epoch: answer.epoch,
            list_version: ListVersion::from_wire(answer.epoch, answer.list_index).map(|version| version.to_string()),
            voters: answer.voter_sets.iter().flat_map(|set| set.ids.iter().copied()).collect(),
            voter_sets: answer.voter_sets.into_iter().map(|set| set.ids).collect(),
            failure_tolerance: answer.failure_tolerance,
            term: answer.term,
            committed_index: answer.committed_index,
            feature_level: answer.feature_level,
            routers: answer.routers,
            answered_by: answer.answered_by,
            next_id: Some(answer.next_id).filter(|id| *id > 0),
            members,
        }
    }
}

impl Member {
    fn seen(member: MemberStatus, leader: Option<u64>) -> Self {
        let up = member.state == "up";
        Self {
            leader: leader == Some(member.id),
            id: member.id,
            name: member.name,
            role: member.role,
            state: member.state,
            version: Some(member.software_version).filter(|version| !version.is_empty()),
            // One that is down has not said; the leader may still know how far it was.
            applied_index: Some(member.applied_index).filter(|index| up || *index > 0),
            lag_entries: Some(member.lag_entries).filter(|entries| up || *entries > 0),
            last_contact_ms: member.last_contact_ms,
            sessions: member.sessions,
            peer: member.peer,
            router: member.router,
            admin: member.admin,
        }
    }

    fn tone(&self) -> Tone {
        match self.state.as_str() {
            "down" => Tone::Bad,
            "up" => Tone::Plain,
            _ => Tone::Doubtful,
        }
    }
}

/// `cluster status` for people.
#[must_use]
pub fn status(cluster: &Cluster, colour: bool) -> String {
    let name_of = |id: u64| cluster.members.iter().find(|member| member.id == id).map_or("?", |member| &member.name);
    let leader =
        cluster.leader.map_or_else(|| "none".to_owned(), |id| format!("{id} ({}), term {}", name_of(id), cluster.term));
    let voters = match cluster.voter_sets.as_slice() {
        [before, after] => format!("{} -> {} (a change is under way)", listed(before), listed(after)),
        _ => listed(&cluster.voters.iter().collect::<Vec<_>>()),
    };
    let tolerance = match cluster.failure_tolerance {
        0 if cluster.voters.is_empty() => "0".to_owned(),
        0 if cluster.leader.is_none() => {
            "0 (nobody leads: nothing can be changed; routers keep their lists)".to_owned()
        }
        0 => "0 (the cluster stops when one more voter fails)".to_owned(),
        1 => "1 (the cluster goes on when one voter fails)".to_owned(),
        many => format!("{many} (the cluster goes on when {many} voters fail)"),
    };
    let answered_by = match cluster.answered_by {
        0 => "a controller without an id".to_owned(),
        id => format!("{id} ({})", name_of(id)),
    };
    let mut text = facts(&[
        ("cluster", cluster.cluster_id.clone().unwrap_or_else(|| "not formed yet".into())),
        ("epoch", cluster.epoch.to_string()),
        ("list version", cluster.list_version.clone().unwrap_or_else(|| "unknown".into())),
        ("leader", leader),
        ("voters", voters),
        ("failure tolerance", tolerance),
        ("routers", cluster.routers.to_string()),
        ("feature level", cluster.feature_level.to_string()),
        ("answered by", answered_by),
        ("next free id", known(cluster.next_id)),
    ]);
    if cluster.members.is_empty() {
        return text;
    }
    let mut table =
        Table::new(&["ID", "NAME", "ROLE", "LEADER", "STATE", "VERSION", "APPLIED", "LAG", "SESSIONS", "LAST CONTACT"]);
    for member in &cluster.members {
        let cells = vec![
            member.id.to_string(),
            member.name.clone(),
            member.role.clone(),
            if member.leader { "yes" } else { "-" }.into(),
            member.state.clone(),
            member.version.clone().unwrap_or_else(|| "-".into()),
            known(member.applied_index),
            known(member.lag_entries),
            member.sessions.to_string(),
            if member.leader { "-".into() } else { ago(member.last_contact_ms) },
        ];
        table.row(member.tone(), cells);
    }
    text.push('\n');
    text + &table.render(colour)
}

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// `cluster members` for people.
#[must_use]
pub fn members(cluster: &Cluster, colour: bool) -> String {
    let mut table = Table::new(&["ID", "NAME", "ROLE", "STATE", "PEER", "ROUTER", "ADMIN"]);
    for member in &cluster.members {
        let cells = vec![
            member.id.to_string(),
            member.name.clone(),
            member.role.clone(),
            member.state.clone(),
            listed(&member.peer),
            listed(&member.router),
            listed(&member.admin),
        ];
        table.row(member.tone(), cells);
    }
    let next = cluster.next_id.map_or_else(String::new, |id| format!("\nnext free id: {id}\n"));
    table.render(colour) + &next
}

/// `cluster members -o json`.
#[derive(Debug, Serialize)]
pub struct Members<'a> {
    /// The id that a new controller may have; `null` when it is not known.
    pub next_id: Option<u64>,
    /// Ordered by id.
    pub members: &'a [Member],
}

/// A change that was made, as `cluster add -o json` and its siblings print it.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// `add`, `promote`, `demote`, `remove` or `readdress`.
    pub change: &'static str,
    /// Whom it was about.
    pub member: u64,
    /// Afterwards.
    pub failure_tolerance: u32,
}

/// A change for people.
#[must_use]
pub fn changed(changed: &Changed) -> String {
    let member = changed.member;
    let what = match changed.change {
        "add" => format!(
            "controller {member} was added as a learner; `pilothouse cluster promote {member}` makes it a voter"
        ),
        "promote" => format!("controller {member} is a voter now"),
        "demote" => format!("controller {member} is a learner now"),
        "remove" => format!("controller {member} was removed; its id is never used again"),
        _ => format!("controller {member} has its new addresses"),
    };
    format!("{what}\nfailure tolerance: {}\n", changed.failure_tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::{golden, json};
    use crate::proto::admin::VoterSet;

    fn member(id: u64, state: &str, contact: Option<u64>) -> MemberStatus {
        MemberStatus {
            id,
            name: format!("controller-{id}"),
            role: if id == 4 { "learner" } else { "voter" }.into(),
            state: state.into(),
            software_version: if state == "down" { "" } else { "0.1.0" }.into(),
            applied_index: 42,
            lag_entries: if state == "down" { 40 } else { 0 },
            last_contact_ms: contact,
            peer: vec![format!("http://127.0.0.1:70{id}1")],
            router: vec![format!("http://127.0.0.1:70{id}2")],
            admin: vec![format!("http://127.0.0.1:70{id}3")],
            sessions: 2,
        }
    }

    fn answer() -> StatusResponse {
        StatusResponse {
            cluster_id: 0x1111_2222_3333_4444_5555_6666_7777_8888_u128.to_be_bytes().to_vec(),
            epoch: 1,
            list_index: 7,
            leader: 1,
            term: 3,
            answered_by: 2,
            failure_tolerance: 1,
            feature_level: 1,
            routers: 2,
            members: vec![
                member(4, "unknown", None),
                member(1, "up", None),
                member(2, "up", Some(35)),
                member(3, "down", Some(90_000)),
            ],
            voter_sets: vec![VoterSet { ids: vec![1, 2, 3] }],
            committed_index: 42,
            next_id: 6,
        }
    }

    #[test]
    fn status_for_people() {
        golden("status.txt", &status(&answer().into(), false));
    }

    #[test]
    fn members_for_people() {
        golden("members.txt", &members(&answer().into(), false));
    }

    #[test]
    fn status_for_programs() {
        golden("status.json", &json(&Cluster::from(answer())));
    }

    #[test]
    fn without_a_leader_or_a_cluster_the_answer_says_so() {
        let blank = Cluster::from(StatusResponse::default());
        let value = serde_json::to_value(&blank).unwrap();
        for absent in ["leader", "cluster_id", "list_version", "next_id"] {
            assert!(value[absent].is_null(), "{absent}");
        }
        let text = status(&blank, false);
        assert!(text.contains("not formed yet") && text.contains("none"), "{text}");
    }

    #[test]
    fn a_joint_change_shows_both_sets_and_their_union() {
        let mut answer = answer();
        answer.voter_sets.push(VoterSet { ids: vec![1, 2, 4] });
        let cluster = Cluster::from(answer);
        assert_eq!(cluster.voters, BTreeSet::from([1, 2, 3, 4]));
        assert!(status(&cluster, false).contains("1, 2, 3 -> 1, 2, 4 (a change is under way)"));
    }

    #[test]
    fn what_comes_from_elsewhere_cannot_break_a_row() {
        let mut answer = answer();
        answer.members[0].name = "evil\n\x1b[31mred".into();
        let text = status(&answer.into(), false);
        assert!(!text.contains('\x1b') && text.contains("evil  [31mred"), "{text}");
    }
}
