//! `router list`: what is in a router's data directory.

use super::listed;
use super::table::{Table, facts};
use crate::cli::console::Tone;
use crate::router::generations::{FileState, FileView, Inspection};

/// The held list, and the state of every file, for people.
#[must_use]
pub fn list(inspection: &Inspection, colour: bool) -> String {
    let in_use = inspection.in_use();
    let version = in_use.map(|held| held.list.version().to_string());
    let cluster = inspection.cluster.map(|cluster| cluster.to_string());
    let floor = inspection.floor.map(|floor| floor.to_string());
    let mut text = facts(&[
        ("data directory", inspection.data_dir.display().to_string()),
        ("cluster", cluster.unwrap_or_else(|| "none yet".into())),
        ("list", version.unwrap_or_else(|| "none: only the configured seeds are known".into())),
        ("floor", floor.unwrap_or_else(|| "none".into())),
        ("retired controllers", listed(&inspection.retired)),
        ("set aside", listed(&inspection.set_aside)),
    ]);
    if let Some(held) = in_use {
        let mut controllers = Table::new(&["ID", "NAME", "ROLE", "ENDPOINTS"]);
        for controller in held.list.controllers() {
            let cells = vec![
                controller.id.to_string(),
                controller.name.to_string(),
                controller.role.to_string(),
                listed(&controller.endpoints),
            ];
            controllers.row(Tone::Plain, cells);
        }
        text = text + "\n" + &controllers.render(colour);
    }
    let mut files = Table::new(&["FILE", "STATE"]);
    for file in &inspection.lists {
        files.row(tone(file), vec![file.name.into(), state(file)]);
    }
    files.row(tone(&inspection.floor_file), vec![inspection.floor_file.name.into(), state(&inspection.floor_file)]);
    files.row(tone(&inspection.reserve), vec![inspection.reserve.name.into(), state(&inspection.reserve)]);
    text + "\n" + &files.render(colour)
}

fn tone<T>(file: &FileView<T>) -> Tone {
    match file.state {
        FileState::Unusable(_) => Tone::Bad,
        FileState::Absent | FileState::Valid(_) => Tone::Plain,
    }
}

fn state<T>(file: &FileView<T>) -> String {
    match &file.state {
        FileState::Absent => "absent".into(),
        FileState::Valid(_) => "good".into(),
        FileState::Unusable(why) => format!("unusable: {why}"),
    }
}
