//! Join tokens: what gives somebody without a certificate the right to one, once.
//!
//! The cluster keeps only a hash of a token's secret. A token belongs to the first key that asks with it: the same key may
//! ask again until the token expires, since an answer may be lost, and every other key is refused. How a token is written
//! for people, and what a certificate is, is not known here.

use std::collections::BTreeMap;

use super::feature::FeatureLevel;
use super::ids::{RouterId, TokenId};
use super::principal::RoleKind;
use super::state::ClusterState;

/// Most tokens that a cluster keeps, used ones that have not expired included.
pub const TOKENS_MAX: usize = 10_000;
/// Shortest life of a token, in milliseconds: time to carry it to a host.
pub const TOKEN_TTL_MS_MIN: u64 = 60 * 1000;
/// Longest life of a token, in milliseconds: 30 days.
pub const TOKEN_TTL_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// A SHA-256.
pub type Sha256 = [u8; 32];

/// A token as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which one.
    pub id: TokenId,
    /// Of its secret.
    pub secret_sha256: Sha256,
    /// What the certificate will be for.
    pub role: RoleKind,
    /// Whose certificate it will be.
    pub subject: RouterId,
    /// How long it lives, in milliseconds of applied time.
    pub ttl_ms: u64,
}

/// A token as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Of its secret.
    pub secret_sha256: Sha256,
    /// What the certificate will be for.
    pub role: RoleKind,
    /// Whose certificate it will be.
    pub subject: RouterId,
    /// From then on it is worth nothing: milliseconds since 1970, applied time.
    pub expires_ms: u64,
    /// Of the public key that it belongs to, once it was used.
    pub used_by: Option<Sha256>,
}

/// Somebody asks for a certificate with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redemption {
    /// Which token.
    pub id: TokenId,
    /// Of the secret that was presented.
    pub secret_sha256: Sha256,
    /// Who it says it is.
    pub subject: RouterId,
    /// Of the public key that the certificate is to be for.
    pub key_sha256: Sha256,
}

/// What a redemption did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeemed {
    /// The token belongs to this key from now on.
    First,
    /// It did before.
    Again,
}

/// Why a token is not made, or worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// There is none of this id, or not any more.
    #[error("there is no such token")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It belongs to another key.
    #[error("the token was used by another key")]
    Used,
    /// It is for another router.
    #[error("the token is for another router")]
    WrongSubject,
    /// It is for another role, or for one that tokens are not made for.
    #[error("tokens are for routers, not for this role")]
    WrongRole,
    /// Another secret.
    #[error("the secret is not that of the token")]
    WrongSecret,
    /// As many as a cluster keeps.
    #[error("the cluster has {TOKENS_MAX} tokens that have not expired, which is its limit")]
    Full,
    /// The router is banned.
    #[error("the router is banned from the cluster")]
    Banned,
    /// Too short or too long.
    #[error("a token lives for 1 minute to 30 days")]
    Lifetime,
    /// There is one of this id, which nobody draws twice.
    #[error("there is a token of this id already")]
    Exists,
    /// A member's build could not read it.
    #[error("a member of the cluster runs a version that knows no tokens")]
    NotAllUpgraded,
}

impl TokenRefusal {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Unknown,
        Self::Expired,
        Self::Used,
        Self::WrongSubject,
        Self::WrongRole,
        Self::WrongSecret,
        Self::Full,
        Self::Banned,
        Self::Lifetime,
        Self::Exists,
        Self::NotAllUpgraded,
    ];

    /// Stable name: what logs, events and metrics say, and controllers among each other. Appended, never edited.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::Used => "token_used",
            Self::WrongSubject => "token_wrong_subject",
            Self::WrongRole => "token_wrong_role",
            Self::WrongSecret => "token_wrong_secret",
            Self::Full => "tokens_full",
            Self::Banned => "banned",
            Self::Lifetime => "token_lifetime",
            Self::Exists => "token_exists",
            Self::NotAllUpgraded => "not_all_upgraded",
        }
    }

    /// The refusal of this name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }

    /// What whoever presented the token is told. Who does not know the secret learns nothing: not even whether there is
    /// such a token.
    #[must_use]
    pub const fn public_code(self) -> &'static str {
        match self {
            Self::Unknown | Self::WrongSecret => "token_refused",
            other => other.code(),
        }
    }

    /// The words for whoever presented the token.
    #[must_use]
    pub fn public_words(self) -> String {
        match self {
            Self::Unknown | Self::WrongSecret => "the token is not accepted".to_owned(),
            other => other.to_string(),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Unknown | Self::WrongSecret => {
                "check that the whole token was copied, or ask an operator for a new one"
            }
            Self::Expired => "ask an operator for a new one: `pilothouse token create`",
            Self::Used => {
                "ask an operator for a new one: `pilothouse token create`; if nobody of yours used it, it was stolen: \
                 ban the router that it was for"
            }
            Self::WrongSubject => "use the router id that the token was made for",
            Self::WrongRole => {
                "use --role router; certificates of controllers and admins are made with `pilothouse pki`"
            }
            Self::Full => "wait until some expire, and make them when they are needed",
            Self::Banned => "lift the ban first: `pilothouse routers allow`",
            Self::Lifetime => "use a --ttl between 1m and 30d",
            Self::Exists => "repeat the command",
            Self::NotAllUpgraded => "upgrade every controller first: `pilothouse cluster status` shows their versions",
        }
    }
}

