//! The `[alerts]` table, the same in the configurations of controllers and routers. It opens nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::endpoint::{Endpoint, Scheme};
use crate::ops::config::Problems;
use crate::ops::events::Severity;

/// Most labels that a configuration adds to each alert.
pub const LABELS_MAX: usize = 16;
/// Labels that every alert has by itself.
const OWN_LABELS: [&str; 5] = ["alertname", "severity", "subject", "instance", "cluster"];
/// Where an Alertmanager takes alerts, below its address.
const PATH: &str = "/api/v2/alerts";

/// As written. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsFile {
    /// An Alertmanager, as `https://HOST:PORT` or `https://HOST:PORT/PREFIX`. Absent: nobody is alarmed.
    pub url: Option<String>,
    /// Whoever signed its certificate, PEM. Needed for `https://`.
    pub ca: Option<PathBuf>,
    /// A file with the value of the `Authorization` header.
    pub authorization_file: Option<PathBuf>,
    /// Least severity that is alarmed: `info`, `warning` or `error`.
    pub severity: Option<String>,
    /// Labels that each alert gets: what people route and group by.
    pub labels: BTreeMap<String, String>,
}

/// As meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertsConfig {
    /// Where it listens.
    pub to: Endpoint,
    /// Below which path its API is; empty, or with a slash at its beginning.
    pub prefix: String,
    /// Whoever signed its certificate.
    pub ca: Option<PathBuf>,
    /// A file with the value of the `Authorization` header.
    pub authorization_file: Option<PathBuf>,
    /// Least severity that is alarmed.
    pub severity: Severity,
    /// Labels that each alert gets.
    pub labels: BTreeMap<String, String>,
}

impl AlertsConfig {
    /// Everything that is usual.
    #[must_use]
    pub fn to(to: Endpoint) -> Self {
        let (prefix, severity, labels) = (String::new(), Severity::Warning, BTreeMap::new());
        Self { to, prefix, ca: None, authorization_file: None, severity, labels }
    }

    /// Where alerts are posted.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.to, self.path())
    }

    /// The same without the host.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}{PATH}", self.prefix)
    }
}

impl AlertsFile {
    /// What was meant; `None` when nobody is alarmed, or when it cannot be used.
    pub fn meant(self, problems: &mut Problems) -> Option<AlertsConfig> {
        let severity = severity(self.severity.as_deref(), problems);
        labels(&self.labels, problems);
        let Some(url) = self.url.filter(|url| !url.is_empty()) else {
            if self.ca.is_some() || self.authorization_file.is_some() || !self.labels.is_empty() {
                problems.add("alerts.url", "is missing", "name an Alertmanager, as in url = \"http://127.0.0.1:9093\"");
            }
            return None;
        };
        let (to, prefix) = target(&url, problems)?;
        if to.scheme() == Scheme::Tls && self.ca.is_none() {
            problems.add(
                "alerts.ca",
                "is missing, and alerts.url is https://",
                "name the file with whoever signed its certificate, as /etc/ssl/certs/ca-certificates.crt",
            );
        }
        if to.scheme() == Scheme::Plain && self.authorization_file.is_some() && !is_loopback(&to) {
            problems.add(
                "alerts.authorization_file",
                "would travel in plain text to another host",
                "write https:// in alerts.url",
            );
        }
        let Self { ca, authorization_file, labels, .. } = self;
        Some(AlertsConfig { to, prefix, ca, authorization_file, severity, labels })
    }
}

fn severity(written: Option<&str>, problems: &mut Problems) -> Severity {
    let written = written.unwrap_or(Severity::Warning.as_str());
    Severity::from_name(written).unwrap_or_else(|| {
        problems.add("alerts.severity", format!("is {written:?}"), "choose \"info\", \"warning\" or \"error\"");
        Severity::Warning
    })
}

fn labels(written: &BTreeMap<String, String>, problems: &mut Problems) {
    if written.len() > LABELS_MAX {
        problems.add("alerts.labels", format!("has {}, the limit is {LABELS_MAX}", written.len()), "use fewer");
    }
    for name in written.keys() {
        let key = format!("alerts.labels.{name}");
        if OWN_LABELS.contains(&name.as_str()) {
            problems.add(key, "is a label that every alert has by itself", "choose another name");
        } else if !is_label(name) {
            problems.add(key, "is no name of a label", "use letters, digits and underscores, and no digit first");
        }
    }
}

