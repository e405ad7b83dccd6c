//! A join token as an operator carries it: one line that says whose certificate it is for, whom to trust, where to ask,
//! and the secret that gives the right to it.
//!
//! Whether a token is worth anything only the cluster knows.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{RouterId, TokenId};
use crate::domain::principal::{RoleKind, TrustDomain};
use crate::proto::enrolment as wire;

/// What every join token begins with: its kind and the version of its form.
pub const PREFIX: &str = "pht1_";
/// Longest join token, in characters.
pub const JOIN_TOKEN_CHARS_MAX: usize = 8 * 1024;
/// Most controllers that a token names: enough to find one that lives.
pub const CONTROLLERS_IN_TOKEN_MAX: usize = 16;
/// Most fingerprints of certificates in a token: an old and a new authority, and some.
pub const FINGERPRINTS_IN_TOKEN_MAX: usize = 8;
/// Length of a token's secret, in bytes.
pub const SECRET_BYTES: usize = 32;

/// The secret of a token. It is never printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// From random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever has to send them.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// What the certificate will be for.
    pub role: RoleKind,
    /// Whose certificate it will be.
    pub router: RouterId,
    /// Within which it will mean something.
    pub trust_domain: TrustDomain,
    /// Of each certificate (DER) that controllers' certificates go back to.
    pub ca_sha256: Vec<[u8; 32]>,
    /// Router ports of controllers.
    pub controllers: Vec<Endpoint>,
    /// Which token.
    pub id: TokenId,
    /// What proves that this is it.
    pub secret: Secret,
}

/// Why a text is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJoinToken {
    /// Something else.
    #[error("is no join token: one begins with {PREFIX}; `pilothouse token create` prints one")]
    Prefix,
    /// Longer than any.
    #[error("is longer than {JOIN_TOKEN_CHARS_MAX} characters: give the token alone")]
    TooLong,
    /// A character that no token has.
    #[error("contains a character that no join token has: give the token alone, without quotes or line breaks")]
    Character,
    /// The end of it is missing.
    #[error("is cut off: copy the whole token")]
    CutOff,
    /// For a role that this build does not know.
    #[error("is for a role that this version does not know: install the version of the controllers")]
    Role,
    /// A part of it has a value that it cannot have.
    #[error("is damaged ({what}): ask an operator for a new one")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = wire::JoinToken {
            role: self.role.to_string(),
            id: self.router.to_string(),
            trust_domain: self.trust_domain.to_string(),
            ca_sha256: self.ca_sha256.iter().map(|hash| hash.to_vec()).collect(),
            controllers: self.controllers.iter().map(Endpoint::to_string).collect(),
            token_id: self.id.to_bytes().into(),
            secret: self.secret.0.into(),
        };
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(token.encode_to_vec()))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > JOIN_TOKEN_CHARS_MAX {
            return Err(InvalidJoinToken::TooLong);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidJoinToken::Prefix)?;
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !encoded.bytes().all(allowed) {
            return Err(InvalidJoinToken::Character);
        }
        // Every character is one of base64url: whatever else is wrong comes of a missing end.
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidJoinToken::CutOff)?;
        let token = wire::JoinToken::decode(bytes.as_slice()).map_err(|_| InvalidJoinToken::CutOff)?;
        parse(token)
    }
}

