//! `pki …` as an operator uses it: which files there are and who can read them, what is refused, and how an issuer is
//! replaced. Keys are never on an output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pilothouse::tls::authority::{describe, joined, leaf_issued_by, make_request};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Answer, pilothouse};

/// An authority that was just made.
struct Authority {
    folder: TempDir,
    dir: PathBuf,
}

impl Authority {
    fn made() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pki");
        let authority = Self { folder, dir };
        authority.done("init", &["--trust-domain", "example.org"]);
        authority
    }

    /// `pki COMMAND --dir DIR …`. Whatever it answers, no key is in it.
    fn pki(&self, command: &str, arguments: &[&str]) -> Answer {
        let answer = pilothouse(&[&["pki", command, "--dir", self.dir.to_str().unwrap()], arguments].concat());
        assert_no_key(&answer);
        answer
    }

    fn done(&self, command: &str, arguments: &[&str]) -> Answer {
        let answer = self.pki(command, arguments);
        assert_eq!(answer.code, 0, "{command} {arguments:?}: {}", answer.err);
        answer
    }

    /// What it refuses, with the exit status for that.
    fn refused(&self, code: i32, command: &str, arguments: &[&str]) -> String {
        let answer = self.pki(command, arguments);
        assert_eq!((answer.code, answer.out.as_str()), (code, ""), "{command} {arguments:?}: {}", answer.err);
        answer.err
    }

    fn issued(&self, name: &str) -> PathBuf {
        self.dir.join("issued").join(name)
    }

    fn anchors(&self, roles: &str) -> usize {
        describe(&read(&self.dir.join(format!("ca-{roles}.pem")))).unwrap().len()
    }
}

fn assert_no_key(answer: &Answer) {
    for output in [&answer.out, &answer.err] {
        assert!(!output.contains("PRIVATE KEY"), "{output}");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether a directory's certificate is one that another directory trusts.
fn trusts(dir: &Path, roles: &str, other: &Path) -> bool {
    leaf_issued_by(&read(&other.join("certificate.pem")), &read(&dir.join(format!("ca-{roles}.pem")))).is_ok()
}

#[test]
fn an_authority_is_made_once_and_its_keys_are_its_owners_alone() {
    let authority = Authority::made();
    assert_eq!(mode(&authority.dir), 0o700);
    let mut expected = Vec::new();
    for roles in ["controllers", "routers", "admins"] {
        let key = format!("issuer-{roles}-key.pem");
        assert_eq!(mode(&authority.dir.join(&key)), 0o600);
        assert_eq!(mode(&authority.dir.join(format!("ca-{roles}.pem"))), 0o644);
        expected.extend([key, format!("issuer-{roles}.pem"), format!("ca-{roles}.pem")]);
    }
    expected.sort();
    assert_eq!(names(&authority.dir), expected);

    let before = read(&authority.dir.join("issuer-admins-key.pem"));
    let again = authority.refused(1, "init", &["--trust-domain", "example.org"]);
    assert!(again.contains("issuer-controllers.pem is there already") && again.contains("\nhint: "), "{again}");
    assert_eq!(read(&authority.dir.join("issuer-admins-key.pem")), before);
    for wrong in [&["--trust-domain", "Not A Domain"][..], &["--trust-domain", "x", "--days", "0"], &[]] {
        authority.refused(2, "init", wrong);
    }
}

#[test]
fn a_directory_that_others_can_open_and_that_holds_something_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let init = |dir: &Path| pilothouse(&["pki", "init", "--trust-domain", "x", "--dir", dir.to_str().unwrap()]);
    let dir = folder.path().join("etc");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("hosts"), "").unwrap();
    let answer = init(&dir);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("open to others"), "{}", answer.err);
    assert_eq!((mode(&dir), names(&dir)), (0o755, vec!["hosts".to_owned()]));

    fs::remove_file(dir.join("hosts")).unwrap();
    assert_eq!(init(&dir).code, 0);
    assert_eq!(mode(&dir), 0o700);
}

