//! The command line as a shell sees it: exit codes, what is on which output, and what configuration amounts to.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// What a command answered.
pub(crate) struct Answer {
    /// Its exit status.
    pub(crate) code: i32,
    /// What was on stdout.
    pub(crate) out: String,
    /// What was on stderr.
    pub(crate) err: String,
}

/// Runs the built binary.
pub(crate) fn pilothouse(arguments: &[&str]) -> Answer {
    with_environment(arguments, &[])
}

/// Runs the built binary, without whatever of ours stands in the tests' own environment.
fn with_environment(arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilothouse"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PILOTHOUSE_")) {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } =
        command.args(arguments).envs(environment.iter().copied()).output().expect("the binary was built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Answer { code: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn wrong_usage_ends_with_2_and_says_so_on_stderr() {
    for arguments in [
        &["--nonsense"][..],
        &["cluster"],
        &["cluster", "status", "--endpoint", "127.0.0.1:1"],
        &["cluster", "promote", "zero"],
        &["cluster", "readdress", "1"],
        &["routers", "show", "not a name"],
        &["controller", "check", "--set", "nothing"],
        &[],
    ] {
        let answer = pilothouse(arguments);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments:?}: {}", answer.err);
        assert!(!answer.err.is_empty());
    }
}

#[test]
fn help_and_version_are_answers() {
    let help = pilothouse(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for command in ["controller", "cluster", "routers", "config", "pki", "completions"] {
        assert!(help.out.contains(command), "{command}: {}", help.out);
    }
    let cluster = pilothouse(&["cluster", "--help"]);
    for command in ["status", "members", "add", "promote", "demote", "remove", "readdress", "transfer"] {
        assert!(cluster.out.contains(&format!("  {command} ")), "{command}: {}", cluster.out);
    }
    assert_eq!(pilothouse(&["--version"]).out, format!("pilothouse {}\n", env!("CARGO_PKG_VERSION")));
    assert!(pilothouse(&["completions", "bash"]).out.contains("_pilothouse()"));
}

#[test]
fn an_endpoint_that_does_not_answer_is_named_with_a_hint_and_nothing_is_on_stdout() {
    // Nobody listens on a port that was bound and given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    for command in
        [&["cluster", "status"][..], &["cluster", "promote", "2", "--wait"], &["routers", "list", "-o", "json"]]
    {
        let answer = with_environment(command, &[("PILOTHOUSE_ENDPOINT", &endpoint), ("PILOTHOUSE_INSECURE", "yes")]);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{command:?}");
        assert!(answer.err.contains(&endpoint) && answer.err.contains("\nhint: "), "{}", answer.err);
        assert!(!answer.err.contains('\x1b'), "no colour outside of a terminal");
    }
}

#[test]
fn the_deadline_holds_against_a_controller_that_never_answers() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let begun = std::time::Instant::now();
    let answer = pilothouse(&["cluster", "status", "--timeout", "1", "--insecure", "--endpoint", &endpoint]);
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("hint: "), "{}", answer.err);
}

#[test]
fn unknown_keys_and_bad_relations_name_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let typo = written(folder.path(), "typo.toml", "name = \"c\"\n[listen]\npeeer = \"127.0.0.1:1\"\n");
    let answer = pilothouse(&["controller", "check", "--config", &typo]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("\"listen.peeer\"") && answer.err.contains("typo.toml:3"), "{}", answer.err);
    assert!(answer.err.contains("did you mean \"listen.peer\"?"), "{}", answer.err);

    let both = "name = \"c\"\ndata_dir = \"/tmp/x\"\nid = 1\njoin = true\ninitial_members = []\ntls.insecure = true\n";
    let both = written(folder.path(), "both.toml", both);
    let answer = pilothouse(&["controller", "check", "--config", &both]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("both.toml:4") && answer.err.contains("initial_members"), "{}", answer.err);
}

#[test]
fn config_show_says_where_each_value_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(
        folder.path(),
        "c.toml",
        "name = \"file\"\ndata_dir = \"file\"\n[listen]\npeer = \"127.0.0.1:9001\"\nrouter = \"127.0.0.1:9002\"\n[tls]\ninsecure = true\n",
    );
    let arguments =
        ["config", "show", "--origin", "--config", &file, "--data-dir", "flag", "--set", "raft.heartbeat_ms=150"];
    let environment = [("PILOTHOUSE_LISTEN__ROUTER", "127.0.0.1:9999"), ("PILOTHOUSE_ENDPOINT", "http://127.0.0.1:1")];

    let table = with_environment(&arguments, &environment);
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    let json = with_environment(&[&arguments[..], &["-o", "json"]].concat(), &environment);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["role"], "controller");
    for (key, value, origin) in [
        ("name", Value::from("file"), format!("{file}:1")),
        ("data_dir", "flag".into(), "flag --data-dir".into()),
        ("listen.peer", "127.0.0.1:9001".into(), format!("{file}:4")),
        ("listen.router", "127.0.0.1:9999".into(), "environment PILOTHOUSE_LISTEN__ROUTER".into()),
        ("listen.http", "127.0.0.1:7004".into(), "default".into()),
        ("raft.heartbeat_ms", 150.into(), "flag --set".into()),
        ("admin_socket", Value::Null, "default".into()),
    ] {
        let shown = json["settings"].as_array().unwrap().iter().find(|shown| shown["key"] == key).expect(key);
        assert_eq!((&shown["value"], &shown["origin"]), (&value, &origin.clone().into()), "{key}");
        let line = table.out.lines().find(|line| line.starts_with(&format!("{key} "))).expect(key);
        assert!(line.ends_with(&origin), "{line}");
    }
}

#[test]
fn the_examples_are_usable_as_they_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let example = pilothouse(&["controller", "example-config"]);
    assert_eq!((example.code, example.err.as_str()), (0, ""));
    let file = written(folder.path(), "controller.toml", &example.out);
    let shown = pilothouse(&["config", "show", "--config", &file]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.contains("name = \"controller-1\"\n"), "{}", shown.out);
}

#[test]
fn a_check_finds_what_a_start_would_meet_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let data = folder.path().join("data");
    let text = format!(
        "name = \"c\"\njoin = true\ndata_dir = \"{}\"\n[listen]\npeer = \"127.0.0.1:0\"\nrouter = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[tls]\ninsecure = true\n",
        data.display()
    );
    let file = written(folder.path(), "c.toml", &text);
    let good = pilothouse(&["controller", "check", "--config", &file]);
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(good.out.contains("is made at the first start"), "{}", good.out);

    let admin = taken.local_addr().unwrap().to_string();
    let bad = pilothouse(&["controller", "check", "--config", &file, "--listen-admin", &admin]);
    assert_eq!(bad.code, 1);
    let line = bad.out.lines().find(|line| line.starts_with("admin port")).unwrap();
    assert!(line.contains("bad") && line.contains(&admin), "{}", bad.out);
    assert!(!data.exists(), "a check makes nothing");
}
