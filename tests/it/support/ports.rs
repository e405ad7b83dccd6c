//! Ports for processes that must come back at the same address after a restart.
//!
//! Port 0 will not do for them: between two lives the system could give the port to an outgoing connection. These lie
//! below the range from which the system draws those.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// First port that is tried.
const FIRST: u16 = 16_000;
/// How many there are, all below 32,768.
const COUNT: u16 = 16_000;

/// A free port of the loopback interface that no other caller in this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run side by side begin in different places.
    let begin = u16::try_from(std::process::id() * 61 % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    panic!("no free port from {FIRST} on");
}
