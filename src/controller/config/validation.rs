//! From what was written to what was meant. All relations are checked, and all problems are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::{
    Advertise, AdvertiseFile, Bootstrap, ControllerConfig, ControllerFile, DEFAULT_LISTEN, ELECTION_MS_MAX,
    FINALIZE_AFTER_MAX, HEARTBEAT_MS_MIN, HEARTBEATS_PER_ELECTION_MIN, InitialMember, InitialMemberFile, Listen,
    ListenFile, RaftFile, RaftTimes, SNAPSHOT_EVERY_ENTRIES_MIN, UpgradeFile,
};
use crate::domain::controller_list::{CONTROLLERS_MAX, ENDPOINTS_PER_CONTROLLER_MAX};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, ControllerName};
use crate::ops::config::{InvalidConfig, Problems};
use crate::tls::TlsConfig;

pub(super) fn validate(file: ControllerFile) -> Result<ControllerConfig, InvalidConfig> {
    let mut problems = Problems::default();
    let name = name(file.name, &mut problems);
    if file.data_dir.as_ref().is_none_or(|dir| dir.as_os_str().is_empty()) {
        problems.add("data_dir", "is missing", "name a directory that only this controller uses");
    }
    let tls = file.tls.meant(&mut problems);
    let listen = listen(&file.listen, tls.as_ref(), &mut problems);
    let members = (file.id, file.join, file.initial_members);
    let bootstrap = bootstrap(members, name.as_ref(), tls.as_ref(), &mut problems);
    let advertise = advertise(&file.advertise, listen.as_ref(), bootstrap.as_ref(), tls.as_ref(), &mut problems);
    let raft = raft(&file.raft, &mut problems);
    let finalize_after = finalize_after(&file.upgrade, &mut problems);
    let alerts = file.alerts.meant(&mut problems);
    let log = file.log.meant(&mut problems);
    match (name, file.data_dir, listen, bootstrap, tls) {
        (Some(name), Some(data_dir), Some(listen), Some(bootstrap), Some(tls)) if problems.is_empty() => {
            let admin_socket = file.admin_socket;
            Ok(ControllerConfig {
                name,
                data_dir,
                bootstrap,
                listen,
                advertise,
                admin_socket,
                tls,
                raft,
                finalize_after,
                alerts,
                log,
            })
        }
        _ => Err(problems.into_invalid()),
    }
}

fn name(name: Option<String>, problems: &mut Problems) -> Option<ControllerName> {
    let Some(name) = name else {
        problems.add("name", "is missing", "give this controller a name of its own, as in name = \"controller-1\"");
        return None;
    };
    ControllerName::new(name).map_err(|why| problems.add("name", "is no name", why.to_string())).ok()
}

fn listen(file: &ListenFile, tls: Tls<'_>, problems: &mut Problems) -> Option<Listen> {
    let written = [&file.peer, &file.router, &file.admin, &file.http];
    let mut bound: Vec<(&str, SocketAddr)> = Vec::new();
    for ((kind, default), written) in DEFAULT_LISTEN.into_iter().zip(written) {
        let text = written.as_deref().unwrap_or(default);
        let key = format!("listen.{kind}");
        let key = key.as_str();
        let Ok(address) = SocketAddr::from_str(text) else {
            problems.add(key, format!("{text:?} is not ADDRESS:PORT"), "write it as in \"127.0.0.1:7001\"");
            continue;
        };
        if let Some((other, _)) = bound.iter().find(|(_, other)| collide(*other, address)) {
            problems.add(key, format!("uses {address}, as listen.{other} does"), "give each service its own port");
        }
        if let Some(TlsConfig::Insecure { off_loopback: false }) = tls
            && !address.ip().is_loopback()
        {
            problems.add(
                key,
                format!("{address} is not a loopback address, and tls.insecure is set"),
                "use certificates (tls.dir), or set tls.insecure_off_loopback if that network is safe",
            );
        }
        bound.push((kind, address));
    }
    let [(_, peer), (_, router), (_, admin), (_, http)] = bound.try_into().ok()?;
    Some(Listen { peer, router, admin, http })
}

