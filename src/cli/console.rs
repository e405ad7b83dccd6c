//! Where a command writes: data to stdout, everything else to stderr, colour only on a terminal that wants it.

use std::io::{self, ErrorKind, IsTerminal, Write};

/// Emphasis of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// A heading.
    Strong,
    /// Something is wrong.
    Bad,
    /// Worth a look.
    Doubtful,
}

/// A command's two outputs.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    out_colour: bool,
    err_colour: bool,
    err_terminal: bool,
}

impl Console {
    /// What the process has.
    #[must_use]
    pub fn detect() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self { out_colour: out && !unwanted, err_colour: err && !unwanted, err_terminal: err }
    }

    /// Whether stdout takes colour.
    #[must_use]
    pub fn out_colour(&self) -> bool {
        self.out_colour
    }

    /// Whether stderr takes colour.
    #[must_use]
    pub fn err_colour(&self) -> bool {
        self.err_colour
    }

    /// Whether a person watches stderr.
    #[must_use]
    pub fn err_terminal(&self) -> bool {
        self.err_terminal
    }

    /// Writes data. A reader that has gone away, as in `| head`, is no failure.
    ///
    /// # Errors
    /// What stdout answered.
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.more_data(text).map(drop)
    }

    /// The same for what has no end. Whether anybody reads on.
    ///
    /// # Errors
    /// As the system says.
    pub fn more_data(&self, text: &str) -> io::Result<bool> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a line for people. Nobody can be told when this fails.
    pub fn note(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Text in a tone, for stderr.
    #[must_use]
    pub fn err_paint(&self, tone: Tone, text: &str) -> String {
        paint(self.err_colour, tone, text)
    }
}

/// Text in a tone.
#[must_use]
pub fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Strong => "1",
        Tone::Bad => "31",
        Tone::Doubtful => "33",
        Tone::Plain => return text.to_owned(),
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
