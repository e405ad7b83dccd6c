//! Protocol 1: every address of every controller, and a single number as version. Frozen: old routers read it.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use crate::domain::controller_list::ControllerList;
use crate::proto::router::FlatList;

pub(super) fn encode(list: &ControllerList) -> Bytes {
    let endpoints = list.controllers().iter().flat_map(|controller| &controller.endpoints);
    FlatList { addresses: endpoints.map(ToString::to_string).collect(), index: list.version().flat_index() }
        .encode_to_vec()
        .into()
}

/// What such bytes say. A router concludes nothing from the index, since it names no cluster; old routers do.
pub(super) fn decode(bytes: &[u8]) -> Result<FlatList, String> {
    FlatList::decode(bytes).map_err(|error| error.to_string())
}

/// Whether bytes say what a list says: every address of it and no other, and its index. Old routers keep the highest
/// index that they ever saw and ignore lists with lower ones, so a wrong one would deafen them.
pub(super) fn says(bytes: &[u8], list: &ControllerList) -> bool {
    let meant = list.controllers().iter().flat_map(|controller| &controller.endpoints).map(ToString::to_string);
    decode(bytes).is_ok_and(|flat| {
        let carried: BTreeSet<_> = flat.addresses.into_iter().collect();
        flat.index == list.version().flat_index() && carried == meant.collect()
    })
}
