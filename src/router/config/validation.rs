//! From what was written to what was meant. All problems are reported at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    HttpListen, NO_CONTROLLER_AFTER_MS, ON_CHANGE_BYTES_MAX, Output, OutputFile, RouterConfig, RouterFile, SEEDS_MAX,
    SESSIONS_DEFAULT, SESSIONS_MAX,
};
use crate::domain::command::LABEL_BYTES_MAX;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::RouterId;
use crate::domain::principal::RoleKind;
use crate::ops::config::{InvalidConfig, Problems};
use crate::router::NO_CONTROLLER_AFTER;
use crate::tls::TlsConfig;

pub(super) fn validate(file: RouterFile) -> Result<RouterConfig, InvalidConfig> {
    let mut problems = Problems::default();
    let id = id(file.id, &mut problems);
    let data_dir = data_dir(file.data_dir, &mut problems);
    let tls = file.tls.meant(RoleKind::Router, &mut problems);
    let seeds = seeds(&file.seeds, tls.as_ref(), &mut problems);
    let sessions = sessions(file.sessions, &mut problems);
    let no_controller_after = no_controller_after(file.no_controller_after_ms, &mut problems);
    let renew_certificate = renew_certificate(file.renew_certificate, tls.as_ref(), &mut problems);
    labels(&file.labels, &mut problems);
    let output = output(file.output, data_dir.as_deref(), &mut problems);
    let http = file.http.and_then(|text| http(&text, &mut problems));
    let alerts = file.alerts.meant(&mut problems);
    let log = file.log.meant(&mut problems);
    match (id, data_dir, tls) {
        (Some(id), Some(data_dir), Some(tls)) if problems.is_empty() => {
            let labels = file.labels;
            Ok(RouterConfig {
                id,
                data_dir,
                seeds,
                sessions,
                no_controller_after,
                renew_certificate,
                labels,
                output,
                http,
                tls,
                alerts,
                log,
            })
        }
        _ => Err(problems.into_invalid()),
    }
}

fn id(id: Option<String>, problems: &mut Problems) -> Option<RouterId> {
    let Some(id) = id else {
        problems.add(
            "id",
            "is missing, and there is no default",
            "give this router an id that no other router has, as in id = \"edge-7\"",
        );
        return None;
    };
    RouterId::new(id).map_err(|why| problems.add("id", why.to_string(), "write it as in id = \"edge-7\"")).ok()
}

fn data_dir(data_dir: Option<PathBuf>, problems: &mut Problems) -> Option<PathBuf> {
    let data_dir = data_dir.filter(|dir| !dir.as_os_str().is_empty());
    if data_dir.is_none() {
        problems.add("data_dir", "is missing", "name a directory that only this router uses");
    }
    data_dir
}

fn seeds(written: &[String], tls: Option<&TlsConfig>, problems: &mut Problems) -> Vec<Endpoint> {
    if written.is_empty() {
        problems.add(
            "seeds",
            "names no controller",
            "give the router endpoint of at least one, as in seeds = [\"https://10.0.0.1:7002\"]",
        );
    }
    if written.len() > SEEDS_MAX {
        problems.add("seeds", format!("names {}, the limit is {SEEDS_MAX}", written.len()), "name fewer");
    }
    let mut seeds: Vec<Endpoint> = Vec::new();
    for (place, text) in written.iter().enumerate() {
        let key = format!("seeds[{place}]");
        match text.parse::<Endpoint>() {
            Err(why) => problems.add(key, format!("{text:?} {why}"), "write it as https://HOST:PORT"),
            Ok(seed) if seeds.contains(&seed) => problems.add(key, format!("{seed} is there twice"), "remove one"),
            Ok(seed) => {
                if let Some(tls) = tls {
                    tls.check(&key, &seed, problems);
                }
                seeds.push(seed);
            }
        }
    }
    seeds
}

fn sessions(written: Option<usize>, problems: &mut Problems) -> usize {
    let sessions = written.unwrap_or(SESSIONS_DEFAULT);
    if !(1..=SESSIONS_MAX).contains(&sessions) {
        problems.add(
            "sessions",
            format!("is {sessions}"),
            format!("choose 1 to {SESSIONS_MAX}; {SESSIONS_DEFAULT} is the default: one active, one warm"),
        );
    }
    sessions
}

fn no_controller_after(written: Option<u64>, problems: &mut Problems) -> Duration {
    let after = written.map_or(NO_CONTROLLER_AFTER, Duration::from_millis);
    if let Some(ms) = written.filter(|ms| !NO_CONTROLLER_AFTER_MS.contains(ms)) {
        problems.add("no_controller_after_ms", format!("is {ms}"), "choose 1000 to 3600000; 30000 is the default");
    }
    after
}

fn renew_certificate(written: Option<bool>, tls: Option<&TlsConfig>, problems: &mut Problems) -> bool {
    let wanted = written.unwrap_or_default();
    if wanted && matches!(tls, Some(TlsConfig::Insecure { .. })) {
        problems.add(
            "renew_certificate",
            "is set beside tls.insecure",
            "remove one: over plain text there is no certificate",
        );
    }
    wanted
}

fn labels(labels: &BTreeMap<String, String>, problems: &mut Problems) {
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > LABEL_BYTES_MAX {
        problems.add("labels", format!("has {bytes} bytes, the limit is {LABEL_BYTES_MAX}"), "shorten it");
    }
}

