//! Two timelines side by side, in plain text that fits 100 columns. Pure.

use std::time::Duration;

/// Width of each of the two columns, in characters: with the time before them and the gap between them it is a line.
const COLUMN: usize = 44;
/// Width of the time before each line.
const TIME: usize = 10;

/// Whose timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The router of 1.3.1.
    Left,
    /// Ours.
    Right,
}

/// Something that happened to a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Since the start.
    pub(super) at: Duration,
    pub(super) side: Side,
    pub(super) what: String,
}

/// What stands above the columns.
pub(super) fn heading(left: &str, right: &str) -> String {
    format!("{}{}{}", line("", left, right), line("", &rule(left), &rule(right)), "")
}

/// What happened to both, in order of its time.
pub(super) fn rows(mut entries: Vec<Entry>) -> String {
    entries.sort_by_key(|entry| entry.at);
    entries.iter().map(row).collect()
}

fn row(entry: &Entry) -> String {
    let time = format!("{:>6.1} s", entry.at.as_secs_f64());
    let lines = wrapped(&entry.what).into_iter().zip(std::iter::once(time).chain(std::iter::repeat(String::new())));
    lines
        .map(|(text, time)| match entry.side {
            Side::Left => line(&time, &text, ""),
            Side::Right => line(&time, "", &text),
        })
        .collect()
}

fn line(time: &str, left: &str, right: &str) -> String {
    let line = format!("{time:TIME$}{left:COLUMN$}  {right}");
    format!("{}\n", line.trim_end())
}

fn rule(text: &str) -> String {
    "-".repeat(text.chars().count())
}

/// Words in lines that fit a column; a longer word has a line of its own.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= COLUMN => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: u64, side: Side, what: &str) -> Entry {
        Entry { at: Duration::from_millis(at_ms), side, what: what.to_owned() }
    }

    #[test]
    fn what_happened_stands_in_its_column_at_its_time() {
        let text = rows(vec![entry(2_500, Side::Right, "holds list 1.1"), entry(1_240, Side::Left, "took a list")]);
        assert_eq!(text, format!("   1.2 s  took a list\n   2.5 s  {}holds list 1.1\n", " ".repeat(46)));
        let head = heading("theirs", "ours");
        assert_eq!(head.lines().next().unwrap(), format!("{}theirs{}ours", " ".repeat(10), " ".repeat(40)));
    }

    #[test]
    fn a_long_sentence_goes_on_below_and_no_line_is_longer_than_100_columns() {
        let long = "a newer list with 0 controllers came in and it closed each control connection that it had";
        let text = rows(vec![entry(99_999, Side::Left, long), entry(99_999, Side::Right, long)]);
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.matches("100.0 s").count(), 2, "{text}");
    }
}
