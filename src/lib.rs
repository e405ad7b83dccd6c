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
//! | [`controller`] | the controller daemon: store -> raft -> services -> drain |
//! | [`router`] | the router agent: sessions, the keeper of the list, generations on disk |
//! | [`ops`] | HTTP, metrics, events |
//! | [`cli`] | commands and their rendering |
//! | [`proto`] | generated messages; nothing by hand |

pub mod cli;
pub mod controller;
pub mod domain;
pub mod ops;
pub mod proto;
pub mod raft;
pub mod router;
pub mod rpc;
pub mod storage;
