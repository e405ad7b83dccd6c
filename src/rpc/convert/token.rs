//! Join tokens between controllers: the redemption on its way to the leader, and what the leader says.

use super::InvalidRequest;
use crate::domain::ids::{RouterId, TokenId};
use crate::domain::token::{Redeemed, Redemption, TokenRefusal};
use crate::proto::peer::Header;
use crate::proto::relay as wire;

/// Checks a forwarded redemption.
///
/// # Errors
/// [`InvalidRequest`].
pub fn from_wire(request: wire::RelayRedeemToken) -> Result<Redemption, InvalidRequest> {
    let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| InvalidRequest::Token);
    Ok(Redemption {
        id: TokenId::from_slice(&request.token_id).ok_or(InvalidRequest::Token)?,
        secret_sha256: hash(request.secret_sha256)?,
        subject: RouterId::new(request.router_id)?,
        key_sha256: hash(request.key_sha256)?,
    })
}

/// A redemption on its way from one controller to another.
#[must_use]
pub fn to_wire(redemption: &Redemption, header: Option<Header>, hops: u32) -> wire::RelayRedeemToken {
    wire::RelayRedeemToken {
        header,
        hops,
        token_id: redemption.id.to_bytes().into(),
        secret_sha256: redemption.secret_sha256.into(),
        router_id: redemption.subject.to_string(),
        key_sha256: redemption.key_sha256.into(),
    }
}

/// What the leader says of it.
#[must_use]
pub fn answer(judgement: Result<Redeemed, TokenRefusal>) -> wire::RedeemTokenResponse {
    let refusal = judgement.err().map(|refusal| refusal.code().to_owned());
    wire::RedeemTokenResponse { refusal: refusal.unwrap_or_default() }
}

/// What the leader said; `None` when this build does not know the word.
#[must_use]
pub fn answer_from_wire(answer: &wire::RedeemTokenResponse) -> Option<Result<Redeemed, TokenRefusal>> {
    match answer.refusal.as_str() {
        // Whether it was the first time matters to nobody any more.
        "" => Some(Ok(Redeemed::Again)),
        code => TokenRefusal::from_code(code).map(Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redemption_and_its_answer_survive_the_way_to_the_leader_and_back() {
        let redemption = Redemption {
            id: TokenId::from_u128(7),
            secret_sha256: [1; 32],
            subject: RouterId::new("edge-7").unwrap(),
            key_sha256: [2; 32],
        };
        assert_eq!(from_wire(to_wire(&redemption, None, 1)), Ok(redemption.clone()));
        let broken = wire::RelayRedeemToken { key_sha256: vec![2; 31], ..to_wire(&redemption, None, 1) };
        assert_eq!(from_wire(broken), Err(InvalidRequest::Token));
        assert_eq!(answer_from_wire(&answer(Ok(Redeemed::First))), Some(Ok(Redeemed::Again)));
        for refusal in TokenRefusal::ALL {
            assert_eq!(answer_from_wire(&answer(Err(refusal))), Some(Err(refusal)));
        }
        assert_eq!(answer_from_wire(&wire::RedeemTokenResponse { refusal: "newer".into() }), None);
    }
}
