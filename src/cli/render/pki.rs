//! `pki show`. Field names of the JSON are stable.

use std::net::IpAddr;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::table::Table;
use crate::cli::console::Tone;
use crate::tls::authority::Described;

/// A certificate that ends within so many days is worth a look.
const SOON_DAYS: i64 = 14;

/// Certificates, as `pki show -o json` prints them.
#[derive(Debug, Clone, Serialize)]
pub struct Certificates {
    /// In the order of their files.
    pub certificates: Vec<Shown>,
}

/// One of them.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Where it stands.
    pub file: String,
    /// Whose it is; `null` for an issuer, and for one that is nobody's of ours.
    pub identity: Option<String>,
    /// Whether it may sign others.
    pub ca: bool,
    /// Common name of whoever signed it.
    pub issuer: String,
    /// As in `2026-11-25T12:00:00Z`.
    pub from: String,
    /// As in `2026-11-25T12:00:00Z`.
    pub until: String,
    /// Whole days; below zero when it has ended.
    pub days_left: i64,
    /// Of the certificate, hexadecimal.
    pub sha256: String,
    /// Host names that it is good for.
    pub dns: Vec<String>,
    /// Addresses that it is good for.
    pub ips: Vec<IpAddr>,
}

impl Shown {
    /// The view.
    #[must_use]
    pub fn of(file: String, described: Described, now: OffsetDateTime) -> Self {
        Self {
            file,
            identity: described.principal.map(|principal| principal.to_string()),
            ca: described.is_ca,
            issuer: described.issuer,
            from: instant(described.not_before),
            until: instant(described.not_after),
            days_left: (described.not_after - now).whole_seconds().div_euclid(86_400),
            sha256: described.sha256,
            dns: described.dns,
            ips: described.ips,
        }
    }

    fn tone(&self) -> Tone {
        match self.days_left {
            ..0 => Tone::Bad,
            0..SOON_DAYS => Tone::Doubtful,
            _ => Tone::Plain,
        }
    }
}

/// A time for people and programs.
#[must_use]
pub fn instant(at: OffsetDateTime) -> String {
    // Only a year of more than four digits cannot be written so, and no certificate holds one.
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// `pki show` for people.
#[must_use]
pub fn show(certificates: &Certificates, colour: bool) -> String {
    let mut table = Table::new(&["FILE", "IDENTITY", "CA", "ISSUER", "FROM", "UNTIL", "DAYS LEFT", "SHA256"]);
    for shown in &certificates.certificates {
        let left =
            if shown.days_left < 0 { format!("{} (ended)", shown.days_left) } else { shown.days_left.to_string() };
        let cells = vec![
            shown.file.clone(),
            shown.identity.clone().unwrap_or_else(|| "-".into()),
            if shown.ca { "yes" } else { "no" }.into(),
            shown.issuer.clone(),
            shown.from.clone(),
            shown.until.clone(),
            left,
            shown.sha256.clone(),
        ];
        table.row(shown.tone(), cells);
    }
    table.render(colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::{golden, json};

    fn certificates() -> Certificates {
        let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(1_790_000_000 + seconds).unwrap();
        let issuer = Described {
            principal: None,
            is_ca: true,
            issuer: "Pilothouse controllers of example.org".into(),
            not_before: at(0),
            not_after: at(3650 * 86_400),
            sha256: "0a".repeat(32),
            dns: Vec::new(),
            ips: Vec::new(),
        };
        let leaf = Described {
            principal: Some("spiffe://example.org/controller/1".parse().unwrap()),
            is_ca: false,
            not_after: at(86_400),
            dns: vec!["c1.example.org".into()],
            ips: vec!["127.0.0.1".parse().unwrap()],
            ..issuer.clone()
        };
        let ended = Described { not_after: at(-1), ..leaf.clone() };
        let shown = [("ca-controllers.pem", issuer), ("certificate.pem", leaf), ("old.pem", ended)];
        Certificates { certificates: shown.map(|(file, what)| Shown::of(file.into(), what, at(0))).to_vec() }
    }

    #[test]
    fn certificates_for_people() {
        golden("pki.txt", &show(&certificates(), false));
    }

    #[test]
    fn certificates_for_programs() {
        golden("pki.json", &json(&certificates()));
    }
}
