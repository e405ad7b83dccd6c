//! Shell scripts that fail with any part of a pipe: none reads from a command that may still be writing when it leaves.
//!
//! `docker logs x | grep -q y` under `pipefail` fails now and then: grep leaves at its first match, and docker dies of
//! SIGPIPE with what it still had to say. Whether that happens is a race, so that only a rule finds it.

use super::source::{Source, texts};

/// Whether a command of a pipe may end before its input does.
fn leaves_early(reader: &str) -> bool {
    let mut words = reader.split_whitespace();
    match (words.next(), words.next()) {
        (Some("head"), _) => true,
        (Some("grep"), Some(flags)) => flags.starts_with('-') && flags.contains(['q', 'm', 'l']),
        _ => false,
    }
}

/// Lines with a pipe into a reader that leaves early, as `path:line: text`.
fn early_leavers(script: &Source) -> Vec<String> {
    let leaves = |line: &str| line.replace("||", ";").split('|').skip(1).any(leaves_early);
    let lines = (1..).zip(script.text.lines()).filter(|(_, line)| leaves(line));
    lines.map(|(number, line)| format!("{}:{number}: {}", script.path, line.trim())).collect()
}

#[test]
fn no_script_leaves_a_pipe_before_its_writer_has_ended() {
    let scripts = texts(&[".ci", "docker"], |text| text.lines().take(2).any(|line| line.contains("bash")));
    assert!(scripts.len() > 15, "only {} scripts were found", scripts.len());
    let found: Vec<String> = scripts.iter().flat_map(early_leavers).collect();
    assert!(
        found.is_empty(),
        "let the reader read to the end (`grep x >/dev/null`, `sed -n 1p`):\n{}",
        found.join("\n")
    );
}

#[test]
fn early_leavers_are_found_and_others_are_not() {
    let bad = ["docker logs x | grep -q y", "a | b | head -n 1", "a |\thead", "a | grep -xq y", "a | grep -m1 y"];
    let good = ["grep -q y <<<\"$told\"", "a | grep y >/dev/null", "a || head x", "head -n 1 file", "a | sed -n 1p"];
    for (lines, count) in [(bad, 5), (good, 0)] {
        let script = Source::new("x.sh", &lines.join("\n"));
        assert_eq!(early_leavers(&script).len(), count, "{lines:?}");
    }
}
