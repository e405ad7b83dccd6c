//! Registrations between wire and domain.

use super::InvalidRequest;
use crate::domain::command::{Registered, Registration};
use crate::domain::controller_list::{KEY_BYTES_MAX, KEYS_PER_CONTROLLER_MAX};
use crate::domain::ids::{BootId, ClusterId, RouterId};
use crate::domain::negotiation::ProtocolRange;
use crate::proto::router as wire;

/// Checks what a router says of itself. Limits that belong to the cluster are applied with the log entry.
///
/// # Errors
/// [`InvalidRequest`].
pub fn from_wire(request: wire::RegisterRequest) -> Result<Registration, InvalidRequest> {
    let boot = BootId::from_slice(&request.boot_id).ok_or(InvalidRequest::BootId { length: request.boot_id.len() })?;
    if request.sequence == 0 {
        return Err(InvalidRequest::Sequence);
    }
    if request.keys.len() > KEYS_PER_CONTROLLER_MAX || request.keys.iter().any(|key| key.value.len() > KEY_BYTES_MAX) {
        return Err(InvalidRequest::Keys);
    }
    Ok(Registration {
        router: RouterId::new(request.router_id)?,
        boot,
        sequence: request.sequence,
        software_version: request.software_version,
        protocols: protocols(request.protocol_min, request.protocol_max)?,
        labels: request.labels,
        keys: request.keys.into_iter().map(Into::into).collect(),
    })
}

/// A registration on its way from one controller to another.
#[must_use]
pub fn to_wire(registration: &Registration) -> wire::RegisterRequest {
    wire::RegisterRequest {
        router_id: registration.router.to_string(),
        software_version: registration.software_version.clone(),
        boot_id: registration.boot.to_bytes().to_vec(),
        sequence: registration.sequence,
        protocol_min: registration.protocols.min().get(),
        protocol_max: registration.protocols.max().get(),
        labels: registration.labels.clone(),
        keys: registration.keys.iter().map(Into::into).collect(),
    }
}

/// The answer to a router.
#[must_use]
pub fn answer(registered: Registered, cluster: ClusterId) -> wire::RegisterResponse {
    use wire::register_response::Effect;
    let effect = match registered {
        Registered::New => Effect::New,
        Registered::Updated => Effect::Updated,
        Registered::Unchanged => Effect::Unchanged,
    };
    wire::RegisterResponse { effect: effect.into(), cluster_id: cluster.to_bytes().to_vec() }
}

/// What a forwarded registration did; `None` when the answer does not say.
#[must_use]
pub fn answer_from_wire(answer: &wire::RegisterResponse) -> Option<(Registered, ClusterId)> {
    use wire::register_response::Effect;
    let registered = match answer.effect() {
        Effect::New => Registered::New,
        Effect::Updated => Registered::Updated,
        Effect::Unchanged => Registered::Unchanged,
        Effect::Unspecified => return None,
    };
    Some((registered, ClusterId::from_slice(&answer.cluster_id)?))
}

/// A range as it came; two zeros are a router from before there were versions.
///
/// # Errors
/// [`InvalidRequest::Protocols`] when it is inverted.
pub fn protocols(min: u32, max: u32) -> Result<ProtocolRange, InvalidRequest> {
    ProtocolRange::from_wire(min, max).ok_or(InvalidRequest::Protocols { min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> wire::RegisterRequest {
        wire::RegisterRequest {
            router_id: "edge-1".into(),
            software_version: "0.1.0".into(),
            boot_id: vec![7; 16],
            sequence: 1,
            protocol_min: 1,
            protocol_max: 2,
            labels: [("site".to_owned(), "oslo".to_owned())].into(),
            keys: vec![wire::PublicKey { scheme: 1, value: vec![1, 2, 3] }],
        }
    }

    #[test]
    fn a_registration_survives_the_way_to_the_wire_and_back() {
        let registration = from_wire(request()).unwrap();
        assert_eq!(to_wire(&registration), request());
        assert_eq!(from_wire(to_wire(&registration)), Ok(registration));
    }

    #[test]
    fn what_is_unusable_is_named() {
        let with = |change: fn(&mut wire::RegisterRequest)| {
            let mut request = request();
            change(&mut request);
            from_wire(request).unwrap_err().to_string()
        };
        assert!(with(|r| r.router_id.clear()).contains("router id is empty"));
        assert!(with(|r| r.router_id = "x".repeat(10_000)).contains("10000 bytes"));
        assert!(with(|r| r.router_id = "a b".into()).contains("' '"));
        assert!(with(|r| r.boot_id.clear()).contains("16 random bytes"));
        assert!(with(|r| r.sequence = 0).contains("from 1"));
        assert!(with(|r| r.protocol_min = 3).contains("inverted"));
        assert!(with(|r| r.keys[0].value = vec![0; KEY_BYTES_MAX + 1]).contains("public keys"));
        assert!(with(|r| r.keys = vec![wire::PublicKey::default(); 5]).contains("public keys"));
    }

    #[test]
    fn a_registration_without_versions_is_one_of_protocol_1() {
        let registration = from_wire(wire::RegisterRequest { protocol_min: 0, protocol_max: 0, ..request() }).unwrap();
        assert_eq!(registration.protocols, ProtocolRange::UNVERSIONED);
    }

    #[test]
    fn every_effect_survives_the_way_back() {
        let cluster = ClusterId::from_u128(9);
        for registered in [Registered::New, Registered::Updated, Registered::Unchanged] {
            assert_eq!(answer_from_wire(&answer(registered, cluster)), Some((registered, cluster)));
        }
        assert_eq!(answer_from_wire(&wire::RegisterResponse::default()), None);
    }
}
