//! How answers look: tables for people, JSON for programs. Pure: from values to text.

pub mod cluster;
pub mod conformance;
pub mod events;
pub mod held;
pub mod manual;
pub mod pki;
pub mod routers;
pub mod settings;
pub mod table;
pub mod upgrade;
pub mod value;

use serde::Serialize;

/// A view as JSON, with a newline at its end.
#[must_use]
pub fn json(view: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(view).expect("views are plain data with text keys");
    text.push('\n');
    text
}

/// A view as JSON on one line, with a newline at its end.
#[must_use]
pub fn json_line(view: &impl Serialize) -> String {
    let mut text = serde_json::to_string(view).expect("views are plain data with text keys");
    text.push('\n');
    text
}

/// Milliseconds ago, for people.
#[must_use]
pub fn ago(milliseconds: Option<u64>) -> String {
    match milliseconds {
        None => "-".into(),
        Some(ms @ 0..1_000) => format!("{ms} ms ago"),
        Some(ms @ 1_000..120_000) => format!("{} s ago", ms / 1_000),
        Some(ms @ 120_000..7_200_000) => format!("{} min ago", ms / 60_000),
        Some(ms @ 7_200_000..172_800_000) => format!("{} h ago", ms / 3_600_000),
        Some(ms) => format!("{} days ago", ms / 86_400_000),
    }
}

/// A list for people; a hyphen when it is empty.
#[must_use]
pub fn listed<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".into();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Compares with `tests/data/cli/NAME`; `BLESS=1 cargo test` writes that file anew, to be read before it is committed.
#[cfg(test)]
pub(crate) fn golden(name: &str, shown: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cli").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn ages_are_short() {
        let shown = [None, Some(7), Some(1_999), Some(125_000), Some(7_200_000), Some(400_000_000)].map(ago);
        assert_eq!(shown, ["-", "7 ms ago", "1 s ago", "2 min ago", "2 h ago", "4 days ago"]);
    }
}
