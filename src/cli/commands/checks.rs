//! Named findings of `controller check` and `router check`: what a start would meet, found without starting.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::cli::console::{Console, Tone};
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::table::Table;
use crate::tls::store::unix_now;
use crate::tls::{Expiry, Material, TlsConfig};

/// Findings, in the order in which a start would meet them.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, Result<String, String>)>);

impl Findings {
    pub(super) fn add(&mut self, what: impl Into<String>, finding: Result<impl Into<String>, impl Into<String>>) {
        self.0.push((what.into(), finding.map(Into::into).map_err(Into::into)));
    }

    /// Whether a listener could be bound. It is given back at once.
    pub(super) fn port(&mut self, what: &str, address: SocketAddr) {
        let bound = TcpListener::bind(address);
        self.add(what, bound.map(|_| format!("{address} is free")).map_err(|why| {
            format!("{address} cannot be bound ({why}): free it, or choose another address; a daemon that runs holds its own")
        }));
    }

    /// Whether certificates can be read, fit together, and are still good.
    pub(super) fn certificates(&mut self, tls: &TlsConfig) {
        let finding = match tls.open() {
            Err(why) => Err(why.to_string()),
            Ok(security) => match security.store().map(|store| store.current()) {
                None => Ok("plain text (tls.insecure)".to_owned()),
                Some(material) => certificate(&material),
            },
        };
        self.add("certificates", finding);
    }

    /// Whether a directory that is not there yet could be made.
    pub(super) fn creatable(&mut self, what: &str, directory: &Path) {
        let exists = directory.ancestors().find(|ancestor| ancestor.as_os_str().is_empty() || ancestor.exists());
        let at = exists.filter(|ancestor| !ancestor.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let found = access(at, AccessFlags::W_OK | AccessFlags::X_OK);
        self.add(
            what,
            found.map(|()| format!("{} is made at the first start", directory.display())).map_err(|why| {
                format!("{} cannot be made in {} ({why}): let this user write there", directory.display(), at.display())
            }),
        );
    }

    /// Prints all of them.
    pub(super) fn report(self, console: Console) -> Result<ExitStatus, Failure> {
        let mut table = Table::new(&["CHECK", "RESULT", "FINDING"]);
        for (what, finding) in &self.0 {
            let (tone, result, text) = match finding {
                Ok(text) => (Tone::Plain, "good", text),
                Err(text) => (Tone::Bad, "bad", text),
            };
            table.row(tone, vec![what.clone(), result.into(), text.clone()]);
        }
        console.data(&table.render(console.out_colour()))?;
        match self.0.iter().filter(|(_, finding)| finding.is_err()).count() {
            0 => Ok(ExitStatus::Done),
            bad => Err(Failure::new(format!("{bad} of {} checks found something", self.0.len()))
                .hint("each finding says what to do; nothing was changed")),
        }
    }
}

fn certificate(material: &Material) -> Result<String, String> {
    let leaf = material.leaf();
    match Expiry::of(leaf.not_after, unix_now()) {
        Expiry::Over => {
            Err(format!("the certificate of {} has ended: renew it, `pilothouse pki renew`", leaf.principal))
        }
        Expiry::Far => Ok(format!("{} is good", leaf.principal)),
        soon => Ok(format!("{} is good, and ends {}", leaf.principal, soon.as_str())),
    }
}