/// The tokens of a cluster, by id.
pub type Tokens = BTreeMap<TokenId, TokenRecord>;

impl TokenRecord {
    /// What the token says to a redemption at this time. Whoever does not know its secret is told nothing else.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn judge(&self, redemption: &Redemption, now_ms: u64) -> Result<Redeemed, TokenRefusal> {
        if !same(&self.secret_sha256, &redemption.secret_sha256) {
            return Err(TokenRefusal::WrongSecret);
        }
        if self.role != RoleKind::Router {
            return Err(TokenRefusal::WrongRole);
        }
        if self.subject != redemption.subject {
            return Err(TokenRefusal::WrongSubject);
        }
        if self.expires_ms <= now_ms {
            return Err(TokenRefusal::Expired);
        }
        match &self.used_by {
            None => Ok(Redeemed::First),
            Some(key) if same(key, &redemption.key_sha256) => Ok(Redeemed::Again),
            Some(_) => Err(TokenRefusal::Used),
        }
    }
}

impl ClusterState {
    /// What [`Change::CreateToken`](super::command::Change::CreateToken) would say to this token at this time.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn judge_token(&self, token: &Token, now_ms: u64) -> Result<(), TokenRefusal> {
        if token.role != RoleKind::Router {
            return Err(TokenRefusal::WrongRole);
        }
        if !self.all_read(FeatureLevel::TWO) {
            return Err(TokenRefusal::NotAllUpgraded);
        }
        if self.banned.contains(&token.subject) {
            return Err(TokenRefusal::Banned);
        }
        if !(TOKEN_TTL_MS_MIN..=TOKEN_TTL_MS_MAX).contains(&token.ttl_ms) {
            return Err(TokenRefusal::Lifetime);
        }
        if self.tokens.contains_key(&token.id) {
            return Err(TokenRefusal::Exists);
        }
        // Counted only when it may matter: a cluster has few.
        let full = self.tokens.len() >= TOKENS_MAX
            && self.tokens.values().filter(|known| known.expires_ms > now_ms).count() >= TOKENS_MAX;
        if full { Err(TokenRefusal::Full) } else { Ok(()) }
    }

    /// What [`Change::RedeemToken`](super::command::Change::RedeemToken) would say to this redemption at this time. A
    /// leader asks before it proposes: what is worth nothing, or was redeemed by this key already, costs no log entry.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn judge_redemption(&self, redemption: &Redemption, now_ms: u64) -> Result<Redeemed, TokenRefusal> {
        self.tokens.get(&redemption.id).ok_or(TokenRefusal::Unknown)?.judge(redemption, now_ms)
    }

    pub(super) fn create_token(&mut self, token: &Token) -> Result<u64, TokenRefusal> {
        let now_ms = self.time_ms;
        self.judge_token(token, now_ms)?;
        self.raise_to(FeatureLevel::TWO);
        self.tokens.retain(|_, known| known.expires_ms > now_ms);
        let Token { id, secret_sha256, role, ref subject, ttl_ms } = *token;
        let expires_ms = now_ms.saturating_add(ttl_ms);
        let subject = subject.clone();
        self.tokens.insert(id, TokenRecord { secret_sha256, role, subject, expires_ms, used_by: None });
        Ok(expires_ms)
    }

    pub(super) fn redeem_token(&mut self, redemption: &Redemption) -> Result<Redeemed, TokenRefusal> {
        let redeemed = self.judge_redemption(redemption, self.time_ms)?;
        if let Some(token) = self.tokens.get_mut(&redemption.id) {
            token.used_by = Some(redemption.key_sha256);
        }
        Ok(redeemed)
    }
}

