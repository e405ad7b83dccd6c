//! A process that writes is killed again and again at random moments. What it had acknowledged, as recorded outside of
//! it, is there each time.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use pilothouse::storage::{Directory, MetaKey};

use super::writer::{entry, say, start, term};

/// How often it is killed.
const KILLS: usize = 200;
/// Longest life of the process after its first acknowledgement, in milliseconds.
const LIFE_MS_MAX: u64 = 40;

/// What was acknowledged, as far as anybody outside knows.
#[derive(Default)]
struct Acknowledged {
    last: u64,
    vote: u64,
    count: u64,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let Some((what, number)) = line.split_once(' ') else { return };
        let Ok(number) = number.parse() else { return };
        match what {
            "ack" => self.last = self.last.max(number),
            "vote" => self.vote = self.vote.max(number),
            _ => return,
        }
        self.count += 1;
    }
}

#[test]
fn nothing_that_was_acknowledged_is_missing_after_200_kills() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("data");
    let mut acknowledged = Acknowledged::default();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for kill in 0..KILLS {
        // It lives until it has said something, and a random moment longer.
        let (mut child, mut lines, first) = begun(&directory);
        acknowledged.hear(&first);
        let life = Duration::from_millis((seed ^ (kill as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) % LIFE_MS_MAX);
        let born = Instant::now();
        while born.elapsed() < life {
            let line = lines.next().expect("it runs until it is killed");
            acknowledged.hear(&line);
        }
        child.kill().unwrap();
        // What it said before it died still counts.
        lines.for_each(|line| acknowledged.hear(&line));
        child.wait().unwrap();
        check(&directory, &acknowledged, kill);
    }
    let Acknowledged { count, last, .. } = acknowledged;
    say(&format!("{KILLS} kills, {count} acknowledgements, the last entry is {last}: nothing is missing"));
}

/// A writer that has said something.
fn begun(directory: &std::path::Path) -> (Child, impl Iterator<Item = String> + use<>, String) {
    let mut child = start("for ever", directory);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let first = lines.find(|line| {
        said.push(line.clone());
        line.starts_with("ack")
    });
    let Some(first) = first else { panic!("it ended by itself: {}", said.join("\n")) };
    (child, lines, first)
}

fn check(directory: &std::path::Path, acknowledged: &Acknowledged, kill: usize) {
    let opened = Directory::open(directory).unwrap_or_else(|why| panic!("after kill {kill}: {why}"));
    let log = opened.log();
    let last = log.last_index().expect("the first entry was acknowledged");
    assert!(last >= acknowledged.last, "after kill {kill}: entry {} is missing, the last is {last}", acknowledged.last);
    let vote = log.load(MetaKey::Vote).unwrap().map_or(0, |vote| term(&vote));
    assert!(vote >= acknowledged.vote, "after kill {kill}: vote {} is missing, the last is {vote}", acknowledged.vote);
    let first = log.purged().map_or(0, |purged| purged.index + 1);
    let mut expected = first;
    while expected <= last {
        let records = log.range(expected, last + 1, 1024 * 1024).unwrap();
        for record in records {
            assert_eq!(record, entry(expected), "after kill {kill}");
            expected += 1;
        }
    }
}
