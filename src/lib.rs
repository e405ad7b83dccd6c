//! Pilothouse: a Raft-backed controller cluster whose routers can never be stranded by a bad controller list.
//!
//! ```text
//!              main ── cli
//!                      │ └────────────┐
//!                 controller        router          shells: sockets, disk, clock
//!                  │      │           │
//!                raft    rpc ─────────┘             raft and rpc do not know each other;
//!                  │      │                         controller/backend joins them
//!               storage   │
//!                  └── domain                       pure decisions over plain values
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | every decision, as a plain function: list, membership, acceptance, negotiation, state |
//! | [`storage`] | the only module that knows sled: log, votes, format marker, snapshot files |
//! | [`raft`] | the only module that knows openraft: log store, state machine, peer protocol |
//! | [`rpc`] | router and admin services and clients, wire <-> domain |
//! | [`tls`] | the only module that knows rustls and X.509: identities, verification, reload, a small authority |
//! | [`controller`] | the controller daemon: store -> raft -> services -> drain |
//! | [`router`] | the router agent: sessions, the keeper of the list, generations on disk |
//! | [`conformance`] | a hostile controller that tries routers; its own server, known to the command line only |
//! | [`ops`] | HTTP, metrics, events, alarms, liveness and what a service manager is told |
//! | [`cli`] | commands and their rendering |
//! | [`proto`] | generated messages; nothing by hand |
//!
//! Where it differs from the plan, and why:
//!
//! - A controller whose directory was wiped, or that shares another one's id, is not ended at its start: nothing on its own
//!   disk says what it was. It stays blank and up, everybody refuses it, and it says what to do every ten seconds.
//! - Index 0 of a version is refused wherever a version comes from, and not impossible by type: the field is a plain number.
//! - Tests that a tenth of a second decides are a binary of their own, `tests/timing`, so that nothing else runs meanwhile.

pub mod cli;
pub mod conformance;
pub mod controller;
pub mod domain;
pub mod ops;
pub mod proto;
pub mod raft;
pub mod router;
pub mod rpc;
pub mod storage;
pub mod tls;
