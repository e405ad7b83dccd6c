//! On which line of a TOML text each key stands. It knows nothing of what the keys mean.

use std::collections::BTreeMap;
use std::ops::Range;

use toml_edit::{ImDocument, Item, TableLike, Value};

/// Dotted key -> line, from 1. The places of a list count from 0, as in `members.0.name`.
///
/// # Errors
/// Why the text is not TOML, with its place in it.
pub(super) fn lines(text: &str) -> Result<BTreeMap<String, usize>, String> {
    let document = ImDocument::parse(text).map_err(|why| why.to_string())?;
    let mut places = Places { text, found: BTreeMap::new() };
    places.table("", document.as_table());
    Ok(places.found)
}

struct Places<'a> {
    text: &'a str,
    found: BTreeMap<String, usize>,
}

impl Places<'_> {
    fn table(&mut self, prefix: &str, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            self.note(&key, table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span()));
            match item {
                Item::Table(inner) => self.table(&key, inner),
                Item::ArrayOfTables(list) => {
                    for (place, inner) in list.iter().enumerate() {
                        let key = format!("{key}.{place}");
                        self.note(&key, inner.span());
                        self.table(&key, inner);
                    }
                }
                Item::Value(value) => self.value(&key, value),
                Item::None => {}
            }
        }
    }

    fn value(&mut self, key: &str, value: &Value) {
        match value {
            Value::InlineTable(inner) => self.table(key, inner),
            Value::Array(list) => {
                for (place, value) in list.iter().enumerate() {
                    let key = format!("{key}.{place}");
                    self.note(&key, value.span());
                    self.value(&key, value);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, key: &str, span: Option<Range<usize>>) {
        if let Some(Range { start, .. }) = span {
            self.found.insert(key.into(), 1 + self.text[..start].matches('\n').count());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tables_inline_tables_and_lists_have_their_lines() {
        let text = "name = \"c\"\n\nraft = { heartbeat_ms = 1 }\n[listen]\n# why\npeer = \"x\"\n[[members]]\nid = 1\n[[members]]\n\nid = 2\n";
        let lines = lines(text).unwrap();
        let line = |key: &str| lines.get(key).copied();
        assert_eq!(line("name"), Some(1));
        assert_eq!(line("raft.heartbeat_ms"), Some(3));
        assert_eq!(line("listen.peer"), Some(6));
        assert_eq!(line("members"), Some(7));
        assert_eq!(line("members.0.id"), Some(8));
        assert_eq!(line("members.1.id"), Some(11));
        assert_eq!(line("id"), None);
    }

    #[test]
    fn what_is_not_toml_is_said_with_its_place() {
        let why = lines("name = \"c\"\nraft = = 1\n").unwrap_err();
        assert!(why.contains("line 2"), "{why}");
    }
}
