//! What happened that a person may have to know: one typed enum, written to the log, counted, and kept in a bounded ring.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::domain::feature::FeatureLevel;
use crate::domain::ids::ControllerId;

/// Most events that a process keeps; older ones are dropped.
pub const EVENTS_KEPT_MAX: usize = 256;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something was wrong and was dealt with.
    Warning,
    /// A person must look.
    Error,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A router refused an offered list and kept what it holds.
    OfferRefused {
        /// Who offered it.
        from: String,
        /// `Refusal::code`.
        reason: &'static str,
        /// The refusal.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A router uses an older source for its list than it should.
    FellBack {
        /// `previous`, `reserve` or `seeds`.
        to: &'static str,
        /// Why the better sources cannot be used.
        message: String,
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
    /// A list was adopted in memory, but could not be written to disk.
    NotSaved {
        /// The error.
        message: String,
    },
    /// A controller found that routers would refuse the list that it was about to publish; the last good one stays.
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
    /// A member's replicated state is another one than the leader's: one of the two is wrong.
    StateDiffers {
        /// Which member.
        controller: ControllerId,
        /// At which log index.
        index: u64,
    },
    /// An upgrade cannot be finalized.
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
    /// What lies on disk cannot be used; what was read earlier stays in use.
    CertificateUnusable {
        /// Which file, and why.
        message: String,
    },
    /// A certificate ends soon, or has ended.
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
    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OfferRefused { .. } => "offer_refused",
            Self::FellBack { .. } => "fell_back",
            Self::FileSetAside { .. } => "file_set_aside",
            Self::NotSaved { .. } => "not_saved",
            Self::PublicationWithheld { .. } => "publication_withheld",
            Self::RouterRefused { .. } => "router_refused",
            Self::SessionSuperseded { .. } => "session_superseded",
            Self::EnrolmentRefused { .. } => "enrolment_refused",
            Self::StateDiffers { .. } => "state_differs",
            Self::UpgradeBlocked { .. } => "upgrade_blocked",
            Self::Removed => "removed",
            Self::CertificateReplaced { .. } => "certificate_replaced",
            Self::CertificateUnusable { .. } => "certificate_unusable",
            Self::CertificateExpires { .. } => "certificate_expires",
        }
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::PublicationWithheld { .. }
            | Self::NotSaved { .. }
            | Self::StateDiffers { .. }
            | Self::CertificateUnusable { .. } => Severity::Error,
            Self::CertificateExpires { over: true, .. } => Severity::Error,
            Self::SessionSuperseded { .. } | Self::Removed | Self::CertificateReplaced { .. } => Severity::Info,
            Self::CertificateExpires { .. } => Severity::Warning,
            Self::EnrolmentRefused { .. }
            | Self::OfferRefused { .. }
            | Self::FellBack { .. }
            | Self::FileSetAside { .. }
            | Self::UpgradeBlocked { .. }
            | Self::RouterRefused { .. } => Severity::Warning,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::OfferRefused { hint, .. } => hint,
            Self::EnrolmentRefused { hint, .. } => hint,
            Self::UpgradeBlocked { hint, .. } => hint,
            Self::StateDiffers { .. } => {
                "finalize nothing; compare the members with `pilothouse cluster upgrade status`, remove the one that \
                 differs from a majority, wipe its data directory, add it again under a new id, and report this"
            }
            Self::FellBack { .. } => {
                "routers recover by themselves as soon as one controller answers; see what is wrong with the better source"
            }
            Self::FileSetAside { .. } => {
                "nothing is lost: the router goes on from the next best source; look at the disk"
            }
            Self::NotSaved { .. } => {
                "free space or repair the data directory; until then a restart falls back to the older file"
            }
            Self::PublicationWithheld { .. } => {
                "the last good list stays published; this is a fault of this build: report it, and hand leadership to another controller"
            }
            Self::RouterRefused { .. } => "see `pilothouse routers show`, and the router's own log",
            Self::SessionSuperseded { .. } => "if this repeats, two routers use one id: give each its own",
            Self::Removed => {
                "its data stays; stop the process, or wipe its data directory to let it join as a new controller"
            }
            Self::CertificateReplaced { .. } => "nothing: open connections keep the earlier one until they end",
            Self::CertificateUnusable { .. } => "repair the file; it is read again as soon as it changes",
            Self::CertificateExpires { .. } => {
                "renew it: `pilothouse pki renew`; it is taken over without a restart as soon as the file changes"
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferRefused { from, message, .. } => write!(f, "refused a list offered by {from}: {message}"),
            Self::FellBack { to, message } => write!(f, "fell back to {to}: {message}"),
            Self::FileSetAside { path, kept_as, message } => write!(f, "set {path} aside as {kept_as}: {message}"),
            Self::NotSaved { message } => write!(f, "adopted a list in memory only: {message}"),
            Self::PublicationWithheld { message, .. } => {
                write!(f, "withheld a list that routers would refuse: {message}")
            }
            Self::RouterRefused { router, message, .. } => write!(f, "router {router} refused a list: {message}"),
            Self::SessionSuperseded { router } => {
                write!(f, "router {router} opened a newer session; the older one ends")
            }
            Self::EnrolmentRefused { router, reason, message, .. } => {
                write!(f, "refused a certificate to somebody who says to be router {router}: {message} ({reason})")
            }
            Self::StateDiffers { controller, index } => {
                write!(f, "the state of controller {controller} differs from this leader's at log index {index}")
            }
            Self::UpgradeBlocked { level, message, .. } => {
                write!(f, "the upgrade to feature level {level} is blocked: {message}")
            }
            Self::Removed => f.write_str("this controller was removed from the cluster"),
            Self::CertificateReplaced { principal } => write!(f, "the certificate of {principal} was replaced"),
            Self::CertificateUnusable { message } => {
                write!(f, "the certificates on disk cannot be used, the earlier ones stay in use: {message}")
            }
            Self::CertificateExpires { certificate, over: true, .. } => {
                write!(f, "a certificate ({certificate}) has ended: others refuse it")
            }
            Self::CertificateExpires { certificate, within, .. } => {
                write!(f, "a certificate ({certificate}) ends {within}")
            }
        }
    }
}

/// An event and when it happened.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Since 1970.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
}

/// Where events go. Clones share one ring.
#[derive(Debug, Clone, Default)]
pub struct Events {
    ring: Arc<Mutex<VecDeque<Recorded>>>,
    counted: Family<EventLabels, Counter>,
}

impl Events {
    /// A ring whose counts are registered as `pilothouse_events_total{kind}`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let events = Self::default();
        registry.register("pilothouse_events", "Events by kind", events.counted.clone());
        events
    }

    /// Writes an event to the log, counts it and keeps it.
    pub fn raise(&self, event: Event) {
        let (kind, hint) = (event.code(), event.hint());
        match event.severity() {
            Severity::Info => tracing::info!(kind, hint, "{event}"),
            Severity::Warning => tracing::warn!(kind, hint, "{event}"),
            Severity::Error => tracing::error!(kind, hint, "{event}"),
        }
        self.counted.get_or_create(&EventLabels { kind }).inc();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == EVENTS_KEPT_MAX {
            ring.pop_front();
        }
        ring.push_back(Recorded { at, event });
    }

    /// The kept events, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Recorded> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
