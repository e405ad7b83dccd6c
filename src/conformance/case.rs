//! The cases by name, what each of them expects of a router, and which routers it can be asked of. Pure.

use std::fmt;
use std::str::FromStr;

use super::lists::Dialect;

/// One thing that a controller may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// The incident.
    EmptyList,
    /// Controllers that nobody can reach.
    NoEndpoints,
    /// A version below the held one.
    OlderVersion,
    /// The same after a restart of the router.
    OlderAfterRestart,
    /// The held version with other content.
    SameVersionOtherContent,
    /// A list of another cluster.
    ForeignCluster,
    /// Two controllers with one id.
    DuplicateIds,
    /// A list, and a message, above the limits.
    Oversized,
    /// A list that ends in its middle.
    Truncated,
    /// A list in an encoding that does not exist.
    UnknownEncoding,
    /// Newer lists without a pause.
    EndlessUpdates,
    /// An outsider's newer list without any controller that the router knows.
    RemovesAllKnown,
    /// A newer, valid list whose controllers do not answer.
    DeadControllers,
    /// A welcome with a protocol that the router did not offer.
    BadWelcome,
    /// An older leader's message after a newer list.
    LateOldLeader,
    /// Nothing after the welcome.
    Silence,
}

impl Case {
    /// All of them, in the order in which they are played.
    pub const ALL: [Self; 16] = [
        Self::EmptyList,
        Self::NoEndpoints,
        Self::OlderVersion,
        Self::OlderAfterRestart,
        Self::SameVersionOtherContent,
        Self::ForeignCluster,
        Self::DuplicateIds,
        Self::Oversized,
        Self::Truncated,
        Self::UnknownEncoding,
        Self::EndlessUpdates,
        Self::RemovesAllKnown,
        Self::DeadControllers,
        Self::BadWelcome,
        Self::LateOldLeader,
        Self::Silence,
    ];

    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmptyList => "empty-list",
            Self::NoEndpoints => "no-endpoints",
            Self::OlderVersion => "older-version",
            Self::OlderAfterRestart => "older-after-restart",
            Self::SameVersionOtherContent => "same-version-other-content",
            Self::ForeignCluster => "foreign-cluster",
            Self::DuplicateIds => "duplicate-ids",
            Self::Oversized => "oversized",
            Self::Truncated => "truncated",
            Self::UnknownEncoding => "unknown-encoding",
            Self::EndlessUpdates => "endless-updates",
            Self::RemovesAllKnown => "removes-all-known",
            Self::DeadControllers => "dead-controllers",
            Self::BadWelcome => "bad-welcome",
            Self::LateOldLeader => "late-old-leader",
            Self::Silence => "silence",
        }
    }

    /// What a router has to do.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::EmptyList => "refuses a list without controllers, keeps its own, comes back",
            Self::NoEndpoints => "refuses controllers without endpoints, keeps its list, comes back",
            Self::OlderVersion => "refuses a version below the held one, keeps its list, comes back",
            Self::OlderAfterRestart => "still holds its list after a restart, and refuses an older one",
            Self::SameVersionOtherContent => "refuses its own version with other content, keeps its list, comes back",
            Self::ForeignCluster => "refuses a list of another cluster, keeps its list, comes back",
            Self::DuplicateIds => "refuses two controllers with one id, keeps its list, comes back",
            Self::Oversized => "refuses a list above 192 KiB and a message above 256 KiB, keeps its list, comes back",
            Self::Truncated => "refuses a list that ends in its middle, keeps its own, comes back",
            Self::UnknownEncoding => "refuses an encoding that it does not know, keeps its list, comes back",
            Self::EndlessUpdates => "ends up with the newest of many lists, and answers meanwhile",
            Self::RemovesAllKnown => "does not adopt an outsider's list while a member answers",
            Self::DeadControllers => "adopts the list, finds its seed again, and takes a better list there",
            Self::BadWelcome => "leaves a session whose protocol it did not offer, keeps its list, comes back",
            Self::LateOldLeader => "refuses what an older leader says late, keeps the newer list, comes back",
            Self::Silence => "notices that nothing comes, leaves, and tries again with its list",
        }
    }

    /// Why this cannot be asked of a router that speaks so; `None` when it can.
    #[must_use]
    pub(super) const fn excused(self, dialect: Dialect) -> Option<&'static str> {
        match (dialect, self) {
            (Dialect::Structured, _) => None,
            (_, Self::NoEndpoints | Self::DuplicateIds) => Some("lists of protocol 1 have addresses, not controllers"),
            (_, Self::ForeignCluster) => Some("lists of protocol 1 name no cluster"),
            (
                _,
                Self::OlderVersion
                | Self::OlderAfterRestart
                | Self::SameVersionOtherContent
                | Self::LateOldLeader
                | Self::RemovesAllKnown,
            ) => Some("a router of protocol 1 does not say which version it holds"),
            (Dialect::Watch, Self::BadWelcome | Self::Silence) => Some("Watch has no welcome and no heartbeats"),
            _ => None,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|case| case.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|case| case.name()).collect();
            format!("there is no such case; there are all, {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_that_leads_back_to_it() {
        for case in Case::ALL {
            assert_eq!(case.name().parse(), Ok(case));
            assert!(case.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{case}");
            assert_eq!(case.excused(Dialect::Structured), None);
        }
        assert!("nonsense".parse::<Case>().unwrap_err().contains("empty-list"));
    }
}
