//! The rules on small bad samples: a rule that finds nothing is no rule.

use super::rules::{FILE_LINES_MAX, FUNCTION_LINES_MAX, RULES};
use super::source::Source;

fn found(rule: &str, path: &str, text: &str) -> Vec<usize> {
    let (_, rule) = RULES.iter().find(|(name, _)| *name == rule).unwrap();
    rule(&Source::new(path, text)).into_iter().map(|finding| finding.line).collect()
}

#[test]
fn every_rule_finds_its_bad_sample_and_passes_its_good_one() {
    let long_file = format!("//! x\n{}", "\n".repeat(FILE_LINES_MAX));
    let full_file = format!("//! x\n{}", "\n".repeat(FILE_LINES_MAX - 1));
    let long_function = format!("fn f() {{\n{}}}\n", "x;\n".repeat(FUNCTION_LINES_MAX));
    let full_function = format!("fn f() -> [u8; 4] {{\n{}}}\n", "x;\n".repeat(FUNCTION_LINES_MAX - 2));
    let todo = format!("// {}: later\n", concat!("TO", "DO"));
    let domain = "src/domain/ids.rs";
    // rule, path, text, lines that are wrong
    let table: &[(&str, &str, &str, &[usize])] = &[
        ("opening", "src/a.rs", "use std::fmt;\n", &[1]),
        ("opening", "src/a.rs", "//! What it is.\n", &[]),
        ("file-length", "src/a.rs", &long_file, &[FILE_LINES_MAX + 1]),
        ("file-length", "src/a.rs", &full_file, &[]),
        ("function-length", "src/a.rs", &long_function, &[1]),
        ("function-length", "src/a.rs", &full_function, &[]),
        ("function-length", "src/a.rs", "trait T {\n fn f(&self);\n}\n", &[]),
        ("sled", "src/raft/a.rs", "use sled::Db;\n", &[1]),
        ("sled", "src/storage/a.rs", "use sled::Db;\n", &[]),
        ("sled", "src/raft/a.rs", "// sled::Db\nlet a = \"sled\"; let bobsled = 1;\n", &[]),
        ("rustls", "src/rpc/a.rs", "use rustls::ServerConfig;\nuse tokio_rustls::A;\n", &[1]),
        ("rustls", "src/tls/a.rs", "use rustls::ServerConfig;\n", &[]),
        ("rcgen", "src/cli/a.rs", "use rcgen::KeyPair;\n", &[1]),
        ("rcgen", "src/tls/authority/a.rs", "use rcgen::KeyPair;\n", &[]),
        ("x509-parser", "tests/it/a.rs", "use x509_parser::pem;\n", &[1]),
        ("x509-parser", "src/tls/a.rs", "use x509_parser::pem;\n", &[]),
        ("sd-notify", "src/cli/a.rs", "fn f() { sd_notify::notify(&[]) }\n", &[1]),
        ("sd-notify", "src/ops/a.rs", "use sd_notify::NotifyState;\n", &[]),
        ("openraft", "tests/it/a.rs", "\nfn f(raft: &openraft::Raft<T>) {}\n", &[2]),
        ("openraft", "src/raft/a.rs", "use openraft::Raft;\n", &[]),
        ("domain-purity", domain, "use tokio::time;\n", &[1, 1]),
        ("domain-purity", domain, "pub async fn f() {}\n", &[1]),
        ("domain-purity", domain, "fn f() { std::fs::read(p) }\n", &[1]),
        ("domain-purity", domain, "use std::net::TcpListener;\n", &[1, 1]),
        ("domain-purity", domain, "fn f() { a.parse::<std::net::Ipv6Addr>() }\n", &[]),
        ("domain-purity", domain, "use prost::Message;\n", &[1]),
        ("domain-purity", domain, "use serde::Serialize;\nuse super::ids;\n", &[]),
        ("domain-purity", domain, "#[cfg(test)]\nmod tests { use proptest::prelude::*; }\n", &[]),
        ("domain-purity", "src/router/a.rs", "use tokio::time;\n", &[]),
        ("arrows", "src/raft/a.rs", "use crate::rpc::Status;\n", &[1]),
        ("arrows", "src/rpc/a.rs", "use crate::{domain::ids, raft::{node, types}};\n", &[1]),
        ("arrows", "src/router/a.rs", "fn f(c: crate::controller::Config) {}\n", &[1]),
        ("arrows", "src/ops/a.rs", "use crate::router::Agent;\n", &[1]),
        ("arrows", "src/storage/a.rs", "use crate::raft::Node;\n", &[1]),
        ("arrows", "src/attic/a.rs", "", &[1]),
        ("arrows", "src/controller/a.rs", "use crate::raft::Node;\nuse crate::rpc::Hub;\n", &[]),
        ("names", "src/raft/utils.rs", "", &[1]),
        ("names", "src/common/a.rs", "", &[1]),
        ("names", "src/raft/node.rs", "", &[]),
        ("unfinished", "src/a.rs", &todo, &[1]),
        ("unfinished", "tests/it/a.rs", "\n#[ignore]\nfn f() {}\n", &[2]),
        ("unfinished", "tests/it/a.rs", "#[ignore = \"slow\"]\n", &[1]),
        ("sleeping-test", "tests/it/a.rs", "fn f() { tokio::time::sleep(SECOND).await }\n", &[1]),
        (
            "sleeping-test",
            "src/a.rs",
            "fn f() { sleep(A) }\n#[cfg(test)]\nmod tests {\n fn g() { sleep(A) }\n}\n",
            &[4],
        ),
        ("sleeping-test", "src/a.rs", "fn f() { sleep(A) }\n", &[]),
        ("sleeping-test", "tests/it/a.rs", "fn wait_for() { sleep(A) }\nfn f() {\n sleep(A)\n}\n", &[3]),
    ];
    for (rule, path, text, wrong) in table {
        assert_eq!(&found(rule, path, text), wrong, "{rule} on {path}:\n{text}");
    }
    for (name, _) in RULES {
        assert!(table.iter().any(|(rule, _, _, wrong)| rule == name && !wrong.is_empty()), "no bad sample for {name}");
    }
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a /* b /* c */ d */ e\n'f' '\\'' 'g\nr#\"h \" i\"# b\"j\\\"k\" l // m\n";
    let code = Source::new("src/a.rs", text).code;
    let left: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(left, ["a", "e", "'g", "l"]);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.lines().count(), text.lines().count());
}
