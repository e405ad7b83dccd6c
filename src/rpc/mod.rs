//! Router and admin services and clients, and the conversion between wire and domain. It does not know Raft.

pub mod admin_service;
pub mod client;
pub mod control_plane;
pub mod convert;
pub mod enrolment_service;
pub mod guard;
pub mod join_token;
pub mod list_codec;
pub mod router_service;
mod router_session;
pub mod session;
pub mod status;
pub mod visits;
