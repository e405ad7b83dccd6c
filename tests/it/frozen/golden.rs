//! Every message of protocol 1 as bytes, in both directions: the frozen messages and the library's own write the same
//! bytes and read the same values from them. `tests/data/protocol-1.txt` is never edited.

use std::fmt::{Debug, Write as _};

use pilothouse::proto::router as now;
use prost::Message;

use super::messages as frozen;

const GOLDEN: &str = include_str!("../../data/protocol-1.txt");

const CLUSTER: [u8; 4] = [0xc1, 0x05, 0x7e, 0x12];

/// Both encodings of one value, each read by the other side, and its name.
fn both<F, N>(name: &'static str, frozen: &F, now: &N) -> (&'static str, Vec<u8>)
where
    F: Message + Default + PartialEq + Debug,
    N: Message + Default + PartialEq + Debug,
{
    let bytes = frozen.encode_to_vec();
    assert!(!bytes.is_empty(), "{name}: a value that fills every field");
    assert_eq!(N::decode(&*bytes).as_ref(), Ok(now), "{name}: what protocol 1 wrote, read today");
    assert_eq!(now.encode_to_vec(), bytes, "{name}: what is written today");
    assert_eq!(F::decode(&*now.encode_to_vec()).as_ref(), Ok(frozen), "{name}: what is written today, read then");
    (name, bytes)
}

fn text(word: &str) -> String {
    word.to_owned()
}

fn digests() -> (frozen::Digest, now::Digest) {
    let value = vec![7; 4];
    (frozen::Digest { scheme: 1, value: value.clone() }, now::Digest { scheme: 1, value })
}

fn registering() -> Vec<(&'static str, Vec<u8>)> {
    let old = frozen::RegisterRequest {
        router_id: text("old-1"),
        software_version: text("1.3.1"),
        boot_id: vec![9; 16],
        sequence: 300,
        labels: [(text("zone"), text("north"))].into(),
    };
    let new = now::RegisterRequest {
        router_id: text("old-1"),
        software_version: text("1.3.1"),
        boot_id: vec![9; 16],
        sequence: 300,
        labels: [(text("zone"), text("north"))].into(),
        ..Default::default()
    };
    let effects = [
        ("RegisterResponse.new", frozen::Effect::New, now::register_response::Effect::New),
        ("RegisterResponse.updated", frozen::Effect::Updated, now::register_response::Effect::Updated),
        ("RegisterResponse.unchanged", frozen::Effect::Unchanged, now::register_response::Effect::Unchanged),
    ];
    let answers = effects.map(|(name, old, new)| {
        let old = frozen::RegisterResponse { effect: old.into(), cluster_id: CLUSTER.into() };
        let new = now::RegisterResponse { effect: new.into(), cluster_id: CLUSTER.to_vec() };
        both(name, &old, &new)
    });
    [both("RegisterRequest", &old, &new)].into_iter().chain(answers).collect()
}

fn router_says(name: &'static str, old: frozen::RouterSays, new: now::router_message::Kind) -> (&'static str, Vec<u8>) {
    both(name, &frozen::RouterMessage { kind: Some(old) }, &now::RouterMessage { kind: Some(new) })
}

fn from_routers() -> Vec<(&'static str, Vec<u8>)> {
    use frozen::RouterSays as Then;
    use now::router_message::Kind as Now;
    let (id, version, boot_id) = (text("old-1"), text("1.3.1"), vec![9; 16]);
    let hello = frozen::Hello { router_id: id.clone(), software_version: version.clone(), boot_id: boot_id.clone() };
    let hello_now = now::Hello { router_id: id, software_version: version, boot_id, ..Default::default() };
    let (digest, digest_now) = digests();
    let ack = frozen::Ack { nonce: 200, digest: Some(digest) };
    let ack_now = now::Ack { nonce: 200, digest: Some(digest_now), version: None };
    let (reason, message, hint) = (text("empty"), text("no addresses"), text("ask another"));
    let nack = frozen::Nack { nonce: 3, reason: reason.clone(), message: message.clone(), hint: hint.clone() };
    let nack_now = now::Nack { nonce: 3, reason, message, hint, late: false };
    let beat = frozen::RouterHeartbeat { reached_controllers: vec![1, 300], source: text("newest") };
    let beat_now = now::RouterHeartbeat {
        held: None,
        reached_controllers: vec![1, 300],
        source: text("newest"),
        conditions: None,
    };
    vec![
        router_says("RouterMessage.hello", Then::Hello(hello), Now::Hello(hello_now)),
        router_says("RouterMessage.ack", Then::Ack(ack), Now::Ack(ack_now)),
        router_says("RouterMessage.nack", Then::Nack(nack), Now::Nack(nack_now)),
        router_says("RouterMessage.heartbeat", Then::Heartbeat(beat), Now::Heartbeat(beat_now)),
        both(
            "WatchRequest",
            &frozen::WatchRequest { router_id: text("old-2") },
            &now::WatchRequest { router_id: text("old-2"), ..Default::default() },
        ),
    ]
}

