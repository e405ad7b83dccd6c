//! The two questions that need no membership: who is there, and be enlisted. Each on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};

use super::dial::{self, Dial};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::ControllerId;
use crate::proto::peer::{EnlistRequest, Header, IdentifyRequest};
use crate::raft::errors::PeerError;
use crate::raft::peer_record::PeerRecord;

/// Longest time for asking a controller who it is.
const IDENTIFY_MS_MAX: u64 = 2_000;
/// Longest time for enlisting a controller: it syncs its disk before it answers.
const ENLIST_MS_MAX: u64 = 5_000;

/// Asks the controller at an address who it is. Where certificates say it, it has to be this one, if one is expected.
pub(in crate::raft) async fn identify(
    dialer: &Arc<dyn Dial>,
    whom: Option<ControllerId>,
    at: &Endpoint,
) -> Result<PeerRecord, PeerError> {
    let mut client = super::limited(channel(dialer, whom, at));
    let answer = within(IDENTIFY_MS_MAX, at, client.identify(IdentifyRequest {})).await?;
    PeerRecord::from_wire(answer.into_inner()).map_err(|what| PeerError::Unusable { at: at.clone(), what })
}

/// Asks the first of these addresses that answers.
pub(in crate::raft) async fn identify_any(
    dialer: &Arc<dyn Dial>,
    whom: ControllerId,
    addresses: &[Endpoint],
) -> Result<PeerRecord, PeerError> {
    let mut last = PeerError::Unreachable { at: "the controller".to_owned(), reason: "it has no address".to_owned() };
    for at in addresses {
        match identify(dialer, Some(whom), at).await {
            Ok(record) => return Ok(record),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Gives the blank controller at an address its cluster and its id. Returns once that is on its disk.
pub(in crate::raft) async fn enlist(
    dialer: &Arc<dyn Dial>,
    whom: ControllerId,
    at: &Endpoint,
    header: Header,
) -> Result<(), PeerError> {
    let mut client = super::limited(channel(dialer, Some(whom), at));
    within(ENLIST_MS_MAX, at, client.enlist(EnlistRequest { header: Some(header) })).await.map(drop)
}

fn channel(dialer: &Arc<dyn Dial>, whom: Option<ControllerId>, at: &Endpoint) -> tonic::transport::Channel {
    let address = at.clone();
    dial::channel(Arc::clone(dialer), whom, Arc::new(move || vec![address.clone()]))
}

async fn within<T>(
    ms_max: u64,
    at: &Endpoint,
    question: impl Future<Output = Result<T, Status>>,
) -> Result<T, PeerError> {
    let at = at.to_string();
    match tokio::time::timeout(Duration::from_millis(ms_max), question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) if matches!(status.code(), Code::FailedPrecondition | Code::PermissionDenied) => {
            Err(PeerError::Refused { at, reason: super::reason(&status) })
        }
        Ok(Err(status)) => Err(PeerError::Unreachable { at, reason: super::reason(&status) }),
        Err(_) => Err(PeerError::Unreachable { at, reason: format!("no answer within {ms_max} ms") }),
    }
}