/// Whether two listeners cannot both be bound.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn bootstrap(
    (id, join, members): (Option<u64>, Option<bool>, Option<Vec<InitialMemberFile>>),
    name: Option<&ControllerName>,
    tls: Tls<'_>,
    problems: &mut Problems,
) -> Option<Bootstrap> {
    match (join.unwrap_or(false), members) {
        (true, Some(_)) => {
            problems.add(
                "join",
                "is set beside initial_members",
                "keep initial_members on the controllers that found the cluster, and join = true on every later one",
            );
            None
        }
        (false, None) => {
            problems.add(
                "initial_members",
                "is missing, and join is not set",
                "list the founding controllers, or set join = true and run `pilothouse cluster add`",
            );
            None
        }
        (true, None) => {
            if id.is_some() {
                problems.add("id", "is set beside join", "remove it: `pilothouse cluster add` assigns the id");
            }
            Some(Bootstrap::Join)
        }
        (false, Some(members)) => founding(id, members, name, tls, problems),
    }
}

fn founding(
    id: Option<u64>,
    members: Vec<InitialMemberFile>,
    name: Option<&ControllerName>,
    tls: Tls<'_>,
    problems: &mut Problems,
) -> Option<Bootstrap> {
    if members.is_empty() || members.len() > CONTROLLERS_MAX {
        problems.add(
            "initial_members",
            format!("has {} entries", members.len()),
            format!("list 1 to {CONTROLLERS_MAX} controllers; 3 or 5 are usual"),
        );
        return None;
    }
    let mut parsed = initial_members(members, tls, problems);
    let Some(id) = id else {
        problems.add("id", "is missing beside initial_members", "give this controller's id from that list");
        return None;
    };
    let Some(own) = ControllerId::new(id).and_then(|id| parsed.iter().find(|member| member.id == id)) else {
        problems.add(
            "initial_members",
            format!("does not contain this controller (id = {id})"),
            "list all founding controllers, this one too, the same on each; or set join = true here",
        );
        return None;
    };
    if name.is_some_and(|name| *name != own.name) {
        problems.add(
            "name",
            format!("differs from {}, which initial_members gives controller {id}", own.name),
            "use one name in both places",
        );
    }
    let id = own.id;
    parsed.sort_by_key(|member| member.id);
    Some(Bootstrap::Found { id, members: parsed })
}

fn initial_members(members: Vec<InitialMemberFile>, tls: Tls<'_>, problems: &mut Problems) -> Vec<InitialMember> {
    let (mut ids, mut names, mut peers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut parsed = Vec::new();
    for (place, member) in members.into_iter().enumerate() {
        let key = |field: &str| format!("initial_members[{place}].{field}");
        let id = ControllerId::new(member.id);
        if id.is_none() {
            problems.add(key("id"), "is 0", "number the controllers from 1");
        }
        let name = ControllerName::new(member.name)
            .map_err(|why| problems.add(key("name"), "is no name", why.to_string()))
            .ok();
        let peer = endpoint(&key("peer"), &member.peer, tls, problems);
        let (Some(id), Some(name), Some(peer)) = (id, name, peer) else { continue };
        if !ids.insert(id) {
            problems.add(key("id"), format!("{id} stands there twice"), "give each controller its own id");
        }
        if !names.insert(name.clone()) {
            problems.add(key("name"), format!("{name} stands there twice"), "give each controller its own name");
        }
        if !peers.insert(peer.clone()) {
            problems.add(key("peer"), format!("{peer} stands there twice"), "give each controller its own address");
        }
        parsed.push(InitialMember { id, name, peer });
    }
    parsed
}

/// How addresses are written; `None` when that is itself in doubt, and told of.
type Tls<'a> = Option<&'a TlsConfig>;

fn endpoint(key: &str, text: &str, tls: Tls<'_>, problems: &mut Problems) -> Option<Endpoint> {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            if let Some(tls) = tls {
                tls.check(key, &endpoint, problems);
            }
            Some(endpoint)
        }
        Err(why) => {
            problems.add(key, format!("{text:?} {why}"), "write it as in \"https://10.0.0.1:7001\"");
            None
        }
    }
}

