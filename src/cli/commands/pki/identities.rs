//! `pki issue`, and `pki renew --in`: one identity's key, certificate, and whom it trusts.

use std::path::Path;
use std::time::SystemTime;

use crate::cli::arguments::{PkiIssue, PkiRenew, leaf_lasting};
use crate::cli::authority_dir::{AuthorityDir, Signed, refuse_existing};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::pki::instant;
use crate::domain::principal::{Principal, Role, RoleKind};
use crate::tls::authority::{
    Described, Issuer, Leaf, Request, Validity, describe, leaf_issued_by, plural, read_certificates,
};
use crate::tls::config::names::{CERTIFICATE, KEY, ROUTER_ISSUER, ROUTER_ISSUER_KEY};

pub(super) fn issue(asked: &PkiIssue, console: Console) -> Result<ExitStatus, Failure> {
    if asked.with_router_issuer && asked.role != RoleKind::Controller {
        return Err(Failure::usage("only controllers enrol routers").hint("leave out --with-router-issuer"));
    }
    let role = Role::new(asked.role, &asked.id).map_err(|why| {
        Failure::usage(why)
            .doing(format!("{:?} names no {}", asked.id, asked.role))
            .hint("a controller has a number from 1 on, a router or an admin a name of A-Z a-z 0-9 . _ -")
    })?;
    let authority = AuthorityDir(&asked.dir);
    let issuer = authority.issuer(asked.role)?;
    let default = || asked.dir.join("issued").join(format!("{}-{}", asked.role, asked.id));
    let out = asked.out.clone().unwrap_or_else(default);
    let files = [CERTIFICATE, KEY, ROUTER_ISSUER, ROUTER_ISSUER_KEY].map(|name| out.join(name));
    refuse_existing(
        &files,
        "nothing is overwritten: `pilothouse pki renew --in` renews what is there, and --out names another directory",
    )?;
    let leaf = Leaf {
        principal: Principal { domain: issuer.trust_domain().clone(), role },
        dns: asked.dns.clone(),
        ips: asked.ip.clone(),
        valid: Validity::starting(SystemTime::now(), leaf_lasting(asked.days, asked.role)),
    };
    let signed = signed_by(&issuer, &leaf, asked.csr.as_deref())?;
    authority.fill(&out, asked.role, asked.with_router_issuer, &signed)?;
    report(&signed, &leaf.principal, &out, console)?;
    let secret = if signed.key.is_some() { "; key.pem is its secret, for nobody but its own user" } else { "" };
    console.note(&format!("copy what is in {} to where it is used{secret}", out.display()));
    if asked.with_router_issuer {
        console.note("router-issuer-key.pem makes any router: it belongs to the user of the controller alone");
    }
    note_rollover(&authority, asked.role, console)?;
    Ok(ExitStatus::Done)
}

pub(super) fn renew(asked: &PkiRenew, out: &Path, console: Console) -> Result<ExitStatus, Failure> {
    let authority = AuthorityDir(&asked.dir);
    let (held, principal) = held(&authority, out)?;
    let kind = principal.role.kind();
    match (out.join(KEY).symlink_metadata().is_ok(), asked.csr.is_some()) {
        (true, true) => {
            return Err(Failure::usage(format!("{} has a key of its own", out.display()))
                .hint("leave out --csr, and it gets a new key and a new certificate"));
        }
        (false, false) => {
            return Err(Failure::new(format!("{} has no key.pem: its key is elsewhere", out.display()))
                .hint("have a request made where the key is, and give it with --csr"));
        }
        _ => {}
    }
    let issuer = authority.issuer(kind)?;
    let valid = Validity::starting(SystemTime::now(), leaf_lasting(asked.days, kind));
    let leaf = Leaf { principal, dns: held.dns, ips: held.ips, valid };
    let signed = signed_by(&issuer, &leaf, asked.csr.as_deref())?;
    authority.copy_trust(kind, out)?;
    // A controller goes on to enrol routers after their issuer was replaced.
    let enrols = kind == RoleKind::Controller && out.join(ROUTER_ISSUER).exists();
    if enrols {
        authority.copy_router_issuer(out)?;
    }
    signed.put(out)?;
    report(&signed, &leaf.principal, out, console)?;
    console.note(&format!(
        "copy what is in {} to where it is used: it is reloaded there without a restart",
        out.display()
    ));
    note_rollover(&authority, kind, console)?;
    Ok(ExitStatus::Done)
}