/// Compares in a time that says nothing of where two hashes differ.
fn same(one: &Sha256, other: &Sha256) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::{Change, Command, Outcome};
    use crate::domain::state::{ClusterState, LogPosition};

    const MINUTE: u64 = 60_000;

    fn router(id: &str) -> RouterId {
        RouterId::new(id).unwrap()
    }

    fn token(n: u128) -> Token {
        let (id, subject) = (TokenId::from_u128(n), router("edge-7"));
        Token { id, secret_sha256: [7; 32], role: RoleKind::Router, subject, ttl_ms: 5 * MINUTE }
    }

    fn redemption(n: u128) -> Redemption {
        let (id, subject) = (TokenId::from_u128(n), router("edge-7"));
        Redemption { id, secret_sha256: [7; 32], subject, key_sha256: [1; 32] }
    }

    fn apply(state: &mut ClusterState, time_ms: u64, change: Change) -> Outcome {
        state.apply(LogPosition { term: 1, index: 1 }, &Command { time_ms, change })
    }

    fn create(state: &mut ClusterState, time_ms: u64, token: Token) -> Result<(), TokenRefusal> {
        match apply(state, time_ms, Change::CreateToken(token)) {
            Outcome::TokenCreated(outcome) => outcome.map(drop),
            other => panic!("{other}"),
        }
    }

    fn redeem(state: &mut ClusterState, time_ms: u64, redemption: Redemption) -> Result<Redeemed, TokenRefusal> {
        let judged = state.judge_redemption(&redemption, time_ms);
        match apply(state, time_ms, Change::RedeemToken(redemption)) {
            Outcome::TokenRedeemed(outcome) => {
                assert_eq!(outcome, judged, "a leader judges as the log does");
                outcome
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_token_belongs_to_the_first_key_until_it_expires() {
        let mut state = ClusterState::default();
        create(&mut state, MINUTE, token(1)).unwrap();
        assert_eq!(redeem(&mut state, MINUTE, redemption(1)), Ok(Redeemed::First));
        assert_eq!(redeem(&mut state, 2 * MINUTE, redemption(1)), Ok(Redeemed::Again));
        let other = Redemption { key_sha256: [2; 32], ..redemption(1) };
        assert_eq!(redeem(&mut state, 2 * MINUTE, other.clone()), Err(TokenRefusal::Used));
        assert_eq!(redeem(&mut state, 6 * MINUTE - 1, redemption(1)), Ok(Redeemed::Again));
        assert_eq!(redeem(&mut state, 6 * MINUTE, redemption(1)), Err(TokenRefusal::Expired));
        assert_eq!(redeem(&mut state, 6 * MINUTE, other), Err(TokenRefusal::Expired));
    }

    #[test]
    fn whoever_does_not_know_the_secret_learns_nothing() {
        let mut state = ClusterState::default();
        create(&mut state, MINUTE, token(1)).unwrap();
        let mut secret = [7; 32];
        secret[31] ^= 1;
        let guess = Redemption { secret_sha256: secret, ..redemption(1) };
        let wrong = Redemption { subject: router("edge-8"), ..guess.clone() };
        for (time, guess) in [(MINUTE, guess.clone()), (MINUTE, wrong), (99 * MINUTE, guess)] {
            let refusal = redeem(&mut state, time, guess).unwrap_err();
            assert_eq!(refusal, TokenRefusal::WrongSecret);
            let unknown = redeem(&mut state, time, redemption(2)).unwrap_err();
            assert_eq!(unknown, TokenRefusal::Unknown);
            let told = |refusal: TokenRefusal| (refusal.public_code(), refusal.public_words(), refusal.hint());
            assert_eq!(told(refusal), told(unknown));
        }
    }

    #[test]
    fn a_token_is_for_its_router_only() {
        let mut state = ClusterState::default();
        create(&mut state, MINUTE, token(1)).unwrap();
        let other = Redemption { subject: router("edge-8"), ..redemption(1) };
        assert_eq!(redeem(&mut state, MINUTE, other), Err(TokenRefusal::WrongSubject));
        assert_eq!(redeem(&mut state, MINUTE, redemption(1)), Ok(Redeemed::First), "it cost nothing");
        for role in [RoleKind::Controller, RoleKind::Admin] {
            assert_eq!(create(&mut state, MINUTE, Token { role, ..token(2) }), Err(TokenRefusal::WrongRole));
            // Nor is one of a later build redeemed as if it were for a router.
            state.tokens.get_mut(&token(1).id).unwrap().role = role;
            assert_eq!(redeem(&mut state, MINUTE, redemption(1)), Err(TokenRefusal::WrongRole));
        }
    }

    #[test]
    fn a_token_lives_for_a_minute_to_a_month() {
        let mut state = ClusterState::default();
        for (ttl_ms, outcome) in [
            (TOKEN_TTL_MS_MIN - 1, Err(TokenRefusal::Lifetime)),
            (TOKEN_TTL_MS_MIN, Ok(())),
            (TOKEN_TTL_MS_MAX, Ok(())),
            (TOKEN_TTL_MS_MAX + 1, Err(TokenRefusal::Lifetime)),
            (u64::MAX, Err(TokenRefusal::Lifetime)),
        ] {
            assert_eq!(create(&mut state, MINUTE, Token { ttl_ms, ..token(ttl_ms.into()) }), outcome, "{ttl_ms}");
        }
        assert_eq!(
            create(&mut state, MINUTE, Token { ttl_ms: TOKEN_TTL_MS_MIN, ..token(u128::from(TOKEN_TTL_MS_MIN)) }),
            Err(TokenRefusal::Exists)
        );
    }

    #[test]
    fn a_cluster_keeps_at_most_10_000_tokens_and_drops_expired_ones() {
        let mut state = ClusterState::default();
        for n in 1..=TOKENS_MAX as u128 {
            create(&mut state, MINUTE, token(n)).unwrap();
        }
        assert_eq!(create(&mut state, 6 * MINUTE - 1, token(99_999)), Err(TokenRefusal::Full));
        create(&mut state, 6 * MINUTE, token(99_999)).unwrap();
        assert_eq!(state.tokens.len(), 1);
    }

    #[test]
    fn a_ban_takes_the_tokens_of_its_router_and_lets_none_be_made() {
        let mut state = ClusterState::default();
        create(&mut state, MINUTE, token(1)).unwrap();
        create(&mut state, MINUTE, Token { subject: router("edge-8"), ..token(2) }).unwrap();
        apply(&mut state, MINUTE, Change::Ban(router("edge-7")));
        assert_eq!(create(&mut state, MINUTE, token(3)), Err(TokenRefusal::Banned));
        apply(&mut state, MINUTE, Change::Allow(router("edge-7")));
        assert_eq!(redeem(&mut state, MINUTE, redemption(1)), Err(TokenRefusal::Unknown));
        assert_eq!(state.tokens.len(), 1, "another router's stays");
        create(&mut state, MINUTE, token(3)).unwrap();
    }

    #[test]
    fn bans_and_tokens_wait_for_every_member_and_raise_the_level() {
        use crate::domain::controller_list::{ClusterIdentity, Epoch};
        use crate::domain::feature::Announcement;
        use crate::domain::ids::{ClusterId, ControllerId, Incarnation};
        use crate::domain::negotiation::ProtocolRange;
        let mut state = ClusterState::default();
        let cluster = ClusterId::from_u128(1);
        let identity = ClusterIdentity { cluster, epoch: Epoch::FIRST, recovery: None };
        apply(&mut state, 0, Change::Found { identity, level: FeatureLevel::ONE });
        let announced = |n, level_max| Announcement {
            controller: ControllerId::new(n).unwrap(),
            incarnation: Incarnation::from_u128(n.into()),
            software_version: "1".into(),
            level_min: FeatureLevel::ONE,
            level_max,
            protocols: ProtocolRange::SUPPORTED,
        };
        for (n, level) in [(1, FeatureLevel::TWO), (2, FeatureLevel::ONE)] {
            state.announcements.insert(ControllerId::new(n).unwrap(), announced(n, level));
        }
        assert_eq!(create(&mut state, MINUTE, token(1)), Err(TokenRefusal::NotAllUpgraded));
        let refused = Outcome::Refused(crate::domain::command::CommandRefusal::NotAllUpgraded);
        assert_eq!(apply(&mut state, MINUTE, Change::Ban(router("edge-1"))), refused);
        assert_eq!((state.level, state.banned.len()), (Some(FeatureLevel::ONE), 0));

        let two = ControllerId::new(2).unwrap();
        state.announcements.insert(two, announced(2, FeatureLevel::TWO));
        assert_eq!(apply(&mut state, MINUTE, Change::Ban(router("edge-1"))), Outcome::Banned { existed: false });
        assert_eq!(state.level, Some(FeatureLevel::TWO));
        create(&mut state, MINUTE, token(1)).unwrap();
    }

    #[test]
    fn every_refusal_has_a_name_and_a_hint() {
        for refusal in TokenRefusal::ALL {
            assert_eq!(TokenRefusal::from_code(refusal.code()), Some(refusal));
            assert!(!refusal.hint().is_empty() && !refusal.to_string().is_empty());
        }
        assert_eq!(TokenRefusal::from_code("anything"), None);
    }
}
