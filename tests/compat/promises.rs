//! Wire and disk formats as the older builds knew them: nothing of it was edited or taken away since.
//!
//! The house rules compare the protocols with a list that lies beside them; here the list itself is compared with what
//! history says it was, and so are the golden bytes.

use std::path::Path;
use std::process::Command;

use super::builds;

/// Where promises lie, one a line.
const PROMISES: [&str; 5] = [
    "tests/data/wire.txt",
    "tests/data/protocol-1.txt",
    "tests/data/list-1.hex",
    "tests/data/list-2.hex",
    "tests/data/store/",
];

fn git(arguments: &[&str]) -> String {
    let done = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Lines that were there then and are not there now.
fn broken(then: &str, now: &str) -> Vec<String> {
    then.lines().filter(|line| !now.lines().any(|other| other == *line)).map(str::to_owned).collect()
}

#[test]
fn what_an_older_build_knew_is_as_it_knew_it() {
    let mut looked_at = 0;
    for commit in builds::commits() {
        let listed = [&["ls-tree", "-r", "--name-only", commit, "--"], &PROMISES[..]].concat();
        for path in git(&listed).lines() {
            let then = git(&["show", &format!("{commit}:{path}")]);
            let now = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
            let now = now.unwrap_or_else(|why| panic!("{path} of {commit} is gone: {why}"));
            assert_eq!(broken(&then, &now), Vec::<String>::new(), "{path} is not what it was in {commit}");
            looked_at += then.lines().count();
        }
    }
    assert!(looked_at > 300, "only {looked_at} lines were looked at");
}

#[test]
fn a_line_that_was_edited_is_found() {
    assert_eq!(broken("a 1\nb 2\n", "a 1\nb 3\nc 4\n"), ["b 2"]);
}
