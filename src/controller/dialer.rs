//! How Raft reaches other controllers: through the same TLS as everything else, and only if the certificate is that of
//! the controller which is meant.

use std::io;

use crate::domain::access::Caller;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::ControllerId;
use crate::raft::{Dial, Dialing, Io};
use crate::tls::Security;

/// Raft's connections.
#[derive(Debug, Clone)]
pub(super) struct Dialer(pub(super) Security);

impl Dial for Dialer {
    fn dial(&self, to: &Endpoint, whom: Option<ControllerId>) -> Dialing {
        let (security, to) = (self.0.clone(), to.clone());
        Box::pin(async move {
            let dialed = security.dial(&to).await?;
            if let (Some(principal), Some(whom)) = (dialed.principal, whom) {
                let caller = Caller::Verified(principal);
                if !caller.may_speak_for_controller(whom) {
                    let reason = format!("{caller} answers there, controller {whom} is expected: check the addresses");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
                }
            }
            Ok(Box::new(dialed.stream) as Box<dyn Io>)
        })
    }
}
