//! A process that ends with the one that started it: its standard input is a pipe that nobody writes to, and the end
//! of that pipe means that the parent is gone, however it went.
//!
//! Portable, and without a moment in which it could be missed: the kernel closes the pipe when the parent dies, even by
//! SIGKILL and even if that happens before the child looks. It does not know what a stop entails: it sends this process
//! the SIGTERM that an operator would send.

use std::io::Read;

use nix::sys::signal::{Signal, raise};

/// The hidden flag by which a child is told.
pub const FLAG: &str = "--exit-with-parent";

/// From now on the end of standard input stops this process in order.
///
/// # Errors
/// When no thread can be started.
pub fn exit_with_it() -> std::io::Result<()> {
    std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
        await_end(std::io::stdin().lock());
        tracing::info!("the process that started this one is gone: stopping");
        // Cannot fail: the signal is valid and the process is this one.
        let _ = raise(Signal::SIGTERM);
    })?;
    Ok(())
}

/// Returns when there is nothing left to read.
fn await_end(mut input: impl Read) {
    let mut scratch = [0_u8; 64];
    loop {
        match input.read(&mut scratch) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_seen_when_the_last_writer_is_gone_and_not_before() {
        let (reader, writer) = std::io::pipe().unwrap();
        let waiting = std::thread::spawn(move || await_end(reader));
        assert!(!waiting.is_finished());
        drop(writer);
        waiting.join().unwrap();
    }
}
