//! Why a command did not do what it was asked for: a chain of causes, a hint, and the exit status.
//!
//! Every command fails through this type, so that every failure is printed in one place and in one form.

use std::fmt;

use tonic::Code;

use super::config_layers::LoadError;
use super::exit::ExitStatus;
use crate::domain::access::Denied;
use crate::rpc::client::ClientError;
use crate::rpc::status::words_and_hint;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    status: ExitStatus,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// Refused or failed.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { status: ExitStatus::Failed, error: anyhow::anyhow!("{message}"), hint: None }
    }

    /// Used in a way that cannot work.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { status: ExitStatus::Usage, ..Self::new(message) }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What was being done.
    #[must_use]
    pub fn doing(self, what: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { error: self.error.context(what), ..self }
    }

    /// As an error among others: its chain, and the hint, in one sentence.
    #[must_use]
    pub fn into_error(self) -> anyhow::Error {
        match self.hint {
            Some(hint) => anyhow::anyhow!("{:#}; {hint}", self.error),
            None => self.error,
        }
    }

    /// How the process ends.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The whole chain, and the hint on a line of its own; `paint` colours the two labels.
    #[must_use]
    pub fn rendered(&self, paint: impl Fn(&str) -> String) -> String {
        let mut said = self.error.to_string();
        let mut text = format!("{} {said}\n", paint("error:"));
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            // Some errors quote their cause, since they are also read where there is no chain.
            if !said.contains(&cause) {
                text.push_str(&format!("  because {cause}\n"));
            }
            said = cause;
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{} {hint}\n", paint("hint:")));
        }
        text
    }
}

impl Failure {
    /// Of an error that says its own remedy, as those of the rooms below do.
    pub(crate) fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { status: ExitStatus::Failed, error, hint: None }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let hint = error.hint();
        Self { status: ExitStatus::Failed, error: error.into(), hint: Some(hint) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoTarget => Self::new("no controller to ask").hint(
                "give --endpoint https://HOST:PORT (the admin port), set PILOTHOUSE_ENDPOINT, or name a file with --config",
            ),
            ClientError::Unreachable { tried } => {
                let tried: Vec<_> = tried.iter().map(|(target, why)| format!("{target} ({why})")).collect();
                Self::new(format!("no controller answered: {}", tried.join(", ")))
                    .hint("check that a controller runs, and that these are admin ports; several --endpoint are tried in turn")
            }
            ClientError::Refused { at, reason, .. } if reason == Denied::Unknown.code() => {
                Self::new(format!("{at} runs a version that does not know this command"))
                    .hint("upgrade a controller, and name all of them: whoever knows it is asked")
            }
            ClientError::Refused { at, code: Code::Unimplemented, .. } => {
                Self::new(format!("{at} is no admin port")).hint("a controller's admin port is its `listen.admin`")
            }
            ClientError::Refused { at, message, hint, .. } => {
                let (message, hint) = words_and_hint(&message, hint.as_deref());
                let hint = Some(hint).filter(|hint| !hint.is_empty());
                let otherwise = || format!("{at} answered so; `pilothouse cluster status` shows the cluster");
                Self::new(message).hint(hint.unwrap_or_else(otherwise))
            }
            ClientError::Broken { at, message } => Self::new(format!("{at} did not finish its answer: {message}"))
                .hint(
                    "if a change was asked for, it may have happened: look at `pilothouse cluster status` before you repeat it; if this was no change, check that this is an admin port",
                ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::client::Target;

    fn plain(failure: &Failure) -> String {
        failure.rendered(str::to_owned)
    }

    #[test]
    fn the_chain_and_the_hint_are_printed() {
        let failure = Failure::from(std::io::Error::other("disk on fire")).doing("cannot open /x").hint("water");
        assert_eq!(plain(&failure), "error: cannot open /x\n  because disk on fire\nhint: water\n");
        assert_eq!(failure.status(), ExitStatus::Failed);
    }

    #[test]
    fn a_cause_that_is_quoted_is_not_said_twice() {
        let failure = Failure::from(std::io::Error::other("disk on fire")).doing("cannot open /x: disk on fire; water");
        assert_eq!(plain(&failure), "error: cannot open /x: disk on fire; water\n");
    }

    #[test]
    fn a_refusal_does_not_say_its_hint_twice() {
        let refused = ClientError::Refused {
            at: Target::Socket("/s".into()),
            reason: "would_lose_quorum".into(),
            message: "controller 2 is down; repair it first".into(),
            hint: Some("repair it first".into()),
            code: Code::FailedPrecondition,
        };
        assert_eq!(plain(&refused.into()), "error: controller 2 is down\nhint: repair it first\n");
    }

    #[test]
    fn an_older_controller_is_not_taken_for_a_wrong_port() {
        let refused = |reason: &str| ClientError::Refused {
            at: Target::Socket("/s".into()),
            reason: reason.into(),
            message: "there is no such RPC here".into(),
            hint: None,
            code: Code::Unimplemented,
        };
        assert!(plain(&refused("unknown_rpc").into()).contains("a version that does not know this command"));
        assert!(plain(&refused("").into()).contains("is no admin port"));
    }

    #[test]
    fn every_client_error_has_a_hint() {
        let at = Target::Socket("/s".into());
        let errors = [
            ClientError::NoTarget,
            ClientError::Unreachable { tried: vec![(at.clone(), "gone".into())] },
            ClientError::Broken { at: at.clone(), message: "cut".into() },
            ClientError::Refused {
                at: at.clone(),
                reason: String::new(),
                message: String::new(),
                hint: None,
                code: Code::Unimplemented,
            },
            ClientError::Refused { at, reason: String::new(), message: "no".into(), hint: None, code: Code::Internal },
        ];
        for error in errors {
            let text = plain(&error.into());
            assert!(text.contains("\nhint: "), "{text}");
        }
    }
}