fn advertise(
    file: &AdvertiseFile,
    listen: Option<&Listen>,
    bootstrap: Option<&Bootstrap>,
    tls: Tls<'_>,
    problems: &mut Problems,
) -> Advertise {
    let mut seen = BTreeMap::new();
    let mut kind = |kind: &str, written: &[String], listen: Option<SocketAddr>| {
        let key = format!("advertise.{kind}");
        if written.len() > ENDPOINTS_PER_CONTROLLER_MAX {
            problems.add(
                key.as_str(),
                format!("has {} addresses", written.len()),
                format!("keep at most {ENDPOINTS_PER_CONTROLLER_MAX}"),
            );
        }
        if written.is_empty() && listen.is_some_and(|address| address.ip().is_unspecified()) {
            problems.add(
                key.as_str(),
                format!("is missing, while listen.{kind} is a wildcard address"),
                "say under which address others reach this controller",
            );
        }
        let endpoints: Vec<_> = written.iter().filter_map(|text| endpoint(&key, text, tls, problems)).collect();
        for endpoint in &endpoints {
            if let Some(other) = seen.insert(endpoint.clone(), key.clone()) {
                problems.add(
                    key.as_str(),
                    format!("repeats {endpoint} of {other}"),
                    "give each service its own address",
                );
            }
        }
        endpoints
    };
    let own_peer = bootstrap.and_then(own_peer);
    let peer_listen = listen.filter(|_| own_peer.is_none()).map(|listen| listen.peer);
    let mut peer = kind("peer", &file.peer, peer_listen);
    let router = kind("router", &file.router, listen.map(|listen| listen.router));
    let admin = kind("admin", &file.admin, listen.map(|listen| listen.admin));
    match own_peer {
        Some(own) if peer.is_empty() => peer.push(own),
        Some(own) if !peer.contains(&own) => problems.add(
            "advertise.peer",
            format!("lacks {own}, which initial_members gives this controller"),
            "use the same address in both places",
        ),
        _ => {}
    }
    Advertise { peer, router, admin }
}

fn own_peer(bootstrap: &Bootstrap) -> Option<Endpoint> {
    let Bootstrap::Found { id, members } = bootstrap else { return None };
    members.iter().find(|member| member.id == *id).map(|member| member.peer.clone())
}

fn finalize_after(file: &UpgradeFile, problems: &mut Problems) -> Option<Duration> {
    let seconds = file.finalize_after_s?;
    let most = FINALIZE_AFTER_MAX.as_secs();
    if !(1..=most).contains(&seconds) {
        problems.add(
            "upgrade.finalize_after_s",
            format!("is {seconds}"),
            format!("use 1 to {most}, or leave it out and run `pilothouse cluster upgrade finalize`"),
        );
    }
    Some(Duration::from_secs(seconds))
}

fn raft(file: &RaftFile, problems: &mut Problems) -> RaftTimes {
    let default = RaftTimes::default();
    let times = RaftTimes {
        heartbeat_ms: file.heartbeat_ms.unwrap_or(default.heartbeat_ms),
        election_min_ms: file.election_min_ms.unwrap_or(default.election_min_ms),
        election_max_ms: file.election_max_ms.unwrap_or(default.election_max_ms),
        snapshot_every_entries: file.snapshot_every_entries.unwrap_or(default.snapshot_every_entries),
    };
    if times.heartbeat_ms < HEARTBEAT_MS_MIN {
        problems.add(
            "raft.heartbeat_ms",
            format!("is {}", times.heartbeat_ms),
            format!("use at least {HEARTBEAT_MS_MIN}: it is also the deadline of one call between controllers"),
        );
    }
    let least = times.heartbeat_ms.saturating_mul(HEARTBEATS_PER_ELECTION_MIN);
    if times.election_min_ms < least {
        problems.add(
            "raft.election_min_ms",
            format!("is {}, with a heartbeat every {} ms", times.election_min_ms, times.heartbeat_ms),
            format!("use at least {least}: one lost heartbeat must not start an election"),
        );
    }
    if times.election_max_ms <= times.election_min_ms || times.election_max_ms > ELECTION_MS_MAX {
        problems.add(
            "raft.election_max_ms",
            format!("is {}, with election_min_ms = {}", times.election_max_ms, times.election_min_ms),
            format!("use more than election_min_ms (twice as much is usual), at most {ELECTION_MS_MAX}"),
        );
    }
    if times.snapshot_every_entries < SNAPSHOT_EVERY_ENTRIES_MIN {
        problems.add(
            "raft.snapshot_every_entries",
            format!("is {}", times.snapshot_every_entries),
            format!("use at least {SNAPSHOT_EVERY_ENTRIES_MIN}"),
        );
    }
    times
}
