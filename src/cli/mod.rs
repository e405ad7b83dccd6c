//! The operators' commands and their rendering.
//!
//! ```text
//! arguments ── what can be typed          config_layers ── defaults < file < environment < flags
//! commands ─── what is done               render ───────── values -> tables and JSON, pure
//! failure ──── why it was not done        console ──────── stdout for data, stderr for the rest
//! demo ─────── a cluster on this host, and the tour        authority_dir ── where issuers and identities lie
//! http_get ─── a probe of a process on this host
//! ```

pub mod arguments;
mod authority_dir;
pub mod commands;
pub mod config_layers;
pub mod console;
pub mod demo;
pub mod exit;
pub mod failure;
mod http_get;
pub mod logging;
pub mod panics;
pub mod parent;
pub mod progress;
pub mod render;
pub mod signals;

use std::ffi::OsString;

use clap::Parser;

use arguments::Arguments;
use console::{Console, Tone};
use exit::ExitStatus;

/// Parses, carries out, and reports: everything between `main` and the commands.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitStatus {
    let console = Console::detect();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers and go to stdout; clap knows which is which.
            let _ = error.print();
            return if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done };
        }
    };
    match commands::dispatch(arguments.command, console) {
        Ok(status) => status,
        Err(failure) => {
            let tone = |label: &str| if label == "error:" { Tone::Bad } else { Tone::Strong };
            console.note(failure.rendered(|label| console.err_paint(tone(label), label)).trim_end());
            failure.status()
        }
    }
}
