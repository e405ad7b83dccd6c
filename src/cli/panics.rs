//! Panics of a daemon: each is logged where the rest is logged, and the daemon hears of it.

use std::panic::PanicHookInfo;

use tokio_util::sync::CancellationToken;

/// From now on every panic of this process is logged. The token is cancelled by the first one.
pub fn watch() -> CancellationToken {
    let panicked = CancellationToken::new();
    let heard = panicked.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        log(info);
        before(info);
        heard.cancel();
    }));
    panicked
}

fn log(info: &PanicHookInfo<'_>) {
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = info.payload_as_str().unwrap_or("no message");
    tracing::error!(at, thread, message, "panicked: report this with the lines above");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_any_thread_is_heard() {
        let panicked = watch();
        assert!(!panicked.is_cancelled());
        assert!(std::thread::spawn(|| panic!("planted")).join().is_err());
        assert!(panicked.is_cancelled());
    }
}
