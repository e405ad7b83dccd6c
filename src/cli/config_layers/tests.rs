//! Layers over a small written type of its own, and the messages of every error.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct File {
    name: Option<String>,
    sessions: u8,
    seeds: Vec<String>,
    members: Option<Vec<Member>>,
    listen: Listen,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    peer: Option<String>,
    http: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Member {
    id: u64,
}

impl Written for File {
    fn defaults() -> Self {
        Self { sessions: 2, listen: Listen { http: Some("h".into()), peer: None }, ..Self::default() }
    }
}

struct Case {
    _folder: tempfile::TempDir,
    layers: Layers,
}

fn written(toml: &str) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, toml).unwrap();
    Case { layers: Layers { file: Some(path), ..Layers::default() }, _folder: folder }
}

impl Case {
    fn env(mut self, variable: &str, value: &str) -> Self {
        self.layers.environment.push((variable.into(), value.into()));
        self
    }

    fn flag(mut self, key: &str, flag: &str, value: impl Into<Value>) -> Self {
        self.layers.flags.push(FlagValue::new(key, flag, value));
        self
    }

    fn load(&self) -> Result<Loaded<File>, LoadError> {
        load(&self.layers)
    }

    /// Error and hint, with the folder taken out.
    fn refused(&self) -> String {
        let error = self.load().expect_err("it must be refused");
        let folder = self.layers.file.as_ref().unwrap().parent().unwrap().display().to_string();
        format!("{error}\n{}", error.hint()).replace(&format!("{folder}/"), "")
    }
}

#[test]
fn each_layer_overrides_the_one_below_and_every_value_knows_its_origin() {
    let case = written("name = \"file\"\nseeds = [\"a\"]\n[listen]\npeer = \"file\"\n")
        .env("PILOTHOUSE_LISTEN__PEER", "environment")
        .env("PILOTHOUSE_NAME", "environment")
        .env("PILOTHOUSE_SEEDS", "[\"b\", \"c\"]")
        .flag("name", "--name", "flag");
    let loaded = case.load().unwrap();
    assert_eq!(loaded.written.name.as_deref(), Some("flag"));
    assert_eq!(loaded.written.seeds, ["b", "c"]);
    assert_eq!(loaded.written.sessions, 2);

    let origins: Vec<_> = loaded.settings.iter().map(|s| format!("{} {}", s.key, s.origin)).collect();
    assert_eq!(
        origins,
        [
            "listen.http default",
            "listen.peer environment PILOTHOUSE_LISTEN__PEER",
            "members default",
            "name flag --name",
            "seeds environment PILOTHOUSE_SEEDS",
            "sessions default"
        ]
    );
}

#[test]
fn a_value_of_the_file_names_its_line() {
    let loaded = written("# first\n[listen]\n\npeer = \"x\"\n[labels]\nzone = \"a\"\n").load().unwrap();
    assert!(loaded.origins.of("listen.peer").to_string().ends_with("c.toml:4"));
    assert!(loaded.origins.of("labels.zone").to_string().ends_with("c.toml:6"));
}

#[test]
fn unknown_keys_name_the_nearest_one_and_their_place() {
    assert_eq!(
        written("name = \"c\"\n[listen]\nhtpp = \"x\"\n").refused(),
        "unknown key \"listen.htpp\" (c.toml:3)\ndid you mean \"listen.http\"?"
    );
    assert_eq!(written("peer = \"x\"\n").refused(), "unknown key \"peer\" (c.toml:1)\ndid you mean \"listen.peer\"?");
    assert_eq!(
        written("[[members]]\nid = 1\nnmae = 2\n").refused(),
        "unknown key \"members[0].nmae\" (c.toml:3)\nknown keys there: members[0].id"
    );
    assert_eq!(
        written("").env("PILOTHOUSE_SESIONS", "1").refused(),
        "unknown key \"sesions\" (environment PILOTHOUSE_SESIONS)\ndid you mean \"sessions\"?"
    );
}

#[test]
fn bad_values_name_key_value_and_place() {
    assert_eq!(
        written("\nsessions = \"many\"\n").refused(),
        "sessions = \"many\" (c.toml:2): invalid type: found string \"many\", expected u8\n`pilothouse config show --origin` shows where each value comes from"
    );
    assert!(written("sessions = 300\n").refused().starts_with("sessions = 300 (c.toml:1): invalid value"));
    let number = written("").env("PILOTHOUSE_NAME", "7").refused();
    assert!(number.starts_with("name = 7 (environment PILOTHOUSE_NAME)"), "{number}");
    assert!(number.contains("PILOTHOUSE_NAME='\"123\"'"), "{number}");
    let table = written("listen = 3\n").refused();
    assert!(table.starts_with("listen = 3 (c.toml:1)"), "{table}");
}

#[test]
fn a_file_that_is_missing_broken_or_far_too_large_is_named() {
    let mut case = written("");
    case.layers.file = Some(case.layers.file.unwrap().with_file_name("absent.toml"));
    assert!(case.refused().starts_with("cannot read absent.toml"));
    assert!(written("name = \n").refused().starts_with("c.toml is not TOML: TOML parse error at line 1"));
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    assert!(written(&large).refused().starts_with("c.toml has"));
}

#[test]
fn variables_of_the_commands_do_not_disturb() {
    assert!(written("").env("PILOTHOUSE_ENDPOINT", "http://127.0.0.1:7003").load().is_ok());
}
