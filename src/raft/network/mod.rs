//! The peer protocol: what controllers say to each other for Raft (`proto/peer.proto`).
//!
//! | module | what it is |
//! |---|---|
//! | [`dial`] | how a connection is made: injectable, tries every address of a member, knows them anew at each connect |
//! | `lane` | one connection to one member for one purpose, with a pause after each failure |
//! | `convert` | openraft <-> messages |
//! | `client` | what openraft calls |
//! | `append` | the client's persistent append stream |
//! | `snapshot` | snapshots in chunks, both ways |
//! | `service` | the server: nothing reaches openraft before [`super::identity`] admitted it |
//! | `server` | the port, with every limit set |
//! | `ask` | the questions that need no membership: who is there, and be enlisted |

use std::error::Error;

use tonic::Status;
use tonic::transport::Channel;

use crate::proto::peer::raft_peer_client::RaftPeerClient;

pub(in crate::raft) mod append;
pub(in crate::raft) mod ask;
pub(in crate::raft) mod client;
mod convert;
pub mod dial;
pub(in crate::raft) mod lane;
pub(in crate::raft) mod server;
pub mod service;
mod snapshot;

/// Largest message between controllers, in bytes.
pub const PEER_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A client that keeps to the limits.
fn limited(channel: Channel) -> RaftPeerClient<Channel> {
    RaftPeerClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

/// What a status says, with what the transport below it said.
fn reason(status: &Status) -> String {
    let mut reason = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    reason
}
