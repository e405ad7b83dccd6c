//! What happens when the disk fails: the process ends, with a message that says why and what to do.
//!
//! After a failed sync nobody can say which writes are on the disk, so there is nothing to retry (the kernel may have
//! dropped the pages and will report success the next time). Tests give a hook of their own to observe it.

use std::fmt;
use std::sync::Arc;

/// Exit code of a controller whose disk failed.
const FATAL_EXIT_CODE: i32 = 1;

/// Called once, when a write or sync has failed. The log answers nothing but errors from then on.
#[derive(Clone)]
pub struct OnFatal(Arc<Hook>);

type Hook = dyn Fn(&dyn std::error::Error) + Send + Sync;

impl OnFatal {
    /// Says why, and ends the process.
    #[must_use]
    pub fn exit() -> Self {
        Self::call(|error| {
            tracing::error!(error = %error, "stopping: the disk can no longer be relied on");
            std::process::exit(FATAL_EXIT_CODE);
        })
    }

    /// Calls this instead.
    #[must_use]
    pub fn call(hook: impl Fn(&dyn std::error::Error) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    /// Reports a failure that nothing can be done about.
    pub fn raise(&self, error: &dyn std::error::Error) {
        (self.0)(error);
    }
}

impl fmt::Debug for OnFatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnFatal")
    }
}
