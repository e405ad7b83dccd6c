//! Join tokens: domain <-> disk. Of a secret there is only a hash.

use super::CodecError;
use super::command::decode_router_id;
use crate::domain::ids::TokenId;
use crate::domain::principal::RoleKind;
use crate::domain::token::{Redemption, Sha256, Token, TokenRecord};
use crate::proto::store;

pub(super) fn encode(token: &Token) -> store::CreateToken {
    store::CreateToken {
        id: token.id.to_bytes().into(),
        secret_sha256: token.secret_sha256.into(),
        role: token.role.to_string(),
        router_id: token.subject.to_string(),
        ttl_ms: token.ttl_ms,
    }
}

pub(super) fn decode(token: store::CreateToken) -> Result<Token, CodecError> {
    Ok(Token {
        id: decode_id(&token.id)?,
        secret_sha256: decode_hash(&token.secret_sha256)?,
        role: decode_role(&token.role)?,
        subject: decode_router_id(token.router_id)?,
        ttl_ms: token.ttl_ms,
    })
}

pub(super) fn encode_redemption(redemption: &Redemption) -> store::RedeemToken {
    store::RedeemToken {
        id: redemption.id.to_bytes().into(),
        secret_sha256: redemption.secret_sha256.into(),
        router_id: redemption.subject.to_string(),
        key_sha256: redemption.key_sha256.into(),
    }
}

pub(super) fn decode_redemption(redemption: store::RedeemToken) -> Result<Redemption, CodecError> {
    Ok(Redemption {
        id: decode_id(&redemption.id)?,
        secret_sha256: decode_hash(&redemption.secret_sha256)?,
        subject: decode_router_id(redemption.router_id)?,
        key_sha256: decode_hash(&redemption.key_sha256)?,
    })
}

pub(super) fn encode_record(id: &TokenId, record: &TokenRecord) -> store::TokenRecord {
    store::TokenRecord {
        id: id.to_bytes().into(),
        secret_sha256: record.secret_sha256.into(),
        role: record.role.to_string(),
        router_id: record.subject.to_string(),
        expires_ms: record.expires_ms,
        used_by_sha256: record.used_by.map_or_else(Vec::new, Into::into),
    }
}

pub(super) fn decode_record(record: store::TokenRecord) -> Result<(TokenId, TokenRecord), CodecError> {
    let used_by = match record.used_by_sha256.as_slice() {
        [] => None,
        hash => Some(decode_hash(hash)?),
    };
    let token = TokenRecord {
        secret_sha256: decode_hash(&record.secret_sha256)?,
        role: decode_role(&record.role)?,
        subject: decode_router_id(record.router_id)?,
        expires_ms: record.expires_ms,
        used_by,
    };
    Ok((decode_id(&record.id)?, token))
}

fn decode_id(bytes: &[u8]) -> Result<TokenId, CodecError> {
    TokenId::from_slice(bytes).ok_or(CodecError::Absent { what: "a token's id" })
}

fn decode_hash(bytes: &[u8]) -> Result<Sha256, CodecError> {
    bytes.try_into().map_err(|_| CodecError::Absent { what: "a hash of 32 bytes" })
}

fn decode_role(text: &str) -> Result<RoleKind, CodecError> {
    text.parse().map_err(|why| CodecError::invalid("a role")(&why))
}
