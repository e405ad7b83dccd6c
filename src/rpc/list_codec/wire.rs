//! Versions, digests and keys between wire and domain. What the wire leaves out or garbles becomes absent here.

use crate::domain::controller_list::{Digest, DigestScheme, HeldVersion, ListVersion, PublicKey};
use crate::domain::ids::ClusterId;
use crate::proto::router as proto;

impl From<ListVersion> for proto::ListVersion {
    fn from(version: ListVersion) -> Self {
        Self { epoch: version.epoch.get(), index: version.index }
    }
}

impl From<Digest> for proto::Digest {
    fn from(digest: Digest) -> Self {
        Self { scheme: digest.scheme.0, value: digest.bytes.to_vec() }
    }
}

impl From<HeldVersion> for proto::HeldVersion {
    fn from(held: HeldVersion) -> Self {
        Self {
            cluster_id: held.cluster.to_bytes().to_vec(),
            version: Some(held.version.into()),
            digest: held.digest.map(Into::into),
        }
    }
}

impl From<&PublicKey> for proto::PublicKey {
    fn from(key: &PublicKey) -> Self {
        Self { scheme: key.scheme, value: key.bytes.clone() }
    }
}

impl From<proto::PublicKey> for PublicKey {
    fn from(key: proto::PublicKey) -> Self {
        Self { scheme: key.scheme, bytes: key.value }
    }
}

/// `None` when either part is 0, which means absent.
#[must_use]
pub fn list_version_from_wire(version: &proto::ListVersion) -> Option<ListVersion> {
    ListVersion::from_wire(version.epoch, version.index)
}

/// `None` for an absent scheme, and for one of another length, which this build could not compare anyway.
///
/// # Errors
/// What is wrong, in words, when it claims to be SHA-256 and is not as long.
pub fn digest_from_wire(digest: &proto::Digest) -> Result<Option<Digest>, String> {
    let scheme = DigestScheme(digest.scheme);
    match <[u8; 32]>::try_from(digest.value.as_slice()) {
        _ if digest.scheme == 0 => Ok(None),
        Ok(bytes) => Ok(Some(Digest { scheme, bytes })),
        Err(_) if scheme == DigestScheme::SHA256 => {
            Err(format!("its digest has {} bytes, SHA-256 has 32", digest.value.len()))
        }
        Err(_) => Ok(None),
    }
}

/// What a router says that it holds; `None` when it does not say of which cluster or which version.
#[must_use]
pub fn held_from_wire(held: &proto::HeldVersion) -> Option<HeldVersion> {
    Some(HeldVersion {
        cluster: ClusterId::from_slice(&held.cluster_id)?,
        version: held.version.as_ref().and_then(list_version_from_wire)?,
        digest: held.digest.as_ref().and_then(|digest| digest_from_wire(digest).ok().flatten()),
    })
}
