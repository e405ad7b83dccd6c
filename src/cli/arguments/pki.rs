//! `pki …`

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::OutputFlag;
use crate::domain::principal::{RoleKind, TrustDomain};
use crate::tls::authority::plural;

/// An issuer is replaced by a rollover, which touches every host: ten years.
const ISSUER_DAYS: u32 = 3650;
/// A controller's certificate is renewed by hand and reloaded without a restart, but a forgotten one costs a voter: a year.
const CONTROLLER_DAYS: u32 = 365;
/// Routers are many and can be enrolled again at any time: a quarter.
const ROUTER_DAYS: u32 = 90;
/// An admin's certificate can do anything and lies on a laptop: a quarter.
const ADMIN_DAYS: u32 = 90;
/// Longest that can be asked for, in days: a century, so that every date can be written.
const DAYS_MAX: i64 = 36_500;

/// Controllers, and routers, of a small cluster: one controller may fail.
const CLUSTER_OF: u64 = 3;
/// Most of each: a cluster with more is nothing that is tried out.
const CLUSTER_OF_MAX: u64 = 64;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `pki …`
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a certificate authority: an issuer each for controllers, routers and admins
    ///
    /// DIR holds the keys that everything rests on: keep it on a host of its own, and a copy of it somewhere else.
    Init(PkiInit),
    /// Make a key and a certificate for a controller, a router or an admin
    Issue(PkiIssue),
    /// Make what is missing of an authority and of the certificates of a small cluster, all at once
    ///
    /// For containers and trials, where one process prepares everything: what is there already stays as it is, so that it
    /// can run at every start. Controllers are named `controller-1` to `controller-N`, also in DNS; routers `router-1` to
    /// `router-N`. They may enrol further routers.
    Cluster(PkiCluster),
    /// Renew a certificate, or replace an issuer in three steps
    ///
    /// An issuer is replaced so, and nothing stops meanwhile: `--issuer ROLES` makes the new one and trusts both;
    /// `--in OUT` for every certificate of that role, once every host trusts both; `--issuer ROLES --drop-old`.
    Renew(PkiRenew),
    /// Show certificates: whose, from whom, and until when; never a key
    ///
    /// With `-o json`: `certificates` with `file`, `identity` (or null), `ca`, `issuer`, `from`, `until`, `days_left`,
    /// `sha256`, `dns`, `ips`.
    Show(PkiShow),
}

/// `pki init`
#[derive(Debug, Args)]
pub struct PkiInit {
    /// Where its issuers are put; it is made, and only its owner can open it
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Within which the identities mean something, as in spiffe://TRUST-DOMAIN/controller/1
    #[arg(long, value_name = "TRUST-DOMAIN")]
    pub trust_domain: TrustDomain,
    /// How long the issuers are good for
    #[arg(long, value_name = "DAYS", default_value_t = ISSUER_DAYS, value_parser = days())]
    pub days: u32,
}

/// `pki issue`
#[derive(Debug, Args)]
pub struct PkiIssue {
    /// Where the issuers are
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// What it is for: controller, router or admin
    #[arg(value_name = "ROLE")]
    pub role: RoleKind,
    /// Which one: a number for a controller, else a name
    pub id: String,
    /// Where the files are put [default: DIR/issued/ROLE-ID]
    #[arg(long, value_name = "OUT")]
    pub out: Option<PathBuf>,
    /// A host name that whoever asks a controller's HTTP port uses (repeatable)
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// An address that whoever asks a controller's HTTP port uses (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Vec<IpAddr>,
    /// How long it is good for [default: 365 for a controller, 90 for a router or an admin]
    #[arg(long, value_name = "DAYS", value_parser = days())]
    pub days: Option<u32>,
    /// Sign this request, whose key stays where it was made
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
    /// Also give the controller the issuer of routers, so that it can enrol routers
    #[arg(long)]
    pub with_router_issuer: bool,
}

/// `pki cluster`
#[derive(Debug, Args)]
pub struct PkiCluster {
    /// Where the issuers are, or are put
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Within which the identities mean something, as in spiffe://TRUST-DOMAIN/controller/1
    #[arg(long, value_name = "TRUST-DOMAIN")]
    pub trust_domain: TrustDomain,
    /// Where the certificates are put: OUT/controller-1, OUT/router-1, OUT/admin
    #[arg(long, value_name = "OUT")]
    pub out: PathBuf,
    /// How many controllers
    #[arg(long, value_name = "COUNT", default_value_t = CLUSTER_OF, value_parser = count())]
    pub controllers: u64,
    /// How many routers
    #[arg(long, value_name = "COUNT", default_value_t = CLUSTER_OF, value_parser = count())]
    pub routers: u64,
}

/// `pki renew`
#[derive(Debug, Args)]
pub struct PkiRenew {
    /// Where the issuers are
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// What `pki issue` wrote: a new key and certificate for the same identity, and current ca-*.pem files
    #[arg(long = "in", value_name = "OUT", conflicts_with = "issuer")]
    pub out: Option<PathBuf>,
    /// Make a new issuer of controllers, routers or admins, and trust it beside the old one
    #[arg(long, value_name = "ROLES", value_parser = role_of_plural)]
    pub issuer: Option<RoleKind>,
    /// End a rollover: trust the current issuer only
    #[arg(long, requires = "issuer", conflicts_with_all = ["days", "out", "csr"])]
    pub drop_old: bool,
    /// Renew the ca-*.pem files only
    #[arg(long, requires = "out", conflicts_with_all = ["days", "csr", "issuer"])]
    pub trust_only: bool,
    /// Sign this request, whose key stays where it was made
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with = "issuer")]
    pub csr: Option<PathBuf>,
    /// How long it is good for [default: as for `pki issue` and `pki init`]
    #[arg(long, value_name = "DAYS", value_parser = days())]
    pub days: Option<u32>,
}

/// `pki show`
#[derive(Debug, Args)]
pub struct PkiShow {
    /// A file, or a directory with everything in it
    pub path: PathBuf,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: OutputFlag,
}

/// How long a certificate of a role is good for.
#[must_use]
pub fn leaf_lasting(asked: Option<u32>, kind: RoleKind) -> Duration {
    let days = asked.unwrap_or(match kind {
        RoleKind::Controller => CONTROLLER_DAYS,
        RoleKind::Router => ROUTER_DAYS,
        RoleKind::Admin => ADMIN_DAYS,
    });
    DAY * days
}

/// How long an issuer is good for.
#[must_use]
pub fn issuer_lasting(asked: Option<u32>) -> Duration {
    DAY * asked.unwrap_or(ISSUER_DAYS)
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=DAYS_MAX)
}

fn count() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=CLUSTER_OF_MAX)
}

fn role_of_plural(text: &str) -> Result<RoleKind, &'static str> {
    RoleKind::ALL.into_iter().find(|kind| plural(*kind) == text).ok_or("give controllers, routers or admins")
}