fn output(file: OutputFile, data_dir: Option<&Path>, problems: &mut Problems) -> Output {
    let json_file = file.json_file.filter(|path| !path.as_os_str().is_empty());
    if let (Some(json), Some(data_dir)) = (&json_file, data_dir)
        && json.parent() == Some(data_dir)
    {
        problems.add(
            "output.json_file",
            format!("{} lies in data_dir", json.display()),
            "put it elsewhere: the data directory is the router's own",
        );
    }
    let on_change = file.on_change.filter(|command| !command.trim().is_empty());
    if let Some(command) = on_change.as_ref().filter(|command| command.len() > ON_CHANGE_BYTES_MAX) {
        problems.add(
            "output.on_change",
            format!("has {} bytes, the limit is {ON_CHANGE_BYTES_MAX}", command.len()),
            "put it into a script",
        );
    }
    Output { json_file, on_change }
}

fn http(text: &str, problems: &mut Problems) -> Option<HttpListen> {
    let remedy = "write 127.0.0.1:PORT, [::1]:PORT or unix:/PATH: it is for this host only";
    if let Some(path) = text.strip_prefix("unix:") {
        if path.starts_with('/') {
            return Some(HttpListen::Unix(path.into()));
        }
        problems.add("http", format!("{text:?} is not an absolute path"), remedy);
        return None;
    }
    match text.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => return Some(HttpListen::Tcp(address)),
        Ok(address) => problems.add("http", format!("{address} is not a loopback address"), remedy),
        Err(_) => problems.add("http", format!("{text:?} is not ADDRESS:PORT"), remedy),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFile;

    fn file() -> RouterFile {
        RouterFile {
            id: Some("edge-7".into()),
            data_dir: Some("/var/lib/pilothouse".into()),
            seeds: vec!["http://10.0.0.1:7002".into(), "http://10.0.0.2:7002".into()],
            tls: TlsFile::plain(),
            ..RouterFile::default()
        }
    }

    fn problem(change: impl FnOnce(&mut RouterFile)) -> String {
        let mut file = file();
        change(&mut file);
        let invalid = file.validate().expect_err("the configuration must be refused");
        assert_eq!(invalid.problems.len(), 1, "{invalid}");
        invalid.problems[0].to_string()
    }

    #[test]
    fn the_least_configuration_has_two_sessions_and_no_surprises() {
        let config = file().validate().unwrap();
        assert_eq!((config.id.as_str(), config.sessions, config.seeds.len()), ("edge-7", 2, 2));
        assert_eq!((config.output, config.http), (Output::default(), None));
    }

    #[test]
    fn an_id_is_required_and_has_no_default() {
        let message = problem(|file| file.id = None);
        assert!(message.contains("id: is missing, and there is no default; give this router an id"), "{message}");
        assert!(problem(|file| file.id = Some(String::new())).contains("empty"));
        assert!(problem(|file| file.id = Some("x".repeat(10 * 1024))).contains("10240 bytes"));
        assert!(problem(|file| file.id = Some("edge 7".into())).contains("' '"));
    }

    #[test]
    fn at_least_one_seed_and_each_usable() {
        assert!(problem(|file| file.seeds.clear()).contains("names no controller"));
        assert!(problem(|file| file.seeds[1] = "10.0.0.2:7002".into()).contains("seeds[1]"));
        assert!(problem(|file| file.seeds[1] = "HTTP://x".to_lowercase()).contains("no port"));
        assert!(problem(|file| file.seeds[1] = file.seeds[0].clone()).contains("twice"));
        assert!(problem(|file| file.seeds[1] = "https://10.0.0.2:7002".into()).contains("TLS"));
        let many = |file: &mut RouterFile| file.seeds = (0..=SEEDS_MAX).map(|i| format!("http://c{i}:1")).collect();
        assert!(problem(many).contains("the limit is 64"));
    }

    #[test]
    fn limits_and_relations_are_checked() {
        assert!(problem(|file| file.data_dir = Some(PathBuf::new())).contains("data_dir"));
        assert!(problem(|file| file.sessions = Some(0)).contains("choose 1 to 4"));
        assert!(problem(|file| file.sessions = Some(SESSIONS_MAX + 1)).contains("choose 1 to 4"));
        assert!(problem(|file| file.no_controller_after_ms = Some(999)).contains("choose 1000 to 3600000"));
        assert!(problem(|file| file.no_controller_after_ms = Some(3_600_001)).contains("is 3600001"));
        assert!(problem(|file| file.renew_certificate = Some(true)).contains("beside tls.insecure"));
        let labels = [("site".to_owned(), "x".repeat(LABEL_BYTES_MAX))].into();
        assert!(problem(|file| file.labels = labels).contains("the limit is 4096"));
        assert!(problem(|file| file.http = Some("0.0.0.0:80".into())).contains("not a loopback address"));
        assert!(problem(|file| file.http = Some("unix:run.sock".into())).contains("absolute"));
        assert!(problem(|file| file.http = Some("here".into())).contains("ADDRESS:PORT"));
        assert!(problem(|file| file.log.format = Some("xml".into())).contains("log.format"));
        assert!(problem(|file| file.output.on_change = Some("x".repeat(5000))).contains("script"));
        let inside = Some("/var/lib/pilothouse/list.json".into());
        assert!(problem(|file| file.output.json_file = inside).contains("the router's own"));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let problems = RouterFile::default().validate().unwrap_err().problems;
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["id", "data_dir", "tls", "seeds"]);
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = serde_json::from_str::<RouterFile>(r#"{"ids": "edge-7"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `ids`"), "{error}");
    }
}
