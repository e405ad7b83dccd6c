//! What people read of an event: one sentence, and what to do next. Pure.

use std::fmt;

use super::event::{Event, Subject};

impl Event {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::OfferRefused { late: true, .. } | Self::RouterRefused { late: true, .. } => {
                "nothing: a slower controller came second, and learns the newer list by itself"
            }
            Self::OfferRefused { hint, .. } => hint,
            Self::EnrolmentRefused { hint, .. } => hint,
            Self::UpgradeBlocked { hint, .. } => hint,
            Self::StateDiffers { .. } => {
                "finalize nothing; compare the members with `pilothouse cluster upgrade status`, remove the one that \
                 differs from a majority, wipe its data directory, add it again under a new id, and report this"
            }
            Self::FellBack { .. } | Self::RunningOnSeeds { .. } => {
                "routers recover by themselves as soon as one controller answers; see what is wrong with the better source"
            }
            Self::NoControllerReachable { .. } => {
                "its list stays in use and it tries for ever: check that controllers run (`pilothouse cluster status`), \
                 then the network and the certificates between"
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
            Self::OfferRefused { from: Subject::Address(_), at, message, .. } => {
                write!(f, "refused a list offered by {at}: {message}")
            }
            Self::OfferRefused { from, at, message, .. } => {
                write!(f, "refused a list offered by {from} at {at}: {message}")
            }
            Self::FellBack { to, message } => write!(f, "fell back to {to}: {message}"),
            Self::RunningOnSeeds { first: true, message } => write!(f, "running on seeds: {message}"),
            Self::RunningOnSeeds { message, .. } => write!(f, "fell back to seeds: {message}"),
            Self::NoControllerReachable { after, known, held } => {
                write!(f, "no controller reachable for {} s at any of {known} known addresses; ", after.as_secs())?;
                match held {
                    Some(version) => write!(f, "the list stays in use (version {version})"),
                    None => f.write_str("there is no list yet"),
                }
            }
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
