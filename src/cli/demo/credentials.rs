//! Who is who in a demo: an authority of its own, made once, a certificate for each child, and one for whoever asks.
//!
//! Whatever is there stays as it is, so that a folder keeps its identities. Over plain text nobody needs any.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;

use super::layout::{Layout, Unit};
use crate::cli::arguments::issuer_lasting;
use crate::cli::authority_dir::{AuthorityDir, Signed};
use crate::cli::failure::Failure;
use crate::domain::principal::{Principal, Role, RoleKind, TrustDomain};
use crate::ops::config::Problems;
use crate::tls::authority::{Leaf, Validity};
use crate::tls::config::names::CERTIFICATE;
use crate::tls::{ControllerTlsFile, Security, TlsFile};

/// Within which the identities of a demo mean something.
const TRUST_DOMAIN: &str = "demo.pilothouse";
/// Who asks: the demo itself, and whoever tries something out.
const ADMIN: &str = "demo";

/// Makes the authority of a new folder, and the admin. Returns how to ask controllers.
pub(crate) fn prepare(layout: &Layout) -> anyhow::Result<Security> {
    if !layout.secure {
        return Ok(Security::default());
    }
    let authority = layout.authority();
    if !authority.exists() {
        // It gets its name when it is whole: what was cut off is nobody's yet.
        let unfinished = layout.unfinished_authority();
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
        }
        let domain = TrustDomain::new(TRUST_DOMAIN).context("the trust domain of a demo is one")?;
        AuthorityDir(&unfinished).found(&domain, lasting()).map_err(Failure::into_error)?;
        std::fs::rename(&unfinished, &authority).with_context(|| format!("name {}", authority.display()))?;
    }
    let dir = layout.admin_tls();
    issue(layout, RoleKind::Admin, ADMIN, &dir)?;
    security(layout, RoleKind::Admin, &dir)
}

/// Makes the certificate of a child, unless it has one. The id of a controller is its number, also when it joins.
pub(crate) fn of_unit(layout: &Layout, unit: Unit) -> anyhow::Result<()> {
    if !layout.secure {
        return Ok(());
    }
    match unit {
        Unit::Controller(number) => issue(layout, RoleKind::Controller, &number.to_string(), &layout.tls_of(unit)),
        Unit::Router(_) => issue(layout, RoleKind::Router, &unit.to_string(), &layout.tls_of(unit)),
    }
}

/// How a router that is no child speaks to controllers: with a certificate of its own.
pub(crate) fn of_router(layout: &Layout, id: &str) -> anyhow::Result<Security> {
    let dir = layout.authority().join("issued").join(format!("{}-{id}", RoleKind::Router));
    if layout.secure {
        issue(layout, RoleKind::Router, id, &dir)?;
    }
    security(layout, RoleKind::Router, &dir)
}

/// How somebody speaks who has the certificate of a controller in hands.
pub(crate) fn as_controller(layout: &Layout, number: u16) -> anyhow::Result<Security> {
    security(layout, RoleKind::Controller, &layout.tls_of(Unit::Controller(number)))
}

fn issue(layout: &Layout, kind: RoleKind, id: &str, dir: &Path) -> anyhow::Result<()> {
    // The certificate is written last.
    if dir.join(CERTIFICATE).exists() {
        return Ok(());
    }
    let role = Role::new(kind, id).with_context(|| format!("name a certificate {kind}/{id}"))?;
    let (dns, ips) = match kind {
        RoleKind::Controller => (vec!["localhost".to_owned()], vec![IpAddr::from(Ipv4Addr::LOCALHOST)]),
        RoleKind::Router | RoleKind::Admin => (Vec::new(), Vec::new()),
    };
    let made = || {
        let folder = layout.authority();
        let authority = AuthorityDir(&folder);
        let issuer = authority.issuer(kind)?;
        let principal = Principal { domain: issuer.trust_domain().clone(), role };
        let signed = Signed::with_new_key(&issuer, &Leaf { principal, dns, ips, valid: lasting() })?;
        authority.fill(dir, kind, kind == RoleKind::Controller, &signed)
    };
    made().map_err(Failure::into_error).with_context(|| format!("make the certificate of {kind} {id}"))
}

/// A folder that is taken up again much later still works: nothing in it ends before its issuers do.
fn lasting() -> Validity {
    Validity::starting(SystemTime::now(), issuer_lasting(None))
}

fn security(layout: &Layout, kind: RoleKind, dir: &Path) -> anyhow::Result<Security> {
    if !layout.secure {
        return Ok(Security::default());
    }
    let (dir, mut problems) = (Some(dir.to_owned()), Problems::default());
    let meant = match kind {
        RoleKind::Controller => ControllerTlsFile { dir, ..ControllerTlsFile::default() }.meant(&mut problems),
        RoleKind::Router | RoleKind::Admin => TlsFile { dir, ..TlsFile::default() }.meant(kind, &mut problems),
    };
    let meant = meant.with_context(|| problems.into_invalid().to_string())?;
    Ok(meant.open()?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::tls::authority::{describe, read_certificates};

    fn layout(folder: PathBuf, secure: bool) -> Layout {
        Layout { folder, base_port: 20_000, controllers: 3, routers: 1, secure }
    }

    fn identity(dir: &Path) -> String {
        let chain = read_certificates(&dir.join(CERTIFICATE)).unwrap();
        describe(&chain).unwrap()[0].principal.as_ref().unwrap().to_string()
    }

    #[test]
    fn everybody_has_an_identity_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path().to_owned(), true);
        // What was cut off at an earlier start is in nobody's way.
        std::fs::create_dir(layout.unfinished_authority()).unwrap();
        std::fs::write(layout.unfinished_authority().join("issuer-admins.pem"), "half").unwrap();
        let (controller, router) = (layout.tls_of(Unit::Controller(4)), layout.tls_of(Unit::Router(1)));
        let certificates =
            || [&layout.admin_tls(), &controller, &router].map(|dir| std::fs::read(dir.join(CERTIFICATE)));
        let mut first = None;
        for _ in 0..2 {
            assert!(matches!(prepare(&layout).unwrap(), Security::Tls(_)));
            of_unit(&layout, Unit::Controller(4)).unwrap();
            of_unit(&layout, Unit::Router(1)).unwrap();
            let now = certificates().map(Result::unwrap);
            assert_eq!(first.get_or_insert_with(|| now.clone()), &now, "made anew");
        }
        assert_eq!(identity(&layout.admin_tls()), "spiffe://demo.pilothouse/admin/demo");
        assert_eq!(identity(&controller), "spiffe://demo.pilothouse/controller/4");
        assert_eq!(identity(&router), "spiffe://demo.pilothouse/router/router-1");
        assert!(matches!(as_controller(&layout, 4).unwrap(), Security::Tls(_)));
        let Security::Tls(probe) = of_router(&layout, "tour-probe-1").unwrap() else { panic!("plain") };
        assert_eq!(probe.current().leaf().principal.to_string(), "spiffe://demo.pilothouse/router/tour-probe-1");
    }

    #[test]
    fn over_plain_text_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path().to_owned(), false);
        assert!(matches!(prepare(&layout).unwrap(), Security::Plain { .. }));
        of_unit(&layout, Unit::Controller(1)).unwrap();
        assert!(matches!(of_router(&layout, "a").unwrap(), Security::Plain { .. }));
        assert!(matches!(as_controller(&layout, 1).unwrap(), Security::Plain { .. }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
