//! The events of routers and controllers: how much each matters, whom it is about, and its facts. Pure.

use std::fmt;
use std::time::Duration;

use super::kind::{Kind, Severity};
use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;

/// Most facts of an event: what does not fit into a few lines is not read at three in the morning.
pub const FACTS_MAX: usize = 8;

/// Whom or what an event is about. Together with the kind it is the name of a condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The process that raised it, whichever it is.
    Itself,
    /// A router, by its id.
    Router(String),
    /// A controller, by its id.
    Controller(String),
    /// Whoever answers at an address.
    Address(String),
    /// A file, by its path.
    File(String),
    /// A certificate, by the usual name of its file.
    Certificate(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself => f.write_str("itself"),
            Self::Router(id) => write!(f, "router {id}"),
            Self::Controller(id) => write!(f, "controller {id}"),
            Self::Address(address) => f.write_str(address),
            Self::File(path) => f.write_str(path),
            Self::Certificate(name) => write!(f, "certificate {name}"),
        }
    }
}

/// Something that happened, or that has begun to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A router refused an offered list and kept what it holds.
    OfferRefused {
        /// Who offered it.
        from: Subject,
        /// Where that answers.
        at: String,
        /// `Refusal::code`.
        reason: &'static str,
        /// The refusal.
        message: String,
        /// What to do.
        hint: String,
        /// Whether it was only overtaken by a newer one, a moment ago: nobody has to look.
        late: bool,
    },
    /// A condition: a router uses an older source for its list than it should.
    FellBack {
        /// `previous`, `reserve` or `hints`.
        to: &'static str,
        /// Why the better sources cannot be used.
        message: String,
    },
    /// A condition: a router knows nobody but the controllers of its configuration, or reaches nobody else.
    RunningOnSeeds {
        /// Whether it never had a list: then this is how every router begins.
        first: bool,
        /// Why the better sources cannot be used.
        message: String,
    },
    /// A condition: a router has had no session with any controller for too long.
    NoControllerReachable {
        /// For how long before it was said.
        after: Duration,
        /// How many places it tries.
        known: usize,
        /// The list that stays in use; `None`: it has none.
        held: Option<String>,
    },
    /// A file of a router could not be used and was set aside.
    FileSetAside {
        /// Which file.
        path: String,
        /// Under which name it is kept.
        kept_as: String,
        /// What is wrong with it.
        message: String,
    },
    /// A condition: a list was adopted in memory, but could not be written to disk.
    NotSaved {
        /// The error.
        message: String,
    },
    /// A condition: a controller found that routers would refuse the list that it was about to publish; the last good one
    /// stays.
    PublicationWithheld {
        /// `Refusal::code` or `Defect::code`.
        reason: &'static str,
        /// In which encoding, and why.
        message: String,
    },
    /// A router answered NACK.
    RouterRefused {
        /// Which router.
        router: String,
        /// The reason that it gave.
        reason: String,
        /// Its words.
        message: String,
        /// Whether the offer was only overtaken by a newer one, as the router says.
        late: bool,
    },
    /// A second live router came with the same id; the newer session stays.
    SessionSuperseded {
        /// Which router.
        router: String,
    },
    /// Somebody asked for a certificate with a token that is worth nothing.
    EnrolmentRefused {
        /// For which router, as it says.
        router: String,
        /// `TokenRefusal::code`.
        reason: &'static str,
        /// The refusal.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A condition: a member's replicated state is another one than the leader's: one of the two is wrong.
    StateDiffers {
        /// Which member.
        controller: ControllerId,
        /// At which log index.
        index: u64,
    },
    /// A condition: an upgrade cannot be finalized.
    UpgradeBlocked {
        /// To which feature level.
        level: FeatureLevel,
        /// All that is in the way.
        message: String,
        /// What to do about the first of it.
        hint: &'static str,
    },
    /// This controller was removed from the cluster.
    Removed,
    /// Certificate, key or trusted issuers were replaced on disk, and are in use.
    CertificateReplaced {
        /// Whose certificate it is.
        principal: String,
    },
    /// A condition: what lies on disk cannot be used; what was read earlier stays in use.
    CertificateUnusable {
        /// Which file, and why.
        message: String,
    },
    /// A condition: a certificate ends soon, or has ended.
    CertificateExpires {
        /// Which file, by its usual name: `certificate`, `ca-routers`, …
        certificate: &'static str,
        /// How soon.
        within: &'static str,
        /// Whether it has ended.
        over: bool,
    },
}

