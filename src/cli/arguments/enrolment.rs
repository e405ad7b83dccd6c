//! `router enroll` and `controller join`: what stands before the first start of either.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::OutputFlag;
use crate::domain::ids::{ControllerId, ControllerName};
use crate::domain::principal::TrustDomain;

/// How long each of the two steps of an enrolment may take, in seconds: several controllers that hang, one after the other.
const STEP_SECONDS: NonZeroU32 = NonZeroU32::new(60).expect("it is not 0");

/// A text that nothing prints.
#[derive(Clone)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// `router enroll`
#[derive(Debug, Args)]
pub struct RouterEnroll {
    /// The join token, or - for standard input: an argument can be seen in the list of processes
    #[arg(long, required_unless_present = "token_file", conflicts_with = "token_file", allow_hyphen_values = true)]
    pub token: Option<Hidden>,
    /// A file that holds the join token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The router's data directory, where its lists are saved
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where key and certificates are put [default: tls, beside the data directory]
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Where the router's configuration is written; nothing is overwritten [default: router.toml, beside the tls directory]
    #[arg(long, value_name = "FILE")]
    pub config_out: Option<PathBuf>,
    /// Where a router's certificate is there already, end with 0: nothing is asked, and the token is not read
    ///
    /// For whatever runs at every start, such as an init container: a router has to start also when no controller answers.
    #[arg(long, conflicts_with = "output")]
    pub if_needed: bool,
    /// Give up each of the two steps, the certificate and the list, after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = STEP_SECONDS)]
    pub timeout: NonZeroU32,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: OutputFlag,
}

/// `controller join`
#[derive(Debug, Args)]
pub struct ControllerJoin {
    /// Its id: one that was never used, as `pilothouse cluster status` says
    #[arg(long)]
    pub id: ControllerId,
    /// Its name, unique in the cluster
    #[arg(long)]
    pub name: ControllerName,
    /// Within which the identities of the cluster mean something, as in spiffe://TRUST-DOMAIN/controller/4
    #[arg(long, value_name = "TRUST-DOMAIN")]
    pub trust_domain: TrustDomain,
    /// Its data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where its key and certificates are put
    #[arg(long, value_name = "DIR")]
    pub tls_dir: PathBuf,
    /// Where other controllers reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub peer: Option<String>,
    /// Where routers reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub router: Option<String>,
    /// Where operators reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<String>,
    /// Where probes and metrics are served
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
    /// Where its configuration is written; nothing is overwritten [default: controller.toml, beside the tls directory]
    #[arg(long, value_name = "FILE")]
    pub config_out: Option<PathBuf>,
}

/// A user and a group, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl FromStr for Owner {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = numbers.ok_or("write it as UID:GID, as in 65532:65532")?;
        Ok(Self { uid, gid })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// `router prepare`
#[derive(Debug, Args)]
pub struct RouterPrepare {
    /// Whom they are given to, by number
    #[arg(long, value_name = "UID:GID")]
    pub owner: Owner,
    /// The directories; each is made if it is missing
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,
}
