//! How a command ends, for the shell that called it.

use std::process::ExitCode;

/// The exit codes. They are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done: 0.
    Done,
    /// Refused or failed, and the reason was printed: 1.
    Failed,
    /// Wrong usage: 2.
    Usage,
}

impl ExitStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Usage];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }

    /// What it says, as a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "Done.",
            Self::Failed => "Refused or failed; the reason is on standard error.",
            Self::Usage => "Wrong usage.",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
