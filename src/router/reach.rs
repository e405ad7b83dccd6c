//! Says when no controller was reachable for too long, and when one is again. It only follows the status: whom sessions
//! try, and when, it does not know.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::candidates::{Circumstances, Known};
use super::status::{AgentStatus, SessionState};
use crate::ops::events::{Event, Events, Kind, Subject};

/// So long without any session is no restart and no election any more: a person is told.
pub const NO_CONTROLLER_AFTER: Duration = Duration::from_secs(30);

/// Whether the router has a session with any controller of its own cluster.
fn reached(status: &AgentStatus) -> bool {
    status.sessions.iter().any(|session| session.state != SessionState::Connecting && !session.foreign)
}

/// How long nobody has answered, and whether that was said. Time is an argument.
#[derive(Debug, Default)]
struct Silence {
    since: Option<Instant>,
    said: bool,
}

/// What has to be said now.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Alone,
    Over,
}

impl Silence {
    fn look(&mut self, reached: bool, now: Instant, after: Duration) -> Option<Say> {
        if reached {
            self.since = None;
            return std::mem::take(&mut self.said).then_some(Say::Over);
        }
        let since = *self.since.get_or_insert(now);
        let alarms = !self.said && now.duration_since(since) >= after;
        self.said |= alarms;
        alarms.then_some(Say::Alone)
    }

    /// When to look again, though nothing changes.
    fn next(&self, after: Duration) -> Option<Instant> {
        self.since.filter(|_| !self.said).map(|since| since + after)
    }
}

/// Follows the status until its sender is gone.
pub(super) async fn follow(
    mut status: watch::Receiver<AgentStatus>,
    known: watch::Receiver<Arc<Known>>,
    events: Events,
    after: Duration,
) {
    let mut silence = Silence::default();
    loop {
        let (reached, held) = {
            let status = status.borrow_and_update();
            (reached(&status), status.held.as_ref().map(|held| held.version_text.clone()))
        };
        match silence.look(reached, Instant::now(), after) {
            Some(Say::Alone) => {
                let known = known.borrow().candidates(&Circumstances::default(), || 0).len();
                events.raise(Event::NoControllerReachable { after, known, held });
            }
            Some(Say::Over) => events.resolve(Kind::NoControllerReachable, &Subject::Itself),
            None => {}
        }
        let next = silence.next(after);
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = async { tokio::time::sleep_until(next.expect("only polled when there is one")).await }, if next.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ControllerId, RouterId};
    use crate::router::candidates::Tier;
    use crate::router::status::SessionStatus;

    const AFTER: Duration = Duration::from_secs(30);

    #[test]
    fn silence_alarms_once_after_its_time_and_is_over_when_somebody_answers() {
        let (mut silence, begin) = (Silence::default(), Instant::now());
        let mut look = |reached, second| silence.look(reached, begin + Duration::from_secs(second), AFTER);
        assert_eq!(
            [look(false, 0), look(false, 29), look(false, 30), look(false, 31)],
            [None, None, Some(Say::Alone), None]
        );
        assert_eq!([look(true, 40), look(true, 41)], [Some(Say::Over), None]);
        // A short silence is none; each begins anew.
        assert_eq!(
            [look(false, 50), look(false, 79), look(true, 79), look(false, 80), look(false, 109)],
            [const { None }; 5]
        );
        assert_eq!(look(false, 110), Some(Say::Alone));
        assert_eq!(silence.next(AFTER), None);
        assert_eq!(silence.look(true, begin + AFTER * 9, AFTER), Some(Say::Over));
        silence.look(false, begin + AFTER * 10, AFTER);
        assert_eq!(silence.next(AFTER), Some(begin + AFTER * 11));
    }

    #[test]
    fn whoever_is_on_its_way_or_of_another_cluster_is_of_no_use() {
        let mut status = AgentStatus::blank(RouterId::new("edge-1").unwrap());
        let mut with = |state, foreign| {
            status.sessions = vec![SessionStatus {
                endpoint: "http://10.0.0.1:7002".parse().unwrap(),
                controller: ControllerId::new(1),
                foreign,
                known_from: Tier::Held,
                state,
            }];
            reached(&status)
        };
        assert!(!with(SessionState::Connecting, false) && !with(SessionState::Active, true));
        assert!(with(SessionState::Active, false) && with(SessionState::Warm, false));
    }
}
