//! The names of all events, how much events matter, and which of them last. Pure.

use serde::{Deserialize, Serialize};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something was wrong and was dealt with.
    Warning,
    /// A person must look.
    Error,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// Stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// By its stable name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

/// What kind of event. [`super::Event`] says more about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is documented where its facts are: at the event")]
pub enum Kind {
    OfferRefused,
    FellBack,
    RunningOnSeeds,
    NoControllerReachable,
    FileSetAside,
    NotSaved,
    PublicationWithheld,
    RouterRefused,
    SessionSuperseded,
    EnrolmentRefused,
    StateDiffers,
    UpgradeBlocked,
    Removed,
    CertificateReplaced,
    CertificateUnusable,
    CertificateExpires,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::OfferRefused,
        Self::FellBack,
        Self::RunningOnSeeds,
        Self::NoControllerReachable,
        Self::FileSetAside,
        Self::NotSaved,
        Self::PublicationWithheld,
        Self::RouterRefused,
        Self::SessionSuperseded,
        Self::EnrolmentRefused,
        Self::StateDiffers,
        Self::UpgradeBlocked,
        Self::Removed,
        Self::CertificateReplaced,
        Self::CertificateUnusable,
        Self::CertificateExpires,
    ];

    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OfferRefused => "offer_refused",
            Self::FellBack => "fell_back",
            Self::RunningOnSeeds => "running_on_seeds",
            Self::NoControllerReachable => "no_controller_reachable",
            Self::FileSetAside => "file_set_aside",
            Self::NotSaved => "not_saved",
            Self::PublicationWithheld => "publication_withheld",
            Self::RouterRefused => "router_refused",
            Self::SessionSuperseded => "session_superseded",
            Self::EnrolmentRefused => "enrolment_refused",
            Self::StateDiffers => "state_differs",
            Self::UpgradeBlocked => "upgrade_blocked",
            Self::Removed => "removed",
            Self::CertificateReplaced => "certificate_replaced",
            Self::CertificateUnusable => "certificate_unusable",
            Self::CertificateExpires => "certificate_expires",
        }
    }

    /// Whether it is a condition, which lasts until it is resolved. Who raises one resolves it, too.
    #[must_use]
    pub const fn lasts(self) -> bool {
        match self {
            Self::FellBack
            | Self::RunningOnSeeds
            | Self::NoControllerReachable
            | Self::NotSaved
            | Self::PublicationWithheld
            | Self::StateDiffers
            | Self::UpgradeBlocked
            | Self::CertificateUnusable
            | Self::CertificateExpires => true,
            Self::OfferRefused
            | Self::FileSetAside
            | Self::RouterRefused
            | Self::SessionSuperseded
            | Self::EnrolmentRefused
            | Self::Removed
            | Self::CertificateReplaced => false,
        }
    }
}
