//! A witness beside every router: looks again and again whether it has a list that it can use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::lists::Version;
use crate::support::http;

/// How often a router is looked at.
const EVERY: Duration = Duration::from_millis(50);
/// Why a router may refuse a list here: its other session had a later one first.
const MAY_REFUSE: &str = "stale";

/// All witnesses; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    wrong: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Held {
    /// Looks at the routers with these HTTP ports, each of which holds a list.
    pub(crate) fn watch(ports: impl IntoIterator<Item = u16>) -> Self {
        let wrong = Arc::default();
        let tasks = ports.into_iter().map(|port| tokio::spawn(watch(port, Arc::clone(&wrong)))).collect();
        Self { wrong, tasks }
    }

    /// What must not have been.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn watch(port: u16, wrong: Arc<Mutex<Vec<String>>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut newest = (0, 0);
    loop {
        ticks.tick().await;
        // One that is being restarted does not answer; what is on its disk is looked at by whoever restarts it.
        let Ok(status) = http::get_json(port, "/api/v1/status").await else { continue };
        match judged(&status, newest) {
            Ok(version) => newest = version,
            Err(why) => wrong.lock().unwrap().push(format!("the router at {port}: {why}")),
        }
    }
}

/// The version that a router holds, or why that is no use to it.
fn judged(status: &Value, newest: Version) -> Result<Version, String> {
    let refused: BTreeMap<String, u64> =
        serde_json::from_value(status["offers"]["refused"].clone()).map_err(|error| error.to_string())?;
    if let Some((reason, _)) = refused.iter().find(|(reason, _)| *reason != MAY_REFUSE) {
        return Err(format!("it had to refuse a list: {reason}"));
    }
    if status["held"]["controllers"].as_array().is_none_or(Vec::is_empty) {
        return Err(format!("it holds no list: {}", status["held"]));
    }
    let version = version(&status["held"]["version_text"]).ok_or("its list has no version")?;
    if version < newest {
        return Err(format!("it holds {version:?} after {newest:?}"));
    }
    Ok(version)
}

/// `EPOCH.INDEX`.
pub(crate) fn version(text: &Value) -> Option<Version> {
    let (epoch, index) = text.as_str()?.split_once('.')?;
    Some((epoch.parse().ok()?, index.parse().ok()?))
}

/// What `router list -o json` says of a router's files: the list that it would start with.
pub(crate) fn on_disk(inspection: &Value) -> Result<usize, String> {
    let usable = |list: &&Value| list["state"] == "valid";
    let list = inspection["lists"].as_array().and_then(|lists| lists.iter().find(usable));
    let count = list.and_then(|list| list["content"]["list"]["controllers"].as_array()).map_or(0, Vec::len);
    if count > 0 { Ok(count) } else { Err(format!("no usable list: {inspection}")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_router_without_a_usable_list_is_noticed() {
        let status = |controllers: Value, version: &str, refused: Value| {
            let held = json!({ "controllers": controllers, "version_text": version });
            json!({ "held": held, "offers": { "refused": refused } })
        };
        assert_eq!(judged(&status(json!([1]), "1.7", json!({ "stale": 2 })), (1, 7)), Ok((1, 7)));
        for bad in [
            status(json!([]), "1.7", json!({})),
            status(json!([1]), "1.6", json!({})),
            status(json!([1]), "", json!({})),
            status(json!([1]), "1.7", json!({ "conflict": 1 })),
            json!({ "held": null, "offers": { "refused": {} } }),
            json!({}),
        ] {
            assert!(judged(&bad, (1, 7)).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_without_a_usable_list_are_noticed() {
        let list = |state: &str, controllers: Value| {
            let content = json!({ "list": { "controllers": controllers } });
            json!({ "lists": [{ "state": "absent" }, { "state": state, "content": content }] })
        };
        assert_eq!(on_disk(&list("valid", json!([1, 2]))), Ok(2));
        for bad in [list("valid", json!([])), list("unusable", json!([1])), json!({ "lists": [] }), json!({})] {
            assert!(on_disk(&bad).is_err(), "{bad}");
        }
    }
}