fn is_label(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The endpoint and what follows it.
fn target(url: &str, problems: &mut Problems) -> Option<(Endpoint, String)> {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    let prefix = url[end..].trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if let Some(odd) = prefix.chars().find(|c| !plain(*c)) {
        problems.add("alerts.url", format!("has {odd:?} in its path"), "write it as https://HOST:PORT/PREFIX");
        return None;
    }
    match url[..end].parse() {
        Ok(to) => Some((to, prefix.to_owned())),
        Err(why) => {
            problems.add("alerts.url", format!("{url:?} {why}"), "as in url = \"http://127.0.0.1:9093\"");
            None
        }
    }
}

fn is_loopback(to: &Endpoint) -> bool {
    let host = to.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(change: impl FnOnce(&mut AlertsFile)) -> Result<Option<AlertsConfig>, String> {
        let mut file = AlertsFile { url: Some("http://127.0.0.1:9093".into()), ..AlertsFile::default() };
        change(&mut file);
        let mut problems = Problems::default();
        let config = file.meant(&mut problems);
        if problems.is_empty() { Ok(config) } else { Err(problems.into_invalid().to_string()) }
    }

    fn refused(change: impl FnOnce(&mut AlertsFile), because: &str) {
        let why = meant(change).unwrap_err();
        assert!(why.contains(because) && why.lines().count() == 2, "{because}: {why}");
    }

    #[test]
    fn without_an_address_nobody_is_alarmed() {
        assert_eq!(meant(|file| *file = AlertsFile::default()), Ok(None));
        assert_eq!(meant(|file| file.url = Some(String::new())), Ok(None));
        refused(|file| *file = AlertsFile { ca: Some("ca.pem".into()), ..AlertsFile::default() }, "alerts.url");
    }

    #[test]
    fn an_address_may_have_a_prefix() {
        let url = |url: &str| meant(|file| file.url = Some(url.into())).unwrap().unwrap().url();
        assert_eq!(url("http://127.0.0.1:9093"), "http://127.0.0.1:9093/api/v2/alerts");
        assert_eq!(url("http://127.0.0.1:9093/"), "http://127.0.0.1:9093/api/v2/alerts");
        assert_eq!(url("http://am.example:80/a/b/"), "http://am.example:80/a/b/api/v2/alerts");
        refused(|file| file.url = Some("am.example:80".into()), "https://");
        refused(|file| file.url = Some("http://am.example".into()), "port");
        refused(|file| file.url = Some("http://am.example:80/a?b".into()), "'?'");
    }

    #[test]
    fn whoever_is_trusted_is_named_and_secrets_are_not_said_in_the_open() {
        refused(|file| file.url = Some("https://am.example:9093".into()), "alerts.ca");
        let secret = |url: &'static str| {
            move |file: &mut AlertsFile| {
                file.url = Some(url.into());
                file.authorization_file = Some("/etc/secret".into());
            }
        };
        refused(secret("http://am.example:9093"), "plain text");
        for here in ["http://127.0.0.1:9093", "http://[::1]:9093", "http://localhost:9093"] {
            assert!(meant(secret(here)).is_ok(), "{here}");
        }
    }

    #[test]
    fn severities_and_labels_are_checked() {
        assert_eq!(meant(|file| file.severity = Some("error".into())).unwrap().unwrap().severity, Severity::Error);
        refused(|file| file.severity = Some("bad".into()), "alerts.severity");
        let label = |name: &str| {
            let name = name.to_owned();
            move |file: &mut AlertsFile| _ = file.labels.insert(name, "x".into())
        };
        assert!(meant(label("team_2")).is_ok());
        refused(label("severity"), "by itself");
        refused(label("2team"), "no name of a label");
        refused(label("te-am"), "no name of a label");
        let many = (0..=LABELS_MAX).map(|number| (format!("label_{number}"), "x".to_owned())).collect();
        refused(|file| file.labels = many, "the limit is 16");
        assert!(serde_json::from_str::<AlertsFile>(r#"{"uri": "x"}"#).is_err());
    }
}
