//! What is excused from a rule, by name and with the reason. An entry that excuses nothing any more is a failure too.

/// Rule, path, and why.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[];