impl Event {
    /// Which kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::OfferRefused { .. } => Kind::OfferRefused,
            Self::FellBack { .. } => Kind::FellBack,
            Self::RunningOnSeeds { .. } => Kind::RunningOnSeeds,
            Self::NoControllerReachable { .. } => Kind::NoControllerReachable,
            Self::FileSetAside { .. } => Kind::FileSetAside,
            Self::NotSaved { .. } => Kind::NotSaved,
            Self::PublicationWithheld { .. } => Kind::PublicationWithheld,
            Self::RouterRefused { .. } => Kind::RouterRefused,
            Self::SessionSuperseded { .. } => Kind::SessionSuperseded,
            Self::EnrolmentRefused { .. } => Kind::EnrolmentRefused,
            Self::StateDiffers { .. } => Kind::StateDiffers,
            Self::UpgradeBlocked { .. } => Kind::UpgradeBlocked,
            Self::Removed => Kind::Removed,
            Self::CertificateReplaced { .. } => Kind::CertificateReplaced,
            Self::CertificateUnusable { .. } => Kind::CertificateUnusable,
            Self::CertificateExpires { .. } => Kind::CertificateExpires,
        }
    }

    /// Stable name: of its kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind().as_str()
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::OfferRefused { late: true, .. } | Self::RouterRefused { late: true, .. } => Severity::Info,
            Self::OfferRefused { reason, .. } if disagrees(reason) => Severity::Error,
            Self::RouterRefused { reason, .. } if disagrees(reason) => Severity::Error,
            Self::PublicationWithheld { .. }
            | Self::NotSaved { .. }
            | Self::StateDiffers { .. }
            | Self::NoControllerReachable { .. }
            | Self::CertificateUnusable { .. }
            | Self::CertificateExpires { over: true, .. } => Severity::Error,
            Self::SessionSuperseded { .. }
            | Self::Removed
            | Self::CertificateReplaced { .. }
            | Self::RunningOnSeeds { first: true, .. } => Severity::Info,
            Self::CertificateExpires { .. }
            | Self::EnrolmentRefused { .. }
            | Self::OfferRefused { .. }
            | Self::FellBack { .. }
            | Self::RunningOnSeeds { .. }
            | Self::FileSetAside { .. }
            | Self::UpgradeBlocked { .. }
            | Self::RouterRefused { .. } => Severity::Warning,
        }
    }

    /// Whom or what it is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::OfferRefused { from, .. } => from.clone(),
            Self::FileSetAside { path, .. } => Subject::File(path.clone()),
            Self::RouterRefused { router, .. }
            | Self::SessionSuperseded { router }
            | Self::EnrolmentRefused { router, .. } => Subject::Router(router.clone()),
            Self::StateDiffers { controller, .. } => Subject::Controller(controller.to_string()),
            Self::CertificateExpires { certificate, .. } => Subject::Certificate((*certificate).to_owned()),
            Self::FellBack { .. }
            | Self::RunningOnSeeds { .. }
            | Self::NoControllerReachable { .. }
            | Self::NotSaved { .. }
            | Self::PublicationWithheld { .. }
            | Self::UpgradeBlocked { .. }
            | Self::Removed
            | Self::CertificateReplaced { .. }
            | Self::CertificateUnusable { .. } => Subject::Itself,
        }
    }

    /// What programs may want to know without reading sentences: names and values, always in the same order, at most
    /// [`FACTS_MAX`].
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let text = |text: &str| text.to_owned();
        match self {
            Self::OfferRefused { from, at, reason, late, .. } => {
                vec![
                    ("from", from.to_string()),
                    ("at", at.clone()),
                    ("reason", text(reason)),
                    ("late", late.to_string()),
                ]
            }
            Self::FellBack { to, .. } => vec![("to", text(to))],
            Self::NoControllerReachable { after, known, held } => vec![
                ("after_s", after.as_secs().to_string()),
                ("known", known.to_string()),
                ("held", held.clone().unwrap_or_else(|| text("none"))),
            ],
            Self::FileSetAside { path, kept_as, .. } => vec![("path", path.clone()), ("kept_as", kept_as.clone())],
            Self::PublicationWithheld { reason, .. } => vec![("reason", text(reason))],
            Self::RouterRefused { router, reason, late, .. } => {
                vec![("router", router.clone()), ("reason", reason.clone()), ("late", late.to_string())]
            }
            Self::SessionSuperseded { router } => vec![("router", router.clone())],
            Self::EnrolmentRefused { router, reason, .. } => {
                vec![("router", router.clone()), ("reason", text(reason))]
            }
            Self::StateDiffers { controller, index } => {
                vec![("controller", controller.to_string()), ("index", index.to_string())]
            }
            Self::UpgradeBlocked { level, .. } => vec![("level", level.get().to_string())],
            Self::CertificateReplaced { principal } => vec![("principal", principal.clone())],
            Self::CertificateExpires { certificate, within, over } => {
                vec![("certificate", text(certificate)), ("within", text(within)), ("over", over.to_string())]
            }
            Self::RunningOnSeeds { first, .. } => vec![("first", first.to_string())],
            Self::NotSaved { .. } | Self::Removed | Self::CertificateUnusable { .. } => Vec::new(),
        }
    }
}

/// Whether a refusal means that two controllers say different things of the same version, which no waiting mends.
fn disagrees(reason: &str) -> bool {
    matches!(reason, "conflict" | "recovery_conflict")
}
