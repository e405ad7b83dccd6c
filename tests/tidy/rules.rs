//! The rules that look at one file at a time. Each returns what it found; [`super::exceptions`] says what is excused.

use super::source::{Source, document, words};

/// Longest file, in lines.
pub(crate) const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines: a screen.
pub(crate) const FUNCTION_LINES_MAX: usize = 70;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Name of the rule.
    pub(crate) rule: &'static str,
    /// Which file.
    pub(crate) path: String,
    /// Where in it.
    pub(crate) line: usize,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

/// Looks at one file.
pub(crate) type Rule = fn(&Source) -> Vec<Finding>;

/// Every rule of this file, by name.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("opening", opening),
    ("file-length", file_length),
    ("function-length", function_length),
    ("sled", |source| confined(source, "sled", "sled", "src/storage/")),
    ("rustls", |source| confined(source, "rustls", "rustls", "src/tls/")),
    ("rcgen", |source| confined(source, "rcgen", "rcgen", "src/tls/")),
    ("x509-parser", |source| confined(source, "x509-parser", "x509_parser", "src/tls/")),
    ("sd-notify", |source| confined(source, "sd-notify", "sd_notify", "src/ops/")),
    ("openraft", |source| confined(source, "openraft", "openraft", "src/raft/")),
    ("domain-purity", domain_purity),
    ("arrows", arrows),
    ("names", names),
    ("unfinished", unfinished),
    ("sleeping-test", sleeping_test),
];

/// Which modules under `src/` a module may name. Arrows point down only; raft and rpc do not know each other, router
/// does not know controller, ops knows neither.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &["domain"]),
    ("proto", &[]),
    ("storage", &["domain", "proto", "storage"]),
    ("ops", &["domain", "ops"]),
    ("tls", &["domain", "ops", "tls"]),
    ("raft", &["domain", "storage", "proto", "ops", "raft"]),
    ("rpc", &["domain", "proto", "ops", "tls", "rpc"]),
    ("controller", &["domain", "storage", "raft", "rpc", "tls", "proto", "ops", "controller"]),
    ("router", &["domain", "rpc", "tls", "proto", "ops", "router"]),
    ("conformance", &["domain", "rpc", "tls", "proto", "conformance"]),
    ("cli", &["domain", "storage", "raft", "rpc", "controller", "router", "conformance", "tls", "proto", "ops", "cli"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Functions of tests that look at a condition again and again until a deadline: they alone may pause.
const WAITS: &[&str] = &["eventually", "wait_for", "until"];

/// What is never part of a pure decision.
const IMPURE: &[&str] = &[
    "tokio",
    "async",
    "await",
    "Instant",
    "SystemTime",
    "File",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "rand",
    "thread",
    "process",
    "env",
];

fn finding(rule: &'static str, source: &Source, line: usize, message: impl Into<String>) -> Finding {
    Finding { rule, path: source.path.clone(), line, message: message.into() }
}

fn opening(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![finding("opening", source, 1, "open the file with `//!`: what it is, and what it does not know")]
}

fn file_length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let message = format!("{lines} lines, the limit is {FILE_LINES_MAX}: split it by what its parts are about");
    vec![finding("file-length", source, lines, message)]
}

fn function_length(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for at in words(&source.code, "fn") {
        let Some(length) = function_lines(&source.code[at..]) else { continue };
        if length > FUNCTION_LINES_MAX {
            let name = source.code[at + 2..].trim_start().split(['(', '<']).next().unwrap_or_default();
            let message = format!("{name} has {length} lines, the limit is {FUNCTION_LINES_MAX}: split it");
            findings.push(finding("function-length", source, source.line_of(at), message));
        }
    }
    findings
}

/// Lines from `fn` to the brace that closes its body; `None` without a body.
fn function_lines(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 && !code[..at].contains('[') => return None,
            '{' => depth += 1,
            '}' if depth == 1 => return Some(code[..at].matches('\n').count() + 1),
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn confined(source: &Source, rule: &'static str, krate: &str, home: &str) -> Vec<Finding> {
    if source.path.starts_with(home) {
        return Vec::new();
    }
    let message = format!("only {home} names {krate}: ask through its types");
    words(&source.code, krate).map(|at| finding(rule, source, source.line_of(at), message.clone())).collect()
}

fn domain_purity(source: &Source) -> Vec<Finding> {
    if source.module() != Some("domain") {
        return Vec::new();
    }
    let code = source.product();
    let mut findings = Vec::new();
    for word in IMPURE {
        let message = format!("a decision knows no `{word}`: take what it would bring as an argument");
        findings
            .extend(words(code, word).map(|at| finding("domain-purity", source, source.line_of(at), message.clone())));
    }
    for (module, allowed) in [("std::net::", &["Ipv4Addr", "Ipv6Addr", "IpAddr"][..]), ("std::fs", &[])] {
        for (at, _) in code.match_indices(module) {
            if !allowed.iter().any(|item| code[at + module.len()..].starts_with(item)) {
                let message = format!("a decision knows no `{module}`");
                findings.push(finding("domain-purity", source, source.line_of(at), message));
            }
        }
    }
    let manifest = document("Cargo.toml");
    for (at, root) in imports(code) {
        if !["serde", "thiserror"].contains(&root) && depends_on(&manifest, root) {
            let message = format!("the domain knows std, serde and thiserror only, not `{root}`");
            findings.push(finding("domain-purity", source, source.line_of(at), message));
        }
    }
    findings
}

/// Whether a manifest names this crate as a dependency of any kind.
fn depends_on(manifest: &str, krate: &str) -> bool {
    manifest.lines().filter_map(|line| line.split_once('=')).any(|(name, _)| name.trim().replace('-', "_") == krate)
}

/// The first segment of every `use`, with where it stands.
fn imports(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let segment = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    words(code, "use").filter_map(move |at| {
        let rest = code.get(at + 4..)?.trim_start_matches(':');
        Some((at, &rest[..segment(rest)]))
    })
}

fn arrows(source: &Source) -> Vec<Finding> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == module) else {
        let message = format!("`{module}` has no place in the house yet: give it one in ARROWS");
        return vec![finding("arrows", source, 1, message)];
    };
    let mut findings = Vec::new();
    for root in ["crate::", "pilothouse::"] {
        for (at, _) in source.product().match_indices(root) {
            for named in first_segments(&source.code[at + root.len()..]) {
                let known = ARROWS.iter().any(|(from, _)| *from == named);
                if known && !allowed.contains(&named) && module != "lib" {
                    let message = format!("`{module}` may not know `{named}`: arrows point down only");
                    findings.push(finding("arrows", source, source.line_of(at), message));
                }
            }
        }
    }
    findings
}

