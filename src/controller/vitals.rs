//! What a controller says of itself in one line, for the status of its service.

use super::backend::Backend;
use crate::domain::controller_list::ListVersion;
use crate::domain::ids::ControllerId;
use crate::raft::RaftRole;
use crate::rpc::control_plane::ControlPlane;

/// A controller at one moment.
#[derive(Debug, Clone)]
struct Glance {
    member: bool,
    removed: bool,
    role: RaftRole,
    leader: Option<ControllerId>,
    list: Option<ListVersion>,
    voters: usize,
    sessions: usize,
}

pub(super) fn line(backend: &Backend) -> String {
    let node = backend.node();
    let voters = node.read(|state| state.membership.as_ref().map_or(0, |applied| applied.membership.voters().len()));
    let glance = Glance {
        member: node.me().cluster.is_some(),
        removed: backend.is_removed(),
        role: node.status().borrow().role,
        leader: backend.leader().leader,
        list: backend.hub().newest().map(|newest| newest.held().list.version()),
        voters,
        sessions: backend.hub().session_count(),
    };
    glance.to_string()
}

impl std::fmt::Display for Glance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.removed {
            return f.write_str("removed from its cluster; its data may go");
        }
        if !self.member {
            return f.write_str("blank: belongs to no cluster yet");
        }
        f.write_str(self.role.as_str())?;
        match (self.role, self.leader) {
            (RaftRole::Leader, _) => {}
            (_, Some(leader)) => write!(f, " of controller {leader}")?,
            (_, None) => f.write_str(", hears no leader")?,
        }
        match self.list {
            Some(version) => write!(f, ", list {version}")?,
            None => f.write_str(", no list yet")?,
        }
        write!(f, ", {}, {}", count(self.voters, "voter"), count(self.sessions, "session"))
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::controller_list::Epoch;

    #[test]
    fn a_line_says_what_an_operator_looks_for_first() {
        let version = ListVersion { epoch: Epoch::FIRST, index: 7 };
        let glance = Glance {
            member: true,
            removed: false,
            role: RaftRole::Follower,
            leader: ControllerId::new(2),
            list: Some(version),
            voters: 3,
            sessions: 1,
        };
        assert_eq!(glance.to_string(), "follower of controller 2, list 1.7, 3 voters, 1 session");
        let leads = Glance { role: RaftRole::Leader, leader: ControllerId::new(1), sessions: 0, ..glance.clone() };
        assert_eq!(leads.to_string(), "leader, list 1.7, 3 voters, 0 sessions");
        let alone = Glance { role: RaftRole::Candidate, leader: None, list: None, ..glance.clone() };
        assert_eq!(alone.to_string(), "candidate, hears no leader, no list yet, 3 voters, 1 session");
        assert_eq!(Glance { member: false, ..glance.clone() }.to_string(), "blank: belongs to no cluster yet");
        assert!(Glance { removed: true, ..glance }.to_string().starts_with("removed"));
    }
}
