//! Protocol 1's messages as they were, written down by hand. Never edited, and nothing of the library is in here: when
//! the library's own messages drift from these, routers that nobody upgrades are lost.
//!
//! What came with later protocols is not known here, as it is not known to those routers: versions of lists, offered
//! ranges of protocols, capabilities, keys, endorsements.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegisterRequest {
    #[prost(string, tag = "1")]
    pub(crate) router_id: String,
    #[prost(string, tag = "2")]
    pub(crate) software_version: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) boot_id: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Effect {
    Unspecified = 0,
    New = 1,
    Updated = 2,
    Unchanged = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegisterResponse {
    #[prost(enumeration = "Effect", tag = "1")]
    pub(crate) effect: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) cluster_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RouterMessage {
    #[prost(oneof = "RouterSays", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<RouterSays>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum RouterSays {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Ack(Ack),
    #[prost(message, tag = "3")]
    Nack(Nack),
    #[prost(message, tag = "4")]
    Heartbeat(RouterHeartbeat),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ControllerMessage {
    #[prost(oneof = "ControllerSays", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<ControllerSays>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ControllerSays {
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    #[prost(message, tag = "2")]
    Refused(Refused),
    #[prost(message, tag = "3")]
    Update(ListUpdate),
    #[prost(message, tag = "4")]
    Heartbeat(ControllerHeartbeat),
    #[prost(message, tag = "5")]
    Goodbye(Goodbye),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub(crate) router_id: String,
    #[prost(string, tag = "2")]
    pub(crate) software_version: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) boot_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Digest {
    #[prost(uint32, tag = "1")]
    pub(crate) scheme: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) cluster_id: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) controller_id: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) leader_hint: u64,
    #[prost(uint32, tag = "6")]
    pub(crate) heartbeat_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Refused {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(string, tag = "3")]
    pub(crate) hint: String,
    #[prost(uint32, tag = "4")]
    pub(crate) supported_min: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) supported_max: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) retry_after_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Goodbye {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(string, tag = "2")]
    pub(crate) hint: String,
    #[prost(uint32, tag = "3")]
    pub(crate) retry_after_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListUpdate {
    #[prost(uint64, tag = "1")]
    pub(crate) nonce: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) protocol: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) list: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub(crate) digest: Option<Digest>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(crate) nonce: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) digest: Option<Digest>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nack {
    #[prost(uint64, tag = "1")]
    pub(crate) nonce: u64,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
    #[prost(string, tag = "3")]
    pub(crate) message: String,
    #[prost(string, tag = "4")]
    pub(crate) hint: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RouterHeartbeat {
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) reached_controllers: Vec<u64>,
    #[prost(string, tag = "3")]
    pub(crate) source: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ControllerHeartbeat {
    #[prost(message, optional, tag = "1")]
    pub(crate) digest: Option<Digest>,
    #[prost(uint64, tag = "2")]
    pub(crate) leader_contact_age_ms: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) leader_hint: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WatchRequest {
    #[prost(string, tag = "1")]
    pub(crate) router_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FlatList {
    #[prost(string, repeated, tag = "1")]
    pub(crate) addresses: Vec<String>,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}
