//! `man`

use std::fs;
use std::path::Path;

use time::OffsetDateTime;

use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::manual;

/// Writes the manual pages into a directory, over older ones.
pub(super) fn write(dir: &Path, changed: Option<OffsetDateTime>, console: Console) -> Result<ExitStatus, Failure> {
    let failed = |path: &Path, why| {
        Failure::from(anyhow::Error::new(why))
            .doing(format!("cannot write {}", path.display()))
            .hint("name a directory that can be written with --dir")
    };
    fs::create_dir_all(dir).map_err(|why| failed(dir, why))?;
    let pages = manual::pages(changed.map(OffsetDateTime::date));
    for page in &pages {
        let path = dir.join(&page.file);
        fs::write(&path, &page.text).map_err(|why| failed(&path, why))?;
    }
    console.note(&format!("{} manual pages are in {}", pages.len(), dir.display()));
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_written_over_older_ones_and_bear_the_date_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("made/for/it");
        let dated = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
        for changed in [dated(0), dated(1_700_000_000)] {
            write(&dir, changed, Console::detect()).unwrap();
        }
        let page = fs::read_to_string(dir.join("pilothouse-man.1")).unwrap();
        assert!(page.contains(".TH PILOTHOUSE-MAN 1 2023-11-14 \"Pilothouse "), "{page}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), manual::pages(None).len());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = write(&file.join("man"), None, Console::detect()).unwrap_err().rendered(str::to_owned);
        assert!(refused.contains(&file.display().to_string()) && refused.contains("\nhint: "), "{refused}");
    }
}
