//! Tables without lines, readable without colour. A row has one tone; it does not know what the cells mean.

use comfy_table::presets::NOTHING;

use crate::cli::console::{Tone, paint};

/// A table for people.
#[derive(Debug, Clone, Default)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// One more row.
    pub fn row(&mut self, tone: Tone, cells: Vec<String>) {
        self.rows.push((tone, cells));
    }

    /// As text, a line a row.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_header(self.header.clone());
        for (_, cells) in &self.rows {
            // A cell never breaks the row: what comes from elsewhere may contain anything.
            table.add_row(cells.iter().map(|cell| cell.replace(char::is_control, " ")).collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let tones = std::iter::once(Tone::Strong).chain(self.rows.iter().map(|(tone, _)| *tone));
        let lines = table.lines().zip(tones).map(|(line, tone)| paint(colour, tone, line.trim_end()) + "\n");
        lines.collect()
    }
}

/// Names and values, one a line, aligned.
#[must_use]
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    facts.iter().map(|(name, value)| format!("{name:width$}{value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_colour_takes_no_room() {
        let mut table = Table::new(&["ID", "STATE"]);
        table.row(Tone::Plain, vec!["1".into(), "up".into()]);
        table.row(Tone::Bad, vec!["22".into(), "down\nfor long".into()]);
        assert_eq!(table.render(false), "ID  STATE\n1   up\n22  down for long\n");
        assert_eq!(table.render(true), "\x1b[1mID  STATE\x1b[0m\n1   up\n\x1b[31m22  down for long\x1b[0m\n");
    }
}