#[test]
fn each_identity_gets_its_own_key_and_only_the_trust_that_it_needs() {
    let authority = Authority::made();
    authority.done("issue", &["controller", "1", "--dns", "c1.example.org", "--ip", "127.0.0.1"]);
    authority.done("issue", &["controller", "2", "--with-router-issuer"]);
    authority.done("issue", &["router", "edge-1"]);
    let out = authority.folder.path().join("alice");
    authority.done("issue", &["admin", "alice", "--out", out.to_str().unwrap(), "--days", "7"]);

    let (one, two, edge) =
        (authority.issued("controller-1"), authority.issued("controller-2"), authority.issued("router-edge-1"));
    let controller = ["ca-admins.pem", "ca-controllers.pem", "ca-routers.pem", "certificate.pem", "key.pem"];
    assert_eq!(names(&one), controller);
    assert_eq!(names(&two), [&controller[..], &["router-issuer-key.pem", "router-issuer.pem"]].concat());
    for client in [&edge, &out] {
        assert_eq!(names(client), ["ca-controllers.pem", "certificate.pem", "key.pem"]);
        assert!(trusts(client, "controllers", &one));
    }
    for key in [one.join("key.pem"), two.join("router-issuer-key.pem"), edge.join("key.pem"), out.join("key.pem")] {
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
    assert_eq!(mode(&one.join("certificate.pem")), 0o644);
    assert_eq!(read(&two.join("router-issuer-key.pem")), read(&authority.dir.join("issuer-routers-key.pem")));
    assert!(trusts(&one, "routers", &edge) && trusts(&one, "admins", &out) && trusts(&one, "controllers", &two));
    assert!(!trusts(&one, "admins", &edge) && !trusts(&one, "controllers", &edge), "a role has its own issuer");

    let leaf = describe(&read(&one.join("certificate.pem"))).unwrap().remove(0);
    assert_eq!(leaf.principal.unwrap().to_string(), "spiffe://example.org/controller/1");
    assert_eq!((leaf.dns, leaf.ips), (vec!["c1.example.org".to_owned()], vec!["127.0.0.1".parse().unwrap()]));
}

#[test]
fn nothing_is_written_over_and_what_cannot_be_is_refused() {
    let authority = Authority::made();
    authority.done("issue", &["router", "edge-1"]);
    let key = read(&authority.issued("router-edge-1").join("key.pem"));
    let again = authority.refused(1, "issue", &["router", "edge-1"]);
    assert!(again.contains("certificate.pem is there already") && again.contains("pki renew"), "{again}");
    assert_eq!(read(&authority.issued("router-edge-1").join("key.pem")), key);

    for (code, arguments) in [
        (2, &["router", "edge-2", "--with-router-issuer"][..]),
        (2, &["controller", "01"]),
        (2, &["controller", "zero"]),
        (2, &["owner", "1"]),
        (2, &["admin", "../alice"]),
        (1, &["router", "edge-2", "--dns", "edge.example.org"]),
        (1, &["controller", "2", "--dns", "*.example.org"]),
        (1, &["router", "edge-2", "--csr", "/nonexistent"]),
    ] {
        authority.refused(code, "issue", arguments);
    }
    assert_eq!(names(&authority.dir.join("issued")), ["router-edge-1"], "a refusal leaves nothing behind");

    // The issuers of two roles that were exchanged by hand are not used for each other.
    for suffix in ["", "-key"] {
        let file = |roles: &str| authority.dir.join(format!("issuer-{roles}{suffix}.pem"));
        fs::copy(file("routers"), file("admins")).unwrap();
    }
    let exchanged = authority.refused(1, "issue", &["admin", "alice"]);
    assert!(exchanged.contains("it is the issuer of routers"), "{exchanged}");
}

#[test]
fn a_request_is_signed_where_no_key_is_and_only_for_whom_it_was_made() {
    let authority = Authority::made();
    let made = make_request(&"spiffe://example.org/router/edge-1".parse().unwrap()).unwrap();
    let file = authority.folder.path().join("edge-1.csr");
    let csr = file.to_str().unwrap();
    fs::write(&file, &made.request_pem).unwrap();

    let other = authority.refused(1, "issue", &["router", "edge-2", "--csr", csr]);
    assert!(other.contains("spiffe://example.org/router/edge-1"), "{other}");
    authority.done("issue", &["router", "edge-1", "--csr", csr]);
    let out = authority.issued("router-edge-1");
    assert_eq!(names(&out), ["ca-controllers.pem", "certificate.pem"]);

    let to = out.to_str().unwrap();
    let elsewhere = authority.refused(1, "renew", &["--in", to]);
    assert!(elsewhere.contains("--csr"), "{elsewhere}");
    let before = read(&out.join("certificate.pem"));
    authority.done("renew", &["--in", to, "--csr", csr]);
    assert_ne!(read(&out.join("certificate.pem")), before);
    assert_eq!(names(&out), ["ca-controllers.pem", "certificate.pem"]);

    fs::write(&file, made.request_pem.replace('M', "N")).unwrap();
    authority.refused(1, "renew", &["--in", to, "--csr", csr]);
    fs::write(&file, made.key.pem()).unwrap();
    authority.refused(1, "renew", &["--in", to, "--csr", csr]);
}

#[test]
fn a_renewal_keeps_identity_and_names_and_changes_key_and_certificate() {
    let authority = Authority::made();
    authority.done("issue", &["controller", "1", "--dns", "c1.example.org", "--ip", "::1", "--with-router-issuer"]);
    let out = authority.issued("controller-1");
    let before = [read(&out.join("certificate.pem")), read(&out.join("key.pem"))];
    authority.done("renew", &["--in", out.to_str().unwrap(), "--days", "5"]);
    let after = [read(&out.join("certificate.pem")), read(&out.join("key.pem"))];
    assert!(before[0] != after[0] && before[1] != after[1]);
    assert_eq!(mode(&out.join("key.pem")), 0o600);
    let [old, new] = [&before[0], &after[0]].map(|chain| describe(chain).unwrap().remove(0));
    assert_eq!((old.principal, old.dns, old.ips), (new.principal, new.dns, new.ips));
    assert!(new.not_after < old.not_after, "five days");
}

#[test]
fn what_another_authority_signed_is_not_renewed_into_one_of_ours() {
    let (ours, theirs) = (Authority::made(), Authority::made());
    ours.done("issue", &["router", "edge-1"]);
    theirs.done("issue", &["admin", "root"]);
    let out = ours.issued("router-edge-1");
    fs::copy(theirs.issued("admin-root").join("certificate.pem"), out.join("certificate.pem")).unwrap();
    let refused = ours.refused(1, "renew", &["--in", out.to_str().unwrap()]);
    assert!(refused.contains("admin/root") && refused.contains("signed by none of the issuers"), "{refused}");
}

#[test]
fn an_issuer_is_replaced_in_three_steps_and_trust_is_never_missing() {
    let authority = Authority::made();
    authority.done("issue", &["controller", "1", "--with-router-issuer"]);
    authority.done("issue", &["router", "edge-1"]);
    let (one, edge) = (authority.issued("controller-1"), authority.issued("router-edge-1"));
    let old = read(&authority.dir.join("issuer-routers.pem"));
    let renew = |arguments: &[&str]| authority.done("renew", arguments).err;
    let (to_one, to_edge) = (one.to_str().unwrap(), edge.to_str().unwrap());

    // Step 1: both are trusted, and the new one signs.
    let said = renew(&["--issuer", "routers"]);
    assert!(said.contains("--trust-only") && said.contains("--drop-old"), "{said}");
    assert_eq!((authority.anchors("routers"), authority.anchors("controllers")), (2, 1));
    let new = read(&authority.dir.join("issuer-routers.pem"));
    assert_ne!(old, new);
    assert_eq!(
        joined(&[&read(&authority.dir.join("ca-routers.pem"))]).unwrap(),
        old.clone() + &new,
        "the old one first"
    );
    assert_eq!(mode(&authority.dir.join("issuer-routers-key.pem")), 0o600);
    assert!(authority.refused(1, "renew", &["--issuer", "routers"]).contains("--drop-old"), "not twice");
    let key = read(&one.join("key.pem"));
    renew(&["--in", to_one, "--trust-only"]);
    assert_eq!(read(&one.join("key.pem")), key);
    assert_eq!(read(&one.join("router-issuer.pem")), old, "only trust changes");
    assert!(trusts(&one, "routers", &edge), "what the old one signed is still good");

    // Step 2: everybody gets a certificate of the new one, and the controller goes on to enrol with it.
    assert!(renew(&["--in", to_edge]).contains("--issuer routers --drop-old"));
    renew(&["--in", to_one]);
    assert!(trusts(&one, "routers", &edge));
    assert_eq!(read(&one.join("router-issuer.pem")), new);

    // Step 3: only the new one is trusted.
    renew(&["--issuer", "routers", "--drop-old"]);
    assert_eq!(authority.anchors("routers"), 1);
    renew(&["--in", to_one, "--trust-only"]);
    assert_eq!(read(&one.join("ca-routers.pem")), new);
    assert!(trusts(&one, "routers", &edge));
}

#[test]
fn a_replacement_that_was_cut_off_or_whose_key_is_lost_has_a_way_on() {
    let authority = Authority::made();
    let key = authority.dir.join("issuer-admins-key.pem");
    fs::remove_file(&key).unwrap();
    let lost = authority.refused(1, "issue", &["admin", "alice"]);
    assert!(lost.contains("issuer-admins-key.pem"), "{lost}");
    let old = read(&authority.dir.join("issuer-admins.pem"));
    authority.done("renew", &["--issuer", "admins"]);
    assert_eq!((mode(&key), authority.anchors("admins")), (0o600, 2));

    // As after a crash between the two files.
    let file = authority.dir.join("issuer-admins.pem");
    let new = read(&file);
    fs::write(&file, &old).unwrap();
    let cut = authority.refused(1, "renew", &["--issuer", "admins", "--drop-old"]);
    assert!(cut.contains("the last certificate in ca-admins.pem"), "{cut}");
    assert!(read(&authority.dir.join("ca-admins.pem")).ends_with(&new));
    fs::write(&file, &new).unwrap();
    authority.done("renew", &["--issuer", "admins", "--drop-old"]);
    authority.done("issue", &["admin", "alice"]);
}

#[test]
fn what_is_shown_tells_each_certificate_and_no_key() {
    let authority = Authority::made();
    authority.done("issue", &["controller", "1"]);
    let dir = authority.dir.to_str().unwrap();
    let table = pilothouse(&["pki", "show", dir]);
    assert_no_key(&table);
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    assert!(table.out.contains("spiffe://example.org/controller/1"), "{}", table.out);

    let json = pilothouse(&["pki", "show", "-o", "json", dir]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let shown = json["certificates"].as_array().unwrap();
    // Three issuers and their three bundles; in the controller's directory three bundles, and a chain of two.
    assert_eq!(shown.len(), 3 + 3 + 3 + 2);
    let leaf = shown.iter().find(|shown| shown["identity"] == "spiffe://example.org/controller/1").unwrap();
    assert_eq!((&leaf["ca"], &leaf["days_left"]), (&Value::from(false), &Value::from(364)));
    assert_eq!(leaf["issuer"], "Pilothouse controllers of example.org");

    for nothing in [authority.dir.join("issuer-routers-key.pem"), authority.dir.join("missing.pem")] {
        let answer = pilothouse(&["pki", "show", nothing.to_str().unwrap()]);
        assert_no_key(&answer);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    }
}

#[test]
fn a_renewal_is_of_one_thing() {
    let authority = Authority::made();
    for wrong in [
        &[][..],
        &["--in", "x", "--issuer", "routers"],
        &["--in", "x", "--drop-old"],
        &["--issuer", "router"],
        &["--issuer", "routers", "--trust-only"],
        &["--issuer", "routers", "--csr", "x"],
        &["--in", "x", "--trust-only", "--days", "3"],
    ] {
        authority.refused(2, "renew", wrong);
    }
}

#[test]
fn a_small_cluster_gets_everything_at_once_and_what_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, out) = (folder.path().join("authority"), folder.path().join("tls"));
    let cluster = |domain: &str| {
        let (dir, out) = (dir.to_str().unwrap(), out.to_str().unwrap());
        let answer = pilothouse(&["pki", "cluster", "--dir", dir, "--out", out, "--trust-domain", domain]);
        assert_no_key(&answer);
        answer
    };
    assert_eq!(cluster("example.org").code, 0);
    let mut everybody = vec!["admin".to_owned()];
    everybody.extend(["controller", "router"].iter().flat_map(|role| (1..=3).map(move |id| format!("{role}-{id}"))));
    assert_eq!(names(&out), everybody);
    assert!(trusts(&out.join("controller-1"), "routers", &out.join("router-3")));
    assert!(trusts(&out.join("controller-1"), "admins", &out.join("admin")));
    assert!(trusts(&out.join("router-1"), "controllers", &out.join("controller-2")));
    assert!(out.join("controller-1").join("router-issuer.pem").exists());
    assert_eq!((mode(&dir), mode(&out.join("router-1")), mode(&out.join("router-1/key.pem"))), (0o700, 0o700, 0o600));

    // Again, after one was lost: it is made anew, and nobody else's is touched.
    let kept = read(&out.join("controller-1/certificate.pem"));
    fs::remove_dir_all(out.join("router-2")).unwrap();
    let again = cluster("example.org");
    assert_eq!((again.code, again.out.lines().count()), (0, 1), "{}", again.err);
    assert!(out.join("router-2/certificate.pem").exists());
    assert_eq!(read(&out.join("controller-1/certificate.pem")), kept);

    fs::remove_dir_all(out.join("router-2")).unwrap();
    let foreign = cluster("example.net");
    assert!(foreign.code == 1 && foreign.err.contains("is of example.org"), "{}", foreign.err);
}
