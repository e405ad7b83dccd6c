//! `pki show`: what certificates say. Keys are passed over.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use time::OffsetDateTime;

use crate::cli::arguments::{Output, PkiShow};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::json;
use crate::cli::render::pki::{Certificates, Shown, show as table};
use crate::tls::authority::{describe, read_certificates};

/// An authority's directory holds `issued`, which holds a directory for each identity.
const DEPTH_MAX: usize = 3;

pub(super) fn show(asked: &PkiShow, console: Console) -> Result<ExitStatus, Failure> {
    let mut files = Vec::new();
    if asked.path.is_dir() {
        collect(&asked.path, DEPTH_MAX, &mut files)?;
    } else {
        files.push(asked.path.clone());
    }
    let now = OffsetDateTime::from(SystemTime::now());
    let mut found = Certificates { certificates: Vec::new() };
    for path in files {
        let text = read_certificates(&path).map_err(Failure::of)?;
        let all = describe(&text).map_err(|why| Failure::of(why).doing(format!("cannot read {}", path.display())))?;
        found.certificates.extend(all.into_iter().map(|one| Shown::of(path.display().to_string(), one, now)));
    }
    if found.certificates.is_empty() {
        return Err(Failure::new(format!("there is no certificate in {}", asked.path.display()))
            .hint("give a file with BEGIN CERTIFICATE, or a directory with files that end in .pem"));
    }
    console.data(&match asked.output.output {
        Output::Json => json(&found),
        Output::Table => table(&found, console.out_colour()),
    })?;
    Ok(ExitStatus::Done)
}

/// Every file that ends in `.pem` and is not named as a key, ordered by its path.
fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let listed = || std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = listed().map_err(|why| Failure::from(why).doing(format!("cannot list {}", dir.display())))?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && depth > 1 {
            collect(&path, depth - 1, files)?;
        } else if path.is_file() && name.ends_with(".pem") && !name.ends_with("key.pem") {
            files.push(path);
        }
    }
    Ok(())
}
