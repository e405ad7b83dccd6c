//! The log of a daemon: to stderr, as text or JSON, from a level or filter. It does not know what is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::failure::Failure;
use crate::ops::config::LogFormat;

/// Longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 1024;

/// Libraries that say too much, and the level at which they are heard unless the filter names them. openraft warns of each
/// heartbeat that a member misses, ten times a second; the lane to that member says so once.
const TALKATIVE: [(&str, &str); 6] = [
    ("openraft", "error"),
    ("sled", "warn"),
    ("h2", "warn"),
    ("hyper", "warn"),
    ("hyper_util", "warn"),
    ("tower", "warn"),
];

/// Starts the log of this process. Called once.
///
/// # Errors
/// When the filter is none.
pub fn start(format: LogFormat, filter: &str, colour: bool) -> Result<(), Failure> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(std::io::stderr)
        // What cannot be written is dropped. Otherwise it is reported to the same closed stderr, which panics: a router
        // whose log is a pipe would end with the reader of that pipe.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => subscriber.with_ansi(colour && std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|why| Failure::new(format!("cannot start the log: {why}")))
}

/// A level, or a list as in `info,pilothouse::raft=debug`.
///
/// # Errors
/// When a part of it would silently mean something else than what was meant.
pub fn parse(filter: &str) -> Result<EnvFilter, Failure> {
    let bad = |why: String| {
        Failure::new(format!("log.level = {filter:?}: {why}"))
            .hint("use error, warn, info, debug, trace or off, also by module: \"info,pilothouse::raft=debug\"")
    };
    if filter.len() > FILTER_BYTES_MAX {
        return Err(bad(format!("it is longer than {FILTER_BYTES_MAX} bytes")));
    }
    for part in filter.split(',').map(str::trim) {
        // Without this a mistyped level is taken for a module's name, and nothing at all is logged.
        let level = part.parse::<LevelFilter>().is_ok() && !part.is_empty();
        if !level && !part.contains(['=', ':', '[']) && part != "pilothouse" {
            return Err(bad(format!("{part:?} is not a level")));
        }
    }
    EnvFilter::try_new(with_libraries_quiet(filter)).map_err(|why| bad(why.to_string()))
}

/// Adds a directive for each library that talks to its own developers, unless the filter mentions it or wants less.
fn with_libraries_quiet(filter: &str) -> String {
    let base = filter.split(',').filter_map(|part| part.trim().parse::<LevelFilter>().ok()).next_back();
    let mut whole = filter.to_owned();
    if base.is_some_and(|base| base > LevelFilter::WARN) {
        for (library, level) in TALKATIVE.iter().filter(|(library, _)| !filter.contains(library)) {
            whole.push_str(&format!(",{library}={level}"));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_named_and_never_louder_than_the_rest() {
        assert!(with_libraries_quiet("info").starts_with("info,openraft=error,sled=warn,"));
        assert!(!with_libraries_quiet("debug,openraft=debug").contains("openraft=error"));
        for filter in ["error", "warn", "off", "pilothouse=debug"] {
            assert_eq!(with_libraries_quiet(filter), filter);
        }
    }

    #[test]
    fn levels_and_modules_are_filters_and_typos_are_not() {
        for good in ["info", "WARN", "off", "info,pilothouse::raft=debug", "pilothouse=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "info,debgu", "pilothouse=loud", &"x".repeat(FILTER_BYTES_MAX + 1)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
