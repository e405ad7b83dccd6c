//! `pki …`

mod at_once;
mod identities;
mod rollover;
mod shown;

use std::time::SystemTime;

use crate::cli::arguments::{PkiCommand, PkiInit, issuer_lasting};
use crate::cli::authority_dir::AuthorityDir;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::pki::instant;
use crate::tls::authority::Validity;

pub(super) fn dispatch(command: PkiCommand, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        PkiCommand::Init(asked) => init(&asked, console),
        PkiCommand::Issue(asked) => identities::issue(&asked, console),
        PkiCommand::Cluster(asked) => at_once::cluster(&asked, console),
        PkiCommand::Renew(asked) => match (&asked.out, asked.issuer) {
            (Some(out), _) if asked.trust_only => identities::renew_trust(&asked, out, console),
            (Some(out), _) => identities::renew(&asked, out, console),
            (None, Some(kind)) if asked.drop_old => rollover::finish(&asked, kind, console),
            (None, Some(kind)) => rollover::begin(&asked, kind, console),
            (None, None) => Err(Failure::usage("what is to be renewed?").hint("give --in OUT or --issuer ROLES")),
        },
        PkiCommand::Show(asked) => shown::show(&asked, console),
    }
}

fn init(asked: &PkiInit, console: Console) -> Result<ExitStatus, Failure> {
    let authority = AuthorityDir(&asked.dir);
    let valid = Validity::starting(SystemTime::now(), issuer_lasting(Some(asked.days)));
    let mut done = String::new();
    for issuer in authority.found(&asked.trust_domain, valid)? {
        let path = authority.certificate(issuer.kind());
        done.push_str(&format!("{}  good until {}\n", path.display(), instant(issuer.not_after())));
    }
    console.data(&done)?;
    let dir = asked.dir.display();
    console.note(&format!(
        "keep {dir} on a host of its own and a copy of it somewhere else; next, for each controller and each admin:\n  \
         pilothouse pki issue --dir {dir} controller 1 --dns HOST --ip ADDRESS --with-router-issuer\n  \
         pilothouse pki issue --dir {dir} admin NAME"
    ));
    Ok(ExitStatus::Done)
}
