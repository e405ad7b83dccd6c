//! What happens while a change is made: plain lines, and on a terminal a live one below them; always on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Console;

/// How often the live line moves.
const TICK: Duration = Duration::from_millis(120);

/// The progress of one change.
#[derive(Debug)]
pub struct Progress {
    console: Console,
    live: Option<ProgressBar>,
}

impl Progress {
    /// Begins; `what` and the elapsed time are the live line.
    #[must_use]
    pub fn begin(console: Console, what: &str) -> Self {
        let live = console.err_terminal().then(|| {
            let live = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            live.set_style(
                ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            live.set_message(what.to_owned());
            live.enable_steady_tick(TICK);
            live
        });
        Self { console, live }
    }

    /// What happens now. Earlier messages stay readable.
    pub fn say(&self, message: &str) {
        let line = format!("  {message}");
        match &self.live {
            Some(live) => live.println(line),
            None => self.console.note(&line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }
}
