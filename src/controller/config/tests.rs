//! Every rule of a controller's configuration, and the remedy of each.

use super::*;

fn founder() -> ControllerFile {
    let member = |id: u64| InitialMemberFile {
        id,
        name: format!("controller-{id}"),
        peer: format!("http://127.0.0.1:{}", 7001 + 10 * id),
    };
    ControllerFile {
        name: Some("controller-1".into()),
        id: Some(1),
        data_dir: Some("/var/lib/pilothouse".into()),
        initial_members: Some(vec![member(3), member(1), member(2)]),
        tls: ControllerTlsFile::plain(),
        ..ControllerFile::default()
    }
}

fn joiner() -> ControllerFile {
    ControllerFile { id: None, initial_members: None, join: Some(true), ..founder() }
}

type Change = fn(&mut ControllerFile);

/// A change of a good configuration, the key that is then wrong, and what the remedy mentions.
const FOUNDER_RULES: &[(Change, &str, &str)] = &[
    (|f| f.name = None, "name", "name = "),
    (|f| f.name = Some("a b".into()), "name", "A-Z"),
    (|f| f.name = Some("other".into()), "name", "one name in both places"),
    (|f| f.data_dir = None, "data_dir", "only this controller"),
    (|f| f.data_dir = Some("".into()), "data_dir", "only this controller"),
    (|f| f.join = Some(true), "join", "every later one"),
    (|f| f.initial_members = None, "initial_members", "join = true"),
    (|f| f.initial_members = Some(Vec::new()), "initial_members", "3 or 5"),
    (|f| f.id = None, "id", "from that list"),
    (|f| f.id = Some(9), "initial_members", "this one too"),
    (|f| f.id = Some(0), "initial_members", "this one too"),
    (|f| members(f)[0].id = 0, "initial_members[0].id", "from 1"),
    (|f| members(f)[0].id = 2, "initial_members[2].id", "its own id"),
    (|f| members(f)[0].name = "controller-2".into(), "initial_members[2].name", "its own name"),
    (|f| members(f)[0].name = String::new(), "initial_members[0].name", "characters"),
    (|f| members(f)[0].peer = "127.0.0.1:7".into(), "initial_members[0].peer", "https://10.0.0.1"),
    (|f| members(f)[0].peer = "https://127.0.0.1:7".into(), "initial_members[0].peer", "tls.insecure"),
    (|f| members(f)[0].peer = members(f)[2].peer.clone(), "initial_members[2].peer", "its own address"),
    (|f| f.listen.peer = Some("localhost".into()), "listen.peer", "127.0.0.1:7001"),
    (|f| f.listen.admin = Some("127.0.0.1:7002".into()), "listen.admin", "its own port"),
    (|f| f.listen.admin = Some("0.0.0.0:7002".into()), "listen.admin", "its own port"),
    (|f| f.listen.router = Some("0.0.0.0:9".into()), "advertise.router", "others reach"),
    (|f| f.listen.admin = Some("192.0.2.1:9".into()), "listen.admin", "tls.insecure_off_loopback"),
    (|f| f.advertise.admin = vec!["nowhere".into()], "advertise.admin", "https://10.0.0.1"),
    (|f| f.advertise.peer = vec!["http://127.0.0.1:9".into()], "advertise.peer", "same address"),
    (|f| f.advertise.admin = vec!["http://127.0.0.1:7011".into(); 2], "advertise.admin", "its own address"),
    (
        |f| f.advertise.router = (1..10).map(|n| format!("http://10.0.0.{n}:1")).collect(),
        "advertise.router",
        "at most 8",
    ),
    (|f| f.raft.heartbeat_ms = Some(50), "raft.heartbeat_ms", "at least 100"),
    (|f| f.raft.election_min_ms = Some(200), "raft.election_min_ms", "at least 300"),
    (|f| f.raft.election_max_ms = Some(500), "raft.election_max_ms", "more than election_min_ms"),
    (|f| f.raft.election_max_ms = Some(100_000), "raft.election_max_ms", "at most 60000"),
    (|f| f.upgrade.finalize_after_s = Some(0), "upgrade.finalize_after_s", "leave it out"),
    (|f| f.upgrade.finalize_after_s = Some(7_776_001), "upgrade.finalize_after_s", "1 to 7776000"),
    (|f| f.raft.snapshot_every_entries = Some(1), "raft.snapshot_every_entries", "at least 100"),
    (|f| f.log.format = Some("xml".into()), "log.format", "json"),
];

fn members(file: &mut ControllerFile) -> &mut Vec<InitialMemberFile> {
    file.initial_members.as_mut().unwrap()
}

#[test]
fn every_rule_names_its_key_and_its_remedy() {
    for (change, key, remedy) in FOUNDER_RULES {
        let mut file = founder();
        change(&mut file);
        let invalid = file.validate().expect_err(key);
        let found = invalid.problems.iter().find(|problem| problem.key == *key);
        let problem = found.unwrap_or_else(|| panic!("{key} is not named: {invalid}"));
        assert!(problem.remedy.contains(remedy), "{problem}");
    }
    let invalid = ControllerFile { id: Some(4), ..joiner() }.validate().unwrap_err();
    assert!(invalid.to_string().contains("cluster add"), "{invalid}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let invalid = ControllerFile::default().validate().unwrap_err();
    let keys: Vec<_> = invalid.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["name", "data_dir", "tls", "initial_members"]);
}

#[test]
fn a_founder_is_listed_in_order_and_advertises_what_the_others_were_told() {
    let config = founder().validate().unwrap();
    let Bootstrap::Found { id, members } = config.bootstrap else { panic!("it founds") };
    assert_eq!(id.get(), 1);
    assert_eq!(members.iter().map(|member| member.id.get()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(config.advertise.peer, [members[0].peer.clone()]);
    assert_eq!(config.raft, RaftTimes::default());
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:7004");
}

#[test]
fn a_joiner_needs_neither_id_nor_members() {
    assert_eq!(joiner().validate().unwrap().bootstrap, Bootstrap::Join);
}

#[test]
fn services_may_share_port_0_and_one_port_on_two_addresses() {
    let mut file = joiner();
    file.listen.peer = Some("127.0.0.1:0".into());
    file.listen.router = Some("127.0.0.1:0".into());
    file.listen.admin = Some("127.0.0.2:7004".into());
    assert!(file.validate().is_ok());
}
