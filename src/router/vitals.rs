//! What a router says of itself in one line, for the status of its service.

use super::status::{AgentStatus, SessionState, Source};

pub(super) fn line(status: &AgentStatus) -> String {
    let mut line = match &status.held {
        Some(held) => format!("list {}", held.version_text),
        None => "no list yet, seeds only".to_owned(),
    };
    if status.source == Source::Previous {
        line.push_str(" (the one before the newest)");
    }
    if !status.saved {
        line.push_str(" (in memory only)");
    }
    let open = status.sessions.iter().filter(|session| session.state != SessionState::Connecting && !session.foreign);
    // The active one comes first. One of protocol 1 does not say who it is.
    let with: Vec<_> = open
        .map(|session| session.controller.map_or_else(|| session.endpoint.to_string(), |id| id.to_string()))
        .collect();
    match with.as_slice() {
        [] => line.push_str(", no controller reached"),
        [active] => line.push_str(&format!(" from controller {active}, 1 session")),
        [active, ..] => line.push_str(&format!(" from controller {active}, {} sessions", with.len())),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::controller_list::{Epoch, ListVersion};
    use crate::domain::ids::{ClusterId, ControllerId, RouterId};
    use crate::router::candidates::Tier;
    use crate::router::status::{HeldStatus, SessionStatus};

    fn session(id: u64, state: SessionState) -> SessionStatus {
        SessionStatus {
            endpoint: format!("http://192.0.2.{id}:7002").parse().unwrap(),
            controller: ControllerId::new(id),
            foreign: false,
            known_from: Tier::Held,
            state,
        }
    }

    #[test]
    fn a_line_says_which_list_and_who_serves_it() {
        let mut status = AgentStatus::blank(RouterId::new("edge-1").unwrap());
        assert_eq!(line(&status), "no list yet, seeds only, no controller reached");
        status.source = Source::Newest;
        status.held = Some(HeldStatus {
            cluster: ClusterId::from_u128(7),
            version: ListVersion { epoch: Epoch::FIRST, index: 7 },
            version_text: "1.7".into(),
            digest: String::new(),
            controllers: Vec::new(),
        });
        assert_eq!(line(&status), "list 1.7, no controller reached");
        status.sessions = vec![session(2, SessionState::Active), session(3, SessionState::Connecting)];
        assert_eq!(line(&status), "list 1.7 from controller 2, 1 session");
        status.sessions[1].state = SessionState::Warm;
        status.saved = false;
        assert_eq!(line(&status), "list 1.7 (in memory only) from controller 2, 2 sessions");
        status.sessions.iter_mut().for_each(|session| session.foreign = true);
        status.source = Source::Previous;
        assert_eq!(line(&status), "list 1.7 (the one before the newest) (in memory only), no controller reached");
    }
}
