//! Identifiers: newtypes that are valid by construction and print as operators know them.
//!
//! Nothing here draws a random number: random identifiers are made by the shell from 128 bits that it drew.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest router id or controller name, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not an identifier. Names the kind, the reason and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("{kind} is empty: give 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")]
    Empty {
        /// What the text was meant to be, as in "router id".
        kind: &'static str,
    },
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("{kind} has {length} bytes, the limit is {NAME_BYTES_MAX}: choose a shorter one")]
    TooLong {
        /// What the text was meant to be.
        kind: &'static str,
        /// Length of what was given, in bytes.
        length: usize,
    },
    /// A character outside of `[A-Za-z0-9._-]`.
    #[error("{kind} contains {character:?}: only A-Z a-z 0-9 . _ - are allowed")]
    Character {
        /// What the text was meant to be.
        kind: &'static str,
        /// The first character that is not allowed.
        character: char,
    },
    /// Not a number above zero.
    #[error("controller id {text:?} is not a number above 0")]
    NotAControllerId {
        /// What was given, cut to a printable length.
        text: String,
    },
    /// Not 32 hexadecimal digits, with or without hyphens.
    #[error("{kind} {text:?} is not a UUID (32 hexadecimal digits, hyphens allowed)")]
    NotAUuid {
        /// What the text was meant to be.
        kind: &'static str,
        /// What was given, cut to a printable length.
        text: String,
    },
}

/// A controller's Raft node id. Never 0, never used twice in the life of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ControllerId(NonZeroU64);

impl ControllerId {
    /// The id, or `None` for 0, which the wire reads as absent.
    #[must_use]
    pub const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The bare number, as Raft and the wire carry it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ControllerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let id = text.parse().ok().filter(|_| digits).and_then(Self::new);
        id.ok_or_else(|| InvalidId::NotAControllerId { text: excerpt(text) })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against `[A-Za-z0-9._-]{1,63}`.
            ///
            /// # Errors
            /// [`InvalidId`] with the reason and the remedy.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_name($kind, &text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// A router's identity, chosen by its operator: `[A-Za-z0-9._-]{1,63}`.
    RouterId,
    "router id"
);
name!(
    /// A controller's name for people: `[A-Za-z0-9._-]{1,63}`, unique in the cluster.
    ControllerName,
    "controller name"
);
name!(
    /// An operator, as an admin certificate names one: `[A-Za-z0-9._-]{1,63}`.
    AdminId,
    "admin id"
);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// From 128 bits that the shell drew at random.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// From 16 bytes, most significant first; `None` for any other length or for all zeros, which means absent.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                let bits = u128::from_be_bytes(bytes.try_into().ok()?);
                (bits != 0).then_some(Self(bits))
            }

            /// 16 bytes, most significant first: the form on the wire and on disk.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = format!("{:032x}", self.0);
                write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_uuid(text).map(Self).ok_or_else(|| InvalidId::NotAUuid { kind: $kind, text: excerpt(text) })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

random_id!(
    /// Which cluster. Minted once, by the controller that bootstraps it.
    ClusterId,
    "cluster id"
);
random_id!(
    /// Which formatting of a data directory: a wiped disk cannot return as the voter that it was.
    Incarnation,
    "incarnation"
);
random_id!(
    /// Which start of a router process.
    BootId,
    "boot id"
);
random_id!(
    /// Which recovery began an epoch: two recoveries in one second are told apart by it.
    RecoveryId,
    "recovery id"
);

random_id!(
    /// Which join token.
    TokenId,
    "token id"
);

fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty { kind });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(InvalidId::TooLong { kind, length: text.len() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(InvalidId::Character { kind, character }),
        None => Ok(()),
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let well_formed = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let bits = u128::from_str_radix(&digits, 16).ok()?;
    (well_formed && bits != 0).then_some(bits)
}

/// Enough of a text to recognise it in an error, never more.
fn excerpt(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).collect()
}
