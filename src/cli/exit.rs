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
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