/// `a` of `a::b`, and `a`, `c` of `{a::b, c}`.
fn first_segments(rest: &str) -> Vec<&str> {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(group) = rest.strip_prefix('{') else { return vec![&rest[..name(rest)]] };
    let (mut depth, mut begin, mut segments) = (1_usize, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => begin = true,
            c if begin && depth == 1 && !c.is_whitespace() => {
                segments.push(&group[at..at + name(&group[at..])]);
                begin = false;
            }
            _ => {}
        }
    }
    segments
}

fn names(source: &Source) -> Vec<Finding> {
    let vague = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];
    let segments = source.path.trim_end_matches(".rs").split('/');
    let message = |name: &str| format!("`{name}` says nothing: name the module by what it is about");
    segments.filter(|name| vague.contains(name)).map(|name| finding("names", source, 1, message(name))).collect()
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        for mark in marks.iter().filter(|mark| line.contains(**mark)) {
            findings.push(finding("unfinished", source, number, format!("{mark}: finish it, or say why it is so")));
        }
    }
    for (at, _) in source.code.match_indices("#[ignore") {
        findings.push(finding(
            "unfinished",
            source,
            source.line_of(at),
            "an ignored test tests nothing: run or delete it",
        ));
    }
    findings
}

fn sleeping_test(source: &Source) -> Vec<Finding> {
    let code = source.tests();
    let offset = source.code.len() - code.len();
    let message = "a test does not sleep: it waits for a condition with a deadline (`eventually`, `wait_for`)";
    let waits = |at: &usize| WAITS.contains(&enclosing_function(&code[..*at]));
    let sleeps = words(code, "sleep").filter(|at| !waits(at));
    sleeps.map(|at| finding("sleeping-test", source, source.line_of(offset + at), message)).collect()
}

/// Name of the last function that began before.
fn enclosing_function(before: &str) -> &str {
    let name = words(before, "fn").last().map_or("", |at| before[at + 2..].trim_start());
    &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())]
}
