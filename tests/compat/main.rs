//! Mixed clusters: this build beside an older one, both real, in every order in which somebody may upgrade or go back.
//!
//! ```text
//! builds ── which older ones there are, and where      mixed ── a fleet of both, its load and its witnesses
//! lists ─── a witness on every controller              held ─── a witness beside every router
//! orders ── the upgrades themselves                     demo ─── the scenario of `pilothouse demo`
//! promises ─ wire and disk, as those builds knew them
//! ```
//!
//! The older binaries come out of this project's own history, by `.ci/compat.sh`. That takes a compiler, a while and a
//! clone with its history, so that `cargo test` leaves this suite out: `cargo test --test compat` runs it, and fails when
//! a binary is missing. Nothing here pretends to be an older build.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod builds;
mod demo;
mod frozen;
mod held;
mod lists;
mod mixed;
mod orders;
mod promises;

#[allow(dead_code, reason = "shared with the integration tests, which use all of it")]
#[path = "../it/support/mod.rs"]
mod support;

/// Two cores are enough for one cluster at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