fn lists() -> [(&'static str, Vec<u8>); 2] {
    let addresses = vec![text("http://10.0.1.1:7002"), text("http://[2001:db8::1]:7002")];
    let index = (1 << 32) | 77;
    let flat = frozen::FlatList { addresses: addresses.clone(), index };
    let list = flat.encode_to_vec();
    let (digest, digest_now) = digests();
    let update = frozen::ListUpdate { nonce: 200, protocol: 1, list: list.clone(), digest: Some(digest) };
    let update_now =
        now::ListUpdate { nonce: 200, protocol: 1, list: list.into(), digest: Some(digest_now), ..Default::default() };
    [both("FlatList", &flat, &now::FlatList { addresses, index }), both("ListUpdate", &update, &update_now)]
}

fn controller_says(
    name: &'static str,
    old: frozen::ControllerSays,
    new: now::controller_message::Kind,
) -> (&'static str, Vec<u8>) {
    both(name, &frozen::ControllerMessage { kind: Some(old) }, &now::ControllerMessage { kind: Some(new) })
}

fn from_controllers() -> Vec<(&'static str, Vec<u8>)> {
    use frozen::ControllerSays as Then;
    use now::controller_message::Kind as Now;
    let welcome = frozen::Welcome {
        protocol: 1,
        cluster_id: CLUSTER.into(),
        controller_id: 2,
        leader_hint: 3,
        heartbeat_ms: 1000,
    };
    let welcome_now = now::Welcome {
        protocol: 1,
        capabilities: Vec::new(),
        cluster_id: CLUSTER.to_vec(),
        controller_id: 2,
        leader_hint: 3,
        heartbeat_ms: 1000,
    };
    let (reason, message, hint) = (text("no_common_protocol"), text("too old"), text("upgrade"));
    let (supported_min, supported_max, retry_after_ms) = (2, 3, 500);
    let refused = frozen::Refused {
        reason: reason.clone(),
        message: message.clone(),
        hint: hint.clone(),
        supported_min,
        supported_max,
        retry_after_ms,
    };
    let refused_now =
        now::Refused { reason, message, hint, supported_min, supported_max, retry_after_ms, ..Default::default() };
    let (reason, hint) = (text("draining"), text("go elsewhere"));
    let goodbye = frozen::Goodbye { reason: reason.clone(), hint: hint.clone(), retry_after_ms };
    let goodbye_now = now::Goodbye { reason, hint, retry_after_ms };
    let (digest, digest_now) = digests();
    let (leader_contact_age_ms, leader_hint) = (150, 3);
    let beat = frozen::ControllerHeartbeat { digest: Some(digest), leader_contact_age_ms, leader_hint };
    let beat_now = now::ControllerHeartbeat { digest: Some(digest_now), leader_contact_age_ms, leader_hint };
    let [_, (_, update)] = lists();
    let update_then = frozen::ListUpdate::decode(&*update).unwrap();
    let update_now = now::ListUpdate::decode(&*update).unwrap();
    vec![
        controller_says("ControllerMessage.welcome", Then::Welcome(welcome), Now::Welcome(welcome_now)),
        controller_says("ControllerMessage.refused", Then::Refused(refused), Now::Refused(refused_now)),
        controller_says("ControllerMessage.update", Then::Update(update_then), Now::Update(update_now)),
        controller_says("ControllerMessage.heartbeat", Then::Heartbeat(beat), Now::Heartbeat(beat_now)),
        controller_says("ControllerMessage.goodbye", Then::Goodbye(goodbye), Now::Goodbye(goodbye_now)),
    ]
}

#[test]
fn every_message_of_protocol_1_is_the_same_bytes_and_the_same_value_as_ever() {
    let mut found = String::new();
    for (name, bytes) in registering().into_iter().chain(from_routers()).chain(lists()).chain(from_controllers()) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(found, "{name} {hex}").unwrap();
    }
    let golden: String = GOLDEN.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(found, golden, "this breaks routers that nobody upgrades; now it would be\n{found}");
}

#[test]
fn a_router_of_protocol_1_reads_past_what_came_later() {
    let welcome =
        now::Welcome { protocol: 1, capabilities: vec![text("endorsed")], controller_id: 2, ..Default::default() };
    let read = frozen::Welcome::decode(&*welcome.encode_to_vec()).unwrap();
    assert_eq!(read, frozen::Welcome { protocol: 1, controller_id: 2, ..Default::default() });
    let update = now::ListUpdate {
        nonce: 1,
        endorsements: vec![now::Endorsement { controller_id: 1, scheme: 1, ..Default::default() }],
        bridge: vec![vec![1]],
        ..Default::default()
    };
    let read = frozen::ListUpdate::decode(&*update.encode_to_vec()).unwrap();
    assert_eq!(read, frozen::ListUpdate { nonce: 1, ..Default::default() });
}
