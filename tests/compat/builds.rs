//! Which older builds there are: `builds.txt`, and the binaries that `.ci/compat.sh` made of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pilothouse::domain::feature::FeatureLevel;
use pilothouse::domain::negotiation::ProtocolRange;

/// What is listed, oldest first.
const LISTED: &str = include_str!("builds.txt");

/// An older build, or this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    /// Where its binary is.
    pub(crate) program: PathBuf,
    /// What it says of its version.
    pub(crate) version: String,
    /// The oldest and the newest feature level that it reads.
    pub(crate) levels: (u32, u32),
    /// The newest router protocol that it serves and speaks.
    pub(crate) protocol_max: u32,
}

/// A line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    commit: &'a str,
    version: &'a str,
    levels: (u32, u32),
    protocols: (u32, u32),
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_whitespace();
    let (commit, version, levels, protocols) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let range = |text: &str| {
        let (min, max) = text.split_once('-')?;
        let range = (min.parse().ok()?, max.parse().ok()?);
        (0 < range.0 && range.0 <= range.1).then_some(range)
    };
    let whole = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let line = Line { commit, version, levels: range(levels)?, protocols: range(protocols)? };
    (whole && words.next().is_none()).then_some(line)
}

fn listed() -> Vec<Line<'static>> {
    let lines = LISTED.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("builds.txt: {line:?} is no build"))).collect()
}

/// Their commits, oldest first.
pub(crate) fn commits() -> impl Iterator<Item = &'static str> {
    listed().into_iter().map(|line| line.commit)
}

/// This build.
pub(crate) fn this() -> Build {
    Build {
        program: PathBuf::from(crate::support::process::PROGRAM),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        levels: (FeatureLevel::ONE.get(), FeatureLevel::SUPPORTED.get()),
        protocol_max: ProtocolRange::SUPPORTED.max().get(),
    }
}

/// Every older build, newest first. The gate tries the newest, `COMPAT_BUILDS=all` every one.
pub(crate) fn older() -> Vec<Build> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let found = listed().into_iter().rev().map(|line| {
        let program = target.join("compat").join(line.commit).join("pilothouse");
        assert!(program.exists(), "{} is not built: run .ci/compat.sh", program.display());
        let (version, levels, protocol_max) = (line.version.to_owned(), line.levels, line.protocols.1);
        Build { program, version, levels, protocol_max }
    });
    match std::env::var("COMPAT_BUILDS").as_deref() {
        Ok("all") => found.collect(),
        Ok(other) => panic!("COMPAT_BUILDS={other}: it is `all`, or it is not set"),
        Err(_) => found.take(1).collect(),
    }
}

fn output(command: &mut Command) -> (bool, String) {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn every_line_of_the_list_is_a_build_that_is_what_it_says() {
    assert!(!listed().is_empty());
    for build in older() {
        let said = output(Command::new(&build.program).arg("--version"));
        assert_eq!(said, (true, format!("pilothouse {}\n", build.version)), "{}", build.program.display());
    }
    let this = this();
    for line in listed() {
        assert!(line.levels.1 <= this.levels.1 && line.protocols.1 <= this.protocol_max, "{line:?} knows more");
    }
}

#[test]
fn a_line_that_is_no_build_is_found() {
    let commit = "9d346723fae6246d148d4132fee9b8a5da0c1767";
    let good = format!("{commit} 0.1.0 1-2 1-2");
    assert_eq!(parse(&good), Some(Line { commit, version: "0.1.0", levels: (1, 2), protocols: (1, 2) }));
    for bad in [
        format!("{} 0.1.0 1-2 1-2", &commit[..8]),
        format!("{commit} 0.1.0 1-2"),
        format!("{commit} 0.1.0 2-1 1-2"),
        format!("{commit} 0.1.0 0-2 1-2"),
        format!("{good} more"),
    ] {
        assert_eq!(parse(&bad), None, "{bad}");
    }
}

/// A clone without its history, and one with another one, cannot build what they are asked for, and say why.
#[test]
fn a_shallow_clone_and_a_foreign_commit_are_refused_with_what_to_do() {
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = tempfile::tempdir().unwrap();
    let clone = folder.path().join("clone");
    let (done, said) =
        output(Command::new("git").args(["clone", "-q", "--depth", "1"]).arg(format!("file://{root}")).arg(&clone));
    assert!(done, "{said}");
    // As it stands here, committed or not.
    for file in [".ci/compat.sh", "tests/compat/builds.txt"] {
        std::fs::create_dir_all(clone.join(file).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(root).join(file), clone.join(file)).unwrap();
    }
    let script = || output(Command::new("bash").arg(clone.join(".ci/compat.sh")).env_remove("CARGO_TARGET_DIR"));
    let git = |arguments: &[&str]| output(Command::new("git").arg("-C").arg(&clone).args(arguments));
    assert!(git(&["remote", "remove", "origin"]).0);
    let (done, said) = script();
    assert!(!done && said.contains("git fetch --unshallow"), "{said}");

    // Where the history can be had, it is fetched.
    assert!(git(&["remote", "add", "origin", &format!("file://{root}")]).0);
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    let (done, foreign) = git(&[&who[..], &["commit-tree", "-m", "foreign", "HEAD^{tree}"]].concat());
    assert!(done, "{foreign}");
    let line = format!("{} 0.1.0 1-2 1-2\n", foreign.trim());
    std::fs::write(clone.join("tests/compat/builds.txt"), line).unwrap();
    let (done, said) = script();
    assert!(!done && said.contains("no ancestor of HEAD"), "{said}");
    assert_eq!(git(&["rev-parse", "--is-shallow-repository"]).1.trim(), "false");
}
