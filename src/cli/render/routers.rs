//! `routers list` and `routers show`. Field names of the JSON are stable.

use std::collections::BTreeMap;

use serde::Serialize;

use super::table::{Table, facts};
use super::{ago, listed};
use crate::cli::console::Tone;
use crate::proto::admin::RouterStatus;

/// The routers, as `routers list -o json` prints them.
#[derive(Debug, Clone, Serialize)]
pub struct Routers {
    /// Ordered by id.
    pub routers: Vec<Router>,
    /// Controllers whose sessions are not known, so that routers on them may seem to be away.
    pub unreachable: Vec<u64>,
}

/// A router.
#[derive(Debug, Clone, Serialize)]
pub struct Router {
    /// Its id.
    pub id: String,
    /// Whether it is registered; `false`: it is live or banned, but not registered.
    pub registered: bool,
    /// Whether every controller refuses it.
    pub banned: bool,
    /// Of its software; `null` when it is not known.
    pub version: Option<String>,
    /// Of its live sessions; `null` without one.
    pub protocol: Option<u32>,
    /// The list version that it holds, `EPOCH.INDEX`; `null` when it is not known.
    pub held: Option<String>,
    /// Whether that is the one which the answering controller publishes.
    pub current: bool,
    /// Where it has sessions.
    pub controllers: Vec<u64>,
    /// Which controllers it reported to have reached.
    pub reached_controllers: Vec<u64>,
    /// Milliseconds since it was heard; `null` without a live session.
    pub last_heard_ms: Option<u64>,
    /// Where its list came from; `null` when it is not known.
    pub source: Option<String>,
    /// Reason of its last refusal of a list; `null` when there was none.
    pub last_refusal: Option<String>,
    /// As in its configuration.
    pub labels: BTreeMap<String, String>,
    /// Milliseconds since 1970; `null` when it is not registered.
    pub registered_ms: Option<u64>,
    /// Milliseconds since 1970; `null` when it is not registered.
    pub updated_ms: Option<u64>,
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<RouterStatus> for Router {
    fn from(router: RouterStatus) -> Self {
        Self {
            id: router.id,
            registered: router.registered,
            banned: router.banned,
            version: some(router.software_version),
            protocol: (router.protocol != 0).then_some(router.protocol),
            held: some(router.held),
            current: router.current,
            controllers: router.controllers,
            reached_controllers: router.reached_controllers,
            last_heard_ms: router.last_heard_ms,
            source: some(router.source),
            last_refusal: some(router.last_refusal),
            labels: router.labels.into_iter().collect(),
            registered_ms: (router.registered_ms != 0).then_some(router.registered_ms),
            updated_ms: (router.updated_ms != 0).then_some(router.updated_ms),
        }
    }
}

impl Router {
    fn tone(&self) -> Tone {
        match (self.controllers.is_empty(), self.last_refusal.is_some() || !self.current) {
            (true, _) => Tone::Bad,
            (false, true) => Tone::Doubtful,
            (false, false) => Tone::Plain,
        }
    }

    const fn registered_for_people(&self) -> &'static str {
        match (self.banned, self.registered) {
            (true, _) => "no (banned: `pilothouse routers allow` lifts it)",
            (false, true) => "yes",
            (false, false) => "no (live, but not registered)",
        }
    }

    fn held_for_people(&self) -> String {
        match (&self.held, self.current) {
            (Some(held), true) => held.clone(),
            (Some(held), false) => format!("{held} (not current)"),
            (None, _) => "-".into(),
        }
    }
}

fn or_hyphen(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}

/// `routers list` for people.
#[must_use]
pub fn list(routers: &[Router], colour: bool) -> String {
    let mut table =
        Table::new(&["ID", "VERSION", "PROTOCOL", "HELD LIST", "CONTROLLERS", "SOURCE", "LAST HEARD", "LAST REFUSAL"]);
    for router in routers {
        let cells = vec![
            router.id.clone(),
            or_hyphen(router.version.as_ref()),
            or_hyphen(router.protocol),
            router.held_for_people(),
            listed(&router.controllers),
            or_hyphen(router.source.as_ref()),
            ago(router.last_heard_ms),
            if router.banned { "banned".into() } else { or_hyphen(router.last_refusal.as_ref()) },
        ];
        table.row(router.tone(), cells);
    }
    table.render(colour)
}

/// `routers show` for people.
#[must_use]
pub fn show(router: &Router) -> String {
    let labels: Vec<_> = router.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let shown = facts(&[
        ("router", router.id.clone()),
        ("registered", router.registered_for_people().into()),
        ("version", or_hyphen(router.version.as_ref())),
        ("protocol", or_hyphen(router.protocol)),
        ("held list", router.held_for_people()),
        ("source of the list", or_hyphen(router.source.as_ref())),
        ("sessions on", listed(&router.controllers)),
        ("has reached", listed(&router.reached_controllers)),
        ("last heard", ago(router.last_heard_ms)),
        ("last refusal", or_hyphen(router.last_refusal.as_ref())),
        ("labels", listed(&labels)),
    ]);
    shown.lines().map(|line| line.replace(char::is_control, " ") + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::{golden, json};

    fn answers() -> Vec<Router> {
        let live = RouterStatus {
            id: "edge-1".into(),
            software_version: "0.1.0".into(),
            protocol: 2,
            held: "1.7".into(),
            current: true,
            controllers: vec![1, 3],
            last_heard_ms: Some(420),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            registered_ms: 1_790_000_000_000,
            updated_ms: 1_790_000_000_500,
            source: "session".into(),
            reached_controllers: vec![1, 2, 3],
            last_refusal: String::new(),
            registered: true,
            banned: false,
        };
        let refusing =
            RouterStatus { id: "edge-2".into(), current: false, last_refusal: "empty".into(), ..live.clone() };
        let away = RouterStatus { id: "edge-3".into(), registered: true, ..RouterStatus::default() };
        let banned = RouterStatus { id: "edge-4".into(), banned: true, ..RouterStatus::default() };
        [live, refusing, away, banned].map(Router::from).to_vec()
    }

    #[test]
    fn routers_for_people() {
        golden("routers.txt", &list(&answers(), false));
        golden("router.txt", &show(&answers()[0]));
    }

    #[test]
    fn routers_for_programs() {
        let view = Routers { routers: answers(), unreachable: vec![2] };
        golden("routers.json", &json(&view));
    }
}
