//! `pki renew --issuer`: an issuer is replaced in three steps, so that nobody meets a certificate that it does not trust.
//!
//! 1. the new issuer is made, and both are trusted; 2. every certificate of the role is renewed; 3. only the new one is
//!    trusted. Between two steps every host gets what the step before made.

use std::time::SystemTime;

use crate::cli::arguments::{PkiRenew, issuer_lasting};
use crate::cli::authority_dir::AuthorityDir;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::pki::instant;
use crate::domain::principal::RoleKind;
use crate::tls::authority::{
    Issuer, Validity, describe, issuer_is_for, joined, plural, read_certificates, write_certificates,
};

pub(super) fn begin(asked: &PkiRenew, kind: RoleKind, console: Console) -> Result<ExitStatus, Failure> {
    let authority = AuthorityDir(&asked.dir);
    let (dir, roles) = (asked.dir.display(), plural(kind));
    // The key is not asked for: that it is lost is one of the reasons to replace an issuer.
    let old = read_certificates(&authority.certificate(kind)).map_err(Failure::of)?;
    let (domain, held) = issuer_is_for(&old).map_err(Failure::of)?;
    if held != kind {
        return Err(Failure::new(format!("issuer-{roles}.pem is the issuer of {}", plural(held)))
            .hint("put the files of this directory back as `pilothouse pki init` made them"));
    }
    let anchors = authority.anchors(kind)?;
    if describe(&anchors).map_err(Failure::of)?.len() > 1 {
        return Err(Failure::new(format!("the issuer of {roles} is being replaced already")).hint(format!(
            "renew every certificate of {roles}, and then `pilothouse pki renew --dir {dir} --issuer {roles} --drop-old`"
        )));
    }
    let valid = Validity::starting(SystemTime::now(), issuer_lasting(asked.days));
    let new = Issuer::create(&domain, kind, valid).map_err(Failure::of)?;
    let both = joined(&[&anchors, &old, &new.certificate_pem()]).map_err(Failure::of)?;
    // Trust is first: after a crash between the two the bundle has one anchor too many, which --drop-old takes out again,
    // and never one too few.
    write_certificates(&authority.bundle(kind), &both).map_err(Failure::of)?;
    authority.put_issuer(&new)?;
    console.data(&format!(
        "{}  good until {}; {} trusts the old one too\n",
        authority.certificate(kind).display(),
        instant(new.not_after()),
        authority.bundle(kind).display(),
    ))?;
    let enrolling = match kind {
        RoleKind::Router => ", and each controller with router-issuer.pem first",
        RoleKind::Controller | RoleKind::Admin => "",
    };
    console.note(&format!(
        "1 of 3 is done: from now on the new issuer signs. Next, in this order:\n  \
         1. for {}, and copy its ca-*.pem files to its host:\n     pilothouse pki renew --dir {dir} --in OUT --trust-only\n  \
         2. for each of the {roles}{enrolling}, and copy its files to its host:\n     pilothouse pki renew --dir {dir} --in OUT\n  \
         3. when all of them are in use:\n     pilothouse pki renew --dir {dir} --issuer {roles} --drop-old",
        who_trusts(kind)
    ));
    Ok(ExitStatus::Done)
}

pub(super) fn finish(asked: &PkiRenew, kind: RoleKind, console: Console) -> Result<ExitStatus, Failure> {
    let authority = AuthorityDir(&asked.dir);
    let dir = asked.dir.display();
    let current = authority.issuer(kind)?;
    write_certificates(&authority.bundle(kind), &current.certificate_pem()).map_err(Failure::of)?;
    console.data(&format!("{}  trusts the current issuer only\n", authority.bundle(kind).display()))?;
    console.note(&format!(
        "3 of 3 is done here. Last, for {}, and copy its ca-*.pem files to its host:\n  \
         pilothouse pki renew --dir {dir} --in OUT --trust-only",
        who_trusts(kind)
    ));
    Ok(ExitStatus::Done)
}

/// Who has to learn of a role's issuer.
fn who_trusts(kind: RoleKind) -> &'static str {
    match kind {
        RoleKind::Controller => "each controller, router and admin",
        RoleKind::Router | RoleKind::Admin => "each controller",
    }
}