pub(super) fn renew_trust(asked: &PkiRenew, out: &Path, console: Console) -> Result<ExitStatus, Failure> {
    let authority = AuthorityDir(&asked.dir);
    let (_, principal) = read(out)?;
    authority.copy_trust(principal.role.kind(), out)?;
    console.data(&format!("{principal} in {} trusts the current issuers\n", out.display()))?;
    console.note("copy its ca-*.pem files to where they are used: they are reloaded there without a restart");
    Ok(ExitStatus::Done)
}

/// The certificate of a directory as it stands, and whose it says that it is.
fn read(out: &Path) -> Result<(String, Principal), Failure> {
    let path = out.join(CERTIFICATE);
    let text = read_certificates(&path).map_err(Failure::of)?;
    let all = describe(&text).map_err(|why| Failure::of(why).doing(format!("cannot read {}", path.display())))?;
    match all.into_iter().next().and_then(|leaf| leaf.principal) {
        Some(principal) => Ok((text, principal)),
        None => Err(Failure::new(format!("{} is no controller's, router's or admin's", path.display()))
            .hint("--in is a directory that `pilothouse pki issue` made")),
    }
}

/// The same, when this authority signed it. What comes back from a host may have been changed there, and must not come
/// out of here as the certificate of somebody else.
fn held(authority: &AuthorityDir<'_>, out: &Path) -> Result<(Described, Principal), Failure> {
    let (text, principal) = read(out)?;
    let anchors = authority.anchors(principal.role.kind())?;
    let held = leaf_issued_by(&text, &anchors)
        .map_err(|why| Failure::of(why).doing(format!("cannot renew {principal} in {}", out.display())))?;
    Ok((held, principal))
}

/// For a key that is made here, or for the one of a request.
fn signed_by(issuer: &Issuer, leaf: &Leaf, csr: Option<&Path>) -> Result<Signed, Failure> {
    let Some(path) = csr else { return Signed::with_new_key(issuer, leaf) };
    let chain = issuer.sign(&theirs(path, &leaf.principal)?, leaf).map_err(Failure::of)?;
    Ok(Signed { key: None, chain })
}

/// A request that somebody else made, unless it was made for somebody else too.
fn theirs(path: &Path, principal: &Principal) -> Result<Request, Failure> {
    let text = read_certificates(path).map_err(Failure::of)?;
    let request =
        Request::from_pem(&text).map_err(|why| Failure::of(why).doing(format!("cannot take {}", path.display())))?;
    match request.asks_for_another_than(principal) {
        Some(other) => Err(Failure::new(format!("{} asks for {other:?}, not for {principal}", path.display()))
            .hint("give the request of this identity, or the identity of this request")),
        None => Ok(request),
    }
}

/// Says what comes next while an issuer is being replaced.
fn note_rollover(authority: &AuthorityDir<'_>, kind: RoleKind, console: Console) -> Result<(), Failure> {
    if describe(&authority.anchors(kind)?).map_err(Failure::of)?.len() > 1 {
        let (dir, roles) = (authority.0.display(), plural(kind));
        console.note(&format!(
            "the issuer of {roles} is being replaced; when every certificate of {roles} is renewed and in use:\n  \
             pilothouse pki renew --dir {dir} --issuer {roles} --drop-old"
        ));
    }
    Ok(())
}

pub(super) fn report(signed: &Signed, principal: &Principal, out: &Path, console: Console) -> Result<(), Failure> {
    let until = describe(&signed.chain).map_err(Failure::of)?.first().map(|leaf| instant(leaf.not_after));
    let until = until.unwrap_or_default();
    Ok(console.data(&format!("{principal} in {}  good until {until}\n", out.display()))?)
}
