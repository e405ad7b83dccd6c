//! The only module that knows openraft: type config, log store, state machine, and the peer protocol.
//!
//! Nothing of openraft's making reaches disk or wire: [`types`] fixes the type parameters, conversions write our own
//! messages (`proto/store.proto`, `proto/peer.proto`). It does not know routers.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`], [`proposing`] | what the rest of the daemon calls |
//! | [`settings`] | what a node is told, and the seams of tests |
//! | [`identity`] | who speaks to whom: nothing reaches Raft before it was admitted |
//! | [`peer_record`] | what a controller says of itself |
//! | [`status`] | how Raft is doing |
//! | [`errors`] | one error enum a boundary |
//! | [`codec`] | our own bytes of Raft's values |
//! | [`log_store`] | Raft's log and votes on [`crate::storage`] |
//! | [`state_machine`] | the applied state; where the list is derived |
//! | [`snapshot`] | the applied state as a snapshot file, and back |
//! | [`checkpoint`] | hashes of the applied state, to compare controllers by |
//! | `upgrading` | what a change of the feature level asks of a node |
//! | `life` | what a node consists of while it lives, and its threads |
//! | `bootstrap` | how a blank controller becomes a member |
//! | `duties` | what a leader does because it leads |
//! | `steps` | carries out the steps of a membership plan |
//! | [`network`] | the peer protocol |

mod bootstrap;
pub mod checkpoint;
pub mod codec;
mod duties;
pub mod errors;
pub mod identity;
mod life;
pub mod log_store;
pub mod network;
pub mod node;
pub mod peer_record;
pub mod proposing;
pub mod settings;
pub mod snapshot;
pub mod state_machine;
pub mod status;
mod steps;
#[cfg(test)]
mod storage_suite;
pub mod types;
mod upgrading;

pub use errors::{ChangeError, Fatal, PeerError, ProposeError, StartError};
pub use identity::Identity;
pub use life::RAFT_ENDS_MS_MAX;
pub use network::dial::{Dial, Dialing, Io};
pub use node::Node;
pub use peer_record::PeerRecord;
pub use settings::{Bootstrap, InitialMember, Seams, Settings};
pub use snapshot::Trial;
pub use status::{Progress, RaftRole, Status};
pub use upgrading::HASHED_WITHIN;
