//! From a candidate to an open session: connect, hello, welcome. Every step has a deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::Context;
use super::board::{Claim, Identity};
use super::connector::Connected;
use crate::domain::ids::{ClusterId, ControllerId};
use crate::domain::negotiation::{ProtocolRange, ProtocolVersion};
use crate::domain::principal::{Principal, Role};
use crate::proto::router::controller_message::Kind;
use crate::proto::router::router_control_client::RouterControlClient;
use crate::proto::router::router_message::Kind as FromRouter;
use crate::proto::router::{ControllerMessage, Hello, Refused, RouterMessage, Welcome};
use crate::router::keeper::Speaker;
use crate::rpc::convert::events::CAPABILITY;

/// Most bytes of one message, either way.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Messages to a controller that wait to be sent: answers and a heartbeat.
const OUTGOING_MESSAGES_MAX: usize = 8;

/// An open session.
pub(super) struct Live {
    pub(super) claim: Claim,
    pub(super) speaker: Speaker,
    /// Whether it knew a leader when it answered, and heard from one lately since.
    pub(super) sees_leader: bool,
    pub(super) heartbeat: Duration,
    /// Whether it takes events: one that does not would not know the message.
    pub(super) takes_events: bool,
    pub(super) client: RouterControlClient<Channel>,
    pub(super) outgoing: mpsc::Sender<RouterMessage>,
    pub(super) incoming: Streaming<ControllerMessage>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it did not answer the hello within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it ended the session before it began: {0}")]
    Ended(String),
    #[error("it refused the hello ({}): {}; {}", .0.reason, .0.message, .0.hint)]
    Refused(Box<Refused>),
    #[error("it is controller {0}, which was removed from the cluster: stop it")]
    Retired(ControllerId),
    #[error("its welcome cannot be used: {0}")]
    Invalid(&'static str),
}

impl DialError {
    /// How long it asks to be left alone.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Refused(refused) => Duration::from_millis(refused.retry_after_ms.into()),
            _ => Duration::ZERO,
        }
    }
}

/// Opens a session with a claimed candidate.
pub(super) async fn dial(context: &Arc<Context>, claim: Claim) -> Result<Live, DialError> {
    let timing = &context.timing;
    let Connected { channel, principal } = context
        .connector
        .connect(claim.endpoint().clone(), timing.dial)
        .await
        .map_err(|error| DialError::Unreachable(error.reason))?;
    let client = RouterControlClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    tokio::time::timeout(timing.welcome, greet(context, claim, principal, client))
        .await
        .unwrap_or(Err(DialError::Silent(timing.welcome)))
}

async fn greet(
    context: &Arc<Context>,
    claim: Claim,
    principal: Option<Principal>,
    mut client: RouterControlClient<Channel>,
) -> Result<Live, DialError> {
    let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES_MAX);
    let hello = RouterMessage { kind: Some(FromRouter::Hello(hello(context))) };
    outgoing.try_send(hello).expect("the queue is empty and has room");
    let mut incoming = client.session(ReceiverStream::new(messages)).await.map_err(ended)?.into_inner();
    let welcome = match incoming.message().await.map_err(ended)?.and_then(|message| message.kind) {
        Some(Kind::Welcome(welcome)) => welcome,
        Some(Kind::Refused(refused)) => return Err(DialError::Refused(Box::new(refused))),
        Some(_) => return Err(DialError::Invalid("its first message is neither Welcome nor Refused")),
        None => return Err(DialError::Ended("the stream ended".into())),
    };
    let speaker = speaker(&welcome, &claim)?;
    is_certified(speaker.id, principal.as_ref())?;
    let foreign = {
        let known = context.known.borrow();
        if let Some(id) = speaker.id.filter(|id| known.retired.contains(id)) {
            return Err(DialError::Retired(id));
        }
        known.is_foreign(speaker.cluster)
    };
    let takes_events = !foreign && welcome.capabilities.iter().any(|capability| capability == CAPABILITY);
    claim.answered(Identity { id: speaker.id, cluster: speaker.cluster, foreign });
    let (least, most) = context.timing.heartbeat;
    Ok(Live {
        claim,
        speaker,
        sees_leader: welcome.leader_hint != 0,
        heartbeat: Duration::from_millis(welcome.heartbeat_ms.into()).clamp(least, most),
        takes_events,
        client,
        outgoing,
        incoming,
    })
}

fn hello(context: &Context) -> Hello {
    let description = context.registrar.current();
    Hello {
        router_id: context.router.to_string(),
        software_version: crate::router::SOFTWARE_VERSION.to_owned(),
        boot_id: description.boot.to_bytes().to_vec(),
        protocol_min: ProtocolRange::SUPPORTED.min().get(),
        protocol_max: ProtocolRange::SUPPORTED.max().get(),
        capabilities: vec![CAPABILITY.to_owned()],
        held: context.lists.borrow().as_ref().map(|held| held.held_version().into()),
        trust_floor: None,
        required_capabilities: Vec::new(),
    }
}

/// Who speaks. From protocol 2 on a controller has to say it: an anonymous one would evade the rules about members.
fn speaker(welcome: &Welcome, claim: &Claim) -> Result<Speaker, DialError> {
    let protocol = ProtocolVersion::new(welcome.protocol)
        .filter(|protocol| ProtocolRange::SUPPORTED.versions().any(|ours| ours == *protocol))
        .ok_or(DialError::Invalid("it chose a protocol that was not offered"))?;
    let id = ControllerId::new(welcome.controller_id);
    if id.is_none() && protocol >= ProtocolVersion::STRUCTURED {
        return Err(DialError::Invalid("it does not say which controller it is"));
    }
    let cluster = ClusterId::from_slice(&welcome.cluster_id);
    Ok(Speaker { id, cluster, endpoint: claim.endpoint().clone(), protocol })
}

/// Over TLS a controller cannot speak in the name of another one.
fn is_certified(id: Option<ControllerId>, principal: Option<&Principal>) -> Result<(), DialError> {
    let certified = principal.map(|principal| &principal.role);
    match (id, certified) {
        (Some(id), Some(Role::Controller(certified))) if id == *certified => Ok(()),
        (_, None) | (None, Some(Role::Controller(_))) => Ok(()),
        _ => Err(DialError::Invalid("it says it is another controller than its certificate says")),
    }
}

fn ended(status: Status) -> DialError {
    match status.code() {
        Code::Unimplemented => DialError::Ended("it does not speak the router protocol: check the port".into()),
        _ => DialError::Ended(format!("{:?}: {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_a_controller_says_of_itself_what_its_certificate_says() {
        let (one, two) = (ControllerId::new(1), ControllerId::new(2));
        let certificate = |text: &str| text.parse::<Principal>().unwrap();
        let controller = certificate("spiffe://x/controller/1");
        assert!(is_certified(one, Some(&controller)).is_ok());
        assert!(is_certified(two, Some(&controller)).is_err());
        assert!(is_certified(one, Some(&certificate("spiffe://x/router/1"))).is_err());
        assert!(is_certified(two, None).is_ok(), "over plain text everybody is believed");
    }
}
