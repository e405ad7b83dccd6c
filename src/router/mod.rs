//! The router agent: it holds the list of controllers, and never loses it.
//!
//! ```text
//! agent ─ assembles, restarts from disk after a fault of its own
//!   ├── keeper ─── the one owner of the held list: decide, save, publish, answer
//!   │     └── generations ── the data directory
//!   ├── sessions ─ one active, one warm: whom to try says `candidates`, who is taken says the board
//!   ├── outputs ── for the data plane: a JSON file, a command
//!   ├── renewing ─ has the certificate renewed by controllers, where that is wanted
//!   ├── reach ──── says when no controller was reachable for too long
//!   ├── api ────── for this host: status and list over HTTP
//!   └── vitals ─── for the service manager: one line
//! enrolling ─ before the first start: a certificate for a join token, and the first list
//! ```
//!
//! A program that embeds it uses [`Agent`] and follows [`Agent::lists`]; `pilothouse router run` is [`run`].

pub mod agent;
mod api;
pub mod candidates;
pub mod config;
pub mod enrolling;
pub mod generations;
pub mod instruments;
pub mod keeper;
pub mod listen;
pub mod metrics;
pub mod outputs;
mod reach;
mod renewing;
#[cfg(test)]
mod samples;
pub mod sessions;
pub mod status;
mod vitals;

pub use agent::{Agent, AgentError, Parts, run};
pub use listen::listen;
pub use reach::NO_CONTROLLER_AFTER;
pub use sessions::{ConnectError, Connected, Connector, TcpConnector, Timing};

/// Version of this build, as routers report it.
pub const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");
