//! The protocols are appended, never edited: a number that was ever used keeps its name and its type.
//!
//! `tests/data/wire.txt` lists every field, enum value and method of `proto/`. A line there may never change or go; a
//! new line is appended together with the change that brings it.

use std::collections::BTreeSet;

use super::source::document;

const PROTOCOLS: [&str; 6] = ["admin", "enrolment", "peer", "relay", "router", "store"];

/// Every declaration of a protocol, as `package.Message number name type`, sorted.
fn declarations(text: &str) -> Vec<String> {
    let (mut path, mut found) = (Vec::new(), Vec::new());
    let mut package = String::new();
    let bare: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    for line in bare.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = &without_options(line);
        if let Some(name) = line.strip_prefix("package ") {
            package = name.trim_end_matches(';').to_owned();
        } else if let Some((kind, name)) = block(line) {
            path.push(if kind == "oneof" { String::new() } else { name.to_owned() });
            if line.ends_with('}') {
                path.pop();
            }
        } else if line.starts_with('}') {
            path.pop();
        } else if let Some(declared) = declaration(line) {
            let owner: Vec<&str> = path.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
            found.push(format!("{package}.{} {declared}", owner.join(".")));
        } else {
            let other = ["syntax ", "import ", "option ", "reserved "].iter().any(|start| line.starts_with(start));
            assert!(other, "{line:?} cannot be read here: write one declaration in a line");
        }
    }
    found
}

/// `string a = 1;` of `string a = 1 [deprecated = true];`.
fn without_options(line: &str) -> String {
    match (line.find('['), line.rfind(']')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", line[..from].trim_end(), &line[to + 1..]),
        _ => line.to_owned(),
    }
}

fn block(line: &str) -> Option<(&str, &str)> {
    let mut parts = line.split_whitespace();
    let kind = parts.next().filter(|kind| ["message", "enum", "oneof", "service"].contains(kind))?;
    let name = parts.next()?;
    let inside = line.split_once('{')?.1;
    assert!(["", "}"].contains(&inside.trim()), "{line:?}: write one declaration in a line");
    Some((kind, name))
}

fn declaration(line: &str) -> Option<String> {
    if let Some(method) = line.strip_prefix("rpc ") {
        return Some(method.trim_end_matches(';').to_owned());
    }
    let (left, number) = line.trim_end_matches(';').split_once('=')?;
    let number: u32 = number.trim().parse().ok()?;
    let (kind, name) = left.trim().rsplit_once(char::is_whitespace).unwrap_or(("", left.trim()));
    Some(format!("{number} {name} {}", kind.trim()).trim_end().to_owned())
}

/// Lines of which two share an owner and a number.
fn reused(declared: &[String]) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    declared.iter().filter(|line| !seen.insert(key(line))).collect()
}

#[test]
fn no_number_of_a_protocol_is_used_twice() {
    for name in PROTOCOLS {
        let declared = declarations(&document(&format!("proto/{name}.proto")));
        assert!(declared.len() > 5, "{name}.proto: only {} declarations were found", declared.len());
        assert_eq!(reused(&declared), Vec::<&String>::new(), "{name}.proto");
    }
}

#[test]
fn the_protocols_are_appended_never_edited() {
    let now: BTreeSet<String> =
        PROTOCOLS.iter().flat_map(|name| declarations(&document(&format!("proto/{name}.proto")))).collect();
    let listed: BTreeSet<String> = document("tests/data/wire.txt").lines().map(str::to_owned).collect();
    let edited: Vec<&String> = listed.difference(&now).collect();
    let appended: Vec<&String> = now.difference(&listed).collect();
    assert!(edited.is_empty(), "these were changed or taken away, which breaks what runs elsewhere: {edited:#?}");
    assert!(appended.is_empty(), "append these to tests/data/wire.txt: {appended:#?}");
}

#[test]
fn a_field_with_options_is_one_and_what_cannot_be_read_is_no_nothing() {
    let declared =
        declarations("package p;\nmessage M {\n  repeated uint32 a = 1 [packed = false, deprecated = true];\n}\n");
    assert_eq!(declared, ["p.M 1 a repeated uint32"]);
    for odd in ["message M { string a = 1; }", "message M {\n  string a =\n    1;\n}", "extend M {"] {
        assert!(std::panic::catch_unwind(|| declarations(odd)).is_err(), "{odd}");
    }
}

#[test]
fn a_reused_number_and_an_edited_field_are_found() {
    let declared = declarations(
        "package p;\nmessage M {\n  string a = 1; // note = 7\n  oneof k {\n    uint64 b = 1;\n  }\n  enum E {\n    Z = 0;\n  }\n}\nservice S {\n  rpc R(A) returns (stream B);\n}\n",
    );
    assert_eq!(declared, ["p.M 1 a string", "p.M 1 b uint64", "p.M.E 0 Z", "p.S R(A) returns (stream B)"]);
    assert_eq!(reused(&declared), [&declared[1]]);
}
