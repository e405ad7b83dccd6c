//! Who somebody is, according to a verified certificate: `spiffe://<trust domain>/{controller,router,admin}/<id>`.
//!
//! The form is that of SPIFFE ids (the standard "SPIFFE-ID", section 2), narrowed to three paths. How a certificate is
//! verified is not known here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::{AdminId, ControllerId, InvalidId, RouterId};

/// Longest trust domain, in bytes (SPIFFE-ID, section 2.1).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;

const SCHEME: &str = "spiffe://";

/// Within which an identity means something: `[a-z0-9._-]{1,255}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Checks a text against `[a-z0-9._-]{1,255}`.
    ///
    /// # Errors
    /// [`InvalidPrincipal::TrustDomain`].
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidPrincipal> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        let sound = !text.is_empty() && text.len() <= TRUST_DOMAIN_BYTES_MAX && text.chars().all(allowed);
        if sound { Ok(Self(text)) } else { Err(InvalidPrincipal::TrustDomain) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = InvalidPrincipal;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

/// What an identity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// A member of the cluster, or one that is about to become one.
    Controller,
    /// A client of the cluster.
    Router,
    /// An operator.
    Admin,
}

impl RoleKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Controller, Self::Router, Self::Admin];

    /// As it stands in an identity.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Router => "router",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RoleKind {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidPrincipal::Role)
    }
}

/// What an identity is for, and which one of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A controller, by its Raft id.
    Controller(ControllerId),
    /// A router.
    Router(RouterId),
    /// An operator.
    Admin(AdminId),
}

impl Role {
    /// From its two parts, as they stand in an identity.
    ///
    /// # Errors
    /// [`InvalidPrincipal::Id`].
    pub fn new(kind: RoleKind, id: &str) -> Result<Self, InvalidPrincipal> {
        Ok(match kind {
            RoleKind::Controller => Self::Controller(canonical_number(id)?),
            RoleKind::Router => Self::Router(RouterId::new(id)?),
            RoleKind::Admin => Self::Admin(AdminId::new(id)?),
        })
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> RoleKind {
        match self {
            Self::Controller(_) => RoleKind::Controller,
            Self::Router(_) => RoleKind::Router,
            Self::Admin(_) => RoleKind::Admin,
        }
    }
}

/// One number, one text: `07` would be a second name of controller 7.
fn canonical_number(text: &str) -> Result<ControllerId, InvalidPrincipal> {
    let id: ControllerId = text.parse()?;
    if id.to_string() == text { Ok(id) } else { Err(InvalidPrincipal::Form) }
}

/// `controller/1`, `router/edge-7`, `admin/alice`.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(id) => write!(f, "controller/{id}"),
            Self::Router(id) => write!(f, "router/{id}"),
            Self::Admin(id) => write!(f, "admin/{id}"),
        }
    }
}

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// Within which it means something.
    pub domain: TrustDomain,
    /// Who it is there.
    pub role: Role,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.domain, self.role)
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidPrincipal::Form)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(kind), Some(id), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidPrincipal::Form);
        };
        Ok(Self { domain: TrustDomain::new(domain)?, role: Role::new(kind.parse()?, id)? })
    }
}

/// Why a text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrincipal {
    /// Not of the form.
    #[error("is not of the form spiffe://TRUST-DOMAIN/{{controller,router,admin}}/ID")]
    Form,
    /// No trust domain.
    #[error("has no trust domain of 1 to {TRUST_DOMAIN_BYTES_MAX} characters a-z 0-9 . _ -")]
    TrustDomain,
    /// Another role.
    #[error("has a role that is neither controller, router nor admin")]
    Role,
    /// No id.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_text() {
        for text in
            ["spiffe://example.org/controller/1", "spiffe://net-1.example/router/edge-7.B_2", "spiffe://x/admin/alice"]
        {
            assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "https://example.org/controller/1",
            "SPIFFE://example.org/controller/1",
            "spiffe://Example.org/controller/1",
            "spiffe:///controller/1",
            "spiffe://example.org:443/controller/1",
            "spiffe://example.org/controller/0",
            "spiffe://example.org/controller/01",
            "spiffe://example.org/controller/one",
            "spiffe://example.org/controller/1/",
            "spiffe://example.org//controller/1",
            "spiffe://example.org/controller/1/router/x",
            "spiffe://example.org/owner/1",
            "spiffe://example.org/router/",
            "spiffe://example.org/router/a%20b",
            "spiffe://example.org/router/a?b",
            "spiffe://example.org/admin/alice#x",
        ] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
        let long = format!("spiffe://{}/admin/a", "x".repeat(TRUST_DOMAIN_BYTES_MAX + 1));
        assert!(long.parse::<Principal>().is_err());
    }
}
