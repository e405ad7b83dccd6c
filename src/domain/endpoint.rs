//! One address of a service: `http://HOST:PORT` (plain text) or `https://HOST:PORT`.
//!
//! Parsed once at the edge; an [`Endpoint`] that exists is well-formed. It does not know whether anybody listens there.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest host name, in bytes (the limit of DNS).
pub const HOST_BYTES_MAX: usize = 255;

/// How bytes travel to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain text, written `http://`.
    Plain,
    /// TLS, written `https://`.
    Tls,
}

impl Scheme {
    /// As in a URL, without `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }
}

/// Where a service listens. Ordered and compared by its canonical text (host in lower case).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    scheme: Scheme,
    host: String,
    port: NonZeroU16,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Neither `http://` nor `https://`.
    #[error("does not start with http:// or https://: write it as https://HOST:PORT")]
    Scheme,
    /// No host before the port.
    #[error("has no host: write it as https://HOST:PORT")]
    NoHost,
    /// Host longer than [`HOST_BYTES_MAX`].
    #[error("has a host of {length} bytes, the limit is {HOST_BYTES_MAX}")]
    HostTooLong {
        /// Length of the host, in bytes.
        length: usize,
    },
    /// A character that neither a host name nor an IP address has.
    #[error("has {character:?} in its host: use a DNS name, an IPv4 address, or an IPv6 address in brackets")]
    HostCharacter {
        /// The first character that is not allowed.
        character: char,
    },
    /// An address to listen at, not one that anybody could be reached at.
    #[error("has a wildcard address as its host: say under which address others reach it")]
    Wildcard,
    /// A host name with an empty part, or one that begins or ends with a hyphen.
    #[error("has {label:?} as a part of its host: each part begins and ends with a letter, a digit or an underscore")]
    HostLabel {
        /// The part.
        label: String,
    },
    /// A number where an address should be.
    #[error("has {host:?} as its host, which is no IPv4 address: write all four numbers")]
    NotAnAddress {
        /// The host.
        host: String,
    },
    /// No port, or one outside of 1 to 65535, or something after it.
    #[error("has no port between 1 and 65535 at its end: write it as https://HOST:PORT")]
    Port,
}

impl Endpoint {
    /// How bytes travel there.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// DNS name, IPv4 address, or IPv6 address in brackets; lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port.get()
    }

    /// The same place without TLS: enough to see whether anybody listens there.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self { scheme: Scheme::Plain, ..self.clone() }
    }

    /// Host and port: two endpoints with the same are one place, whatever their schemes.
    #[must_use]
    pub fn place(&self) -> (&str, u16) {
        (&self.host, self.port.get())
    }

    /// `HOST:PORT`, as resolvers take it.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Plain, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Tls, rest)
        } else {
            return Err(InvalidEndpoint::Scheme);
        };
        let (host, port) = rest.rsplit_once(':').ok_or(InvalidEndpoint::Port)?;
        let host = canonical_host(host)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(InvalidEndpoint::Port)?;
        Ok(Self { scheme, host, port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// Lower case, without the dot of the root, and IPv6 addresses in their shortest form, so that one place has one text.
fn canonical_host(host: &str) -> Result<String, InvalidEndpoint> {
    if host.is_empty() {
        return Err(InvalidEndpoint::NoHost);
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(InvalidEndpoint::HostTooLong { length: host.len() });
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(address) if is_wildcard(address.to_canonical()) => Err(InvalidEndpoint::Wildcard),
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => Err(InvalidEndpoint::HostCharacter { character: '[' }),
        };
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match host.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(InvalidEndpoint::HostCharacter { character }),
        None => named_host(host.strip_suffix('.').unwrap_or(host)),
    }
}

/// A DNS name or an IPv4 address.
fn named_host(host: &str) -> Result<String, InvalidEndpoint> {
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return if is_wildcard(address.into()) { Err(InvalidEndpoint::Wildcard) } else { Ok(address.to_string()) };
    }
    let odd = |label: &&str| label.is_empty() || label.starts_with('-') || label.ends_with('-');
    if let Some(label) = host.split('.').find(odd) {
        return Err(InvalidEndpoint::HostLabel { label: label.to_owned() });
    }
    // Resolvers take `0` or `10.1` for addresses, each in its own way.
    let last = host.rsplit('.').next().unwrap_or(host);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidEndpoint::NotAnAddress { host: host.to_owned() });
    }
    Ok(host.to_ascii_lowercase())
}

fn is_wildcard(address: std::net::IpAddr) -> bool {
    address.is_unspecified()
}