fn parse(token: wire::JoinToken) -> Result<JoinToken, InvalidJoinToken> {
    let damaged = |what| InvalidJoinToken::Damaged { what };
    // The secret stands last.
    if token.secret.is_empty() {
        return Err(InvalidJoinToken::CutOff);
    }
    let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| damaged("a fingerprint"));
    let endpoint = |text: String| text.parse().map_err(|_| damaged("a controller"));
    if token.ca_sha256.len() > FINGERPRINTS_IN_TOKEN_MAX {
        return Err(damaged("the number of fingerprints"));
    }
    if token.controllers.is_empty() || token.controllers.len() > CONTROLLERS_IN_TOKEN_MAX {
        return Err(damaged("the number of controllers"));
    }
    Ok(JoinToken {
        role: token.role.parse().map_err(|_| InvalidJoinToken::Role)?,
        router: RouterId::new(token.id).map_err(|_| damaged("the router id"))?,
        trust_domain: TrustDomain::new(token.trust_domain).map_err(|_| damaged("the trust domain"))?,
        ca_sha256: token.ca_sha256.into_iter().map(hash).collect::<Result<_, _>>()?,
        controllers: token.controllers.into_iter().map(endpoint).collect::<Result<_, _>>()?,
        id: TokenId::from_slice(&token.token_id).ok_or(damaged("the token id"))?,
        secret: Secret(token.secret.try_into().map_err(|_| damaged("the secret"))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            role: RoleKind::Router,
            router: RouterId::new("edge-7").unwrap(),
            trust_domain: TrustDomain::new("example.org").unwrap(),
            ca_sha256: vec![[9; 32]],
            controllers: vec!["https://c1.example:7002".parse().unwrap(), "https://10.0.0.2:7002".parse().unwrap()],
            id: TokenId::from_u128(0x70_ce4),
            secret: Secret::new([0xab; 32]),
        }
    }

    fn with(change: impl FnOnce(&mut wire::JoinToken)) -> Result<JoinToken, InvalidJoinToken> {
        let text = token().to_string();
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX).unwrap()).unwrap();
        let mut message = wire::JoinToken::decode(bytes.as_slice()).unwrap();
        change(&mut message);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(message.encode_to_vec())).parse()
    }

    #[test]
    fn a_token_survives_its_text_and_never_shows_its_secret() {
        let text = token().to_string();
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        let shown = format!("{:?}", token());
        assert!(shown.contains("edge-7") && !shown.contains("171") && !shown.contains("abab"), "{shown}");
    }

    /// A promise: tokens that were handed out stay readable.
    #[test]
    fn the_text_of_a_token_is_as_it_was_promised() {
        let promised = concat!(
            "pht1_CgZyb3V0ZXISBmVkZ2UtNxoLZXhhbXBsZS5vcmciIAkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJKhdodHRwczovL2Mx",
            "LmV4YW1wbGU6NzAwMioVaHR0cHM6Ly8xMC4wLjAuMjo3MDAyMhAAAAAAAAAAAAAAAAAABwzkOiCrq6urq6urq6urq6urq6urq6urq6urq6ur",
            "q6urq6urqw"
        );
        assert_eq!(token().to_string(), promised);
    }

    #[test]
    fn a_token_that_is_cut_off_anywhere_is_said_to_be() {
        let text = token().to_string();
        for end in PREFIX.len()..text.len() {
            let cut: Result<JoinToken, _> = text[..end].parse();
            assert!(matches!(cut, Err(InvalidJoinToken::CutOff | InvalidJoinToken::Damaged { .. })), "{end}: {cut:?}");
        }
        assert_eq!(text[..PREFIX.len() - 1].parse::<JoinToken>(), Err(InvalidJoinToken::Prefix));
    }

    #[test]
    fn what_is_no_token_is_told_why() {
        let parse = |text: &str| text.parse::<JoinToken>().unwrap_err();
        assert_eq!(parse(""), InvalidJoinToken::Prefix);
        assert_eq!(parse("pht2_CgZy"), InvalidJoinToken::Prefix);
        assert_eq!(parse(&format!("{PREFIX}{}", "A".repeat(JOIN_TOKEN_CHARS_MAX))), InvalidJoinToken::TooLong);
        assert_eq!(parse("pht1_Cg Zy"), InvalidJoinToken::Character);
        assert_eq!(with(|token| token.role = "owner".into()), Err(InvalidJoinToken::Role));
        let damaged = |change: fn(&mut wire::JoinToken)| match with(change) {
            Err(InvalidJoinToken::Damaged { what }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(damaged(|token| token.id = "a b".into()), "the router id");
        assert_eq!(damaged(|token| token.trust_domain.clear()), "the trust domain");
        assert_eq!(damaged(|token| token.token_id = vec![0; 16]), "the token id");
        assert_eq!(damaged(|token| token.secret.truncate(31)), "the secret");
        assert_eq!(damaged(|token| token.ca_sha256[0].truncate(31)), "a fingerprint");
        assert_eq!(damaged(|token| token.controllers[0] = "c1".into()), "a controller");
        assert_eq!(damaged(|token| token.controllers.clear()), "the number of controllers");
        assert_eq!(with(|token| token.ca_sha256.clear()).unwrap().ca_sha256.len(), 0);
    }
}
