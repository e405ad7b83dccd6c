//! `pki cluster`: an authority and every identity of a small cluster, each unless it is there.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::SystemTime;

use super::identities::report;
use crate::cli::arguments::{PkiCluster, issuer_lasting, leaf_lasting};
use crate::cli::authority_dir::{AuthorityDir, Signed};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::domain::principal::{Principal, Role, RoleKind};
use crate::tls::authority::{Leaf, Validity};
use crate::tls::config::names::CERTIFICATE;

/// Who operates the cluster.
const ADMIN: &str = "admin";

/// One that needs a certificate, and the name of its directory.
struct Identity {
    kind: RoleKind,
    id: String,
    name: String,
}

pub(super) fn cluster(asked: &PkiCluster, console: Console) -> Result<ExitStatus, Failure> {
    let authority = AuthorityDir(&asked.dir);
    if !authority.certificate(RoleKind::Controller).exists() {
        let valid = Validity::starting(SystemTime::now(), issuer_lasting(None));
        authority.found(&asked.trust_domain, valid)?;
        console.data(&format!("an authority of {} in {}\n", asked.trust_domain, asked.dir.display()))?;
    }
    for identity in identities(asked.controllers, asked.routers) {
        let out = asked.out.join(&identity.name);
        // The certificate is written last: where it is, everything is.
        if out.join(CERTIFICATE).exists() {
            console.note(&format!("{} is there already, and stays as it is", out.display()));
        } else {
            issue(asked, &authority, &identity, &out, console)?;
        }
    }
    Ok(ExitStatus::Done)
}

fn identities(controllers: u64, routers: u64) -> Vec<Identity> {
    let controller =
        |id| Identity { kind: RoleKind::Controller, id: format!("{id}"), name: format!("controller-{id}") };
    let router = |id| Identity { kind: RoleKind::Router, id: format!("router-{id}"), name: format!("router-{id}") };
    let admin = Identity { kind: RoleKind::Admin, id: ADMIN.to_owned(), name: ADMIN.to_owned() };
    (1..=controllers).map(controller).chain((1..=routers).map(router)).chain([admin]).collect()
}

fn issue(
    asked: &PkiCluster,
    authority: &AuthorityDir<'_>,
    identity: &Identity,
    out: &Path,
    console: Console,
) -> Result<(), Failure> {
    let issuer = authority.issuer(identity.kind)?;
    let domain = issuer.trust_domain().clone();
    if domain != asked.trust_domain {
        return Err(Failure::new(format!("the authority in {} is of {domain}", asked.dir.display()))
            .hint("give that --trust-domain, or another --dir"));
    }
    let role = Role::new(identity.kind, &identity.id).map_err(Failure::usage)?;
    let (dns, ips) = match identity.kind {
        RoleKind::Controller => {
            (vec![identity.name.clone(), "localhost".to_owned()], vec![IpAddr::from(Ipv4Addr::LOCALHOST)])
        }
        RoleKind::Router | RoleKind::Admin => (Vec::new(), Vec::new()),
    };
    let valid = Validity::starting(SystemTime::now(), leaf_lasting(None, identity.kind));
    let leaf = Leaf { principal: Principal { domain, role }, dns, ips, valid };
    let signed = Signed::with_new_key(&issuer, &leaf)?;
    authority.fill(out, identity.kind, identity.kind == RoleKind::Controller, &signed)?;
    report(&signed, &leaf.principal, out, console)
}
