//! A named question to a running process: is this part of it ready for work? It does not know who asks.

use std::fmt;
use std::sync::Arc;

/// A named check. It answers at once from what the process already knows: it must not wait or do I/O.
#[derive(Clone)]
pub struct Check {
    /// Stable name, shown by `/readyz?verbose`.
    pub name: &'static str,
    /// Ready, or the reason why not, in words for an operator.
    pub run: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// A check under this name.
    pub fn new(name: &'static str, run: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, run: Arc::new(run) }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The outcome of all checks: whether every one passed, and one line a check.
#[must_use]
pub fn report(checks: &[Check]) -> (bool, String) {
    let mut ready = true;
    let mut lines = String::new();
    for check in checks {
        match (check.run)() {
            Ok(()) => lines.push_str(&format!("[+] {} ok\n", check.name)),
            Err(reason) => {
                ready = false;
                lines.push_str(&format!("[-] {} failed: {reason}\n", check.name));
            }
        }
    }
    lines.push_str(if ready { "ready\n" } else { "not ready\n" });
    (ready, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_is_enough_to_be_unready_and_is_named() {
        let checks = [Check::new("leader", || Ok(())), Check::new("disk", || Err("it is full".into()))];
        let (ready, lines) = report(&checks);
        assert!(!ready);
        assert_eq!(lines, "[+] leader ok\n[-] disk failed: it is full\nnot ready\n");
    }

    #[test]
    fn without_a_failed_check_it_is_ready() {
        assert_eq!(report(&[Check::new("leader", || Ok(()))]), (true, "[+] leader ok\nready\n".into()));
        assert!(report(&[]).0);
    }
}
