//! How a connection to a controller is made, as a seam: simulation brings its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tonic::transport::Channel;

use crate::domain::endpoint::Endpoint;
use crate::domain::principal::Principal;
use crate::router::instruments::chain;
use crate::tls::Security;

/// HTTP/2 pings on a silent connection: a second line of defence behind the heartbeats.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections.
pub trait Connector: Send + Sync + 'static {
    /// Connects, within this time.
    fn connect(&self, endpoint: Endpoint, within: Duration) -> BoxFuture<'static, Result<Connected, ConnectError>>;
}

/// A connection to a controller.
#[derive(Debug, Clone)]
pub struct Connected {
    /// For its services.
    pub channel: Channel,
    /// Whose certificate was verified; `None` over plain text.
    pub principal: Option<Principal>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectError {
    /// In words, causes included.
    pub reason: String,
}

/// TCP, with or without TLS.
#[derive(Debug, Clone, Default)]
pub struct TcpConnector(pub Security);

impl Connector for TcpConnector {
    fn connect(&self, endpoint: Endpoint, within: Duration) -> BoxFuture<'static, Result<Connected, ConnectError>> {
        let security = self.0.clone();
        Box::pin(async move {
            let failed = |error: tonic::transport::Error| ConnectError { reason: chain(&error) };
            let answered = Arc::new(OnceLock::new());
            // Plain for tonic: the connector adds what is needed.
            let plain = tonic::transport::Endpoint::from_shared(endpoint.plain().to_string()).map_err(failed)?;
            let plain = plain
                .connect_timeout(within)
                .http2_keep_alive_interval(KEEPALIVE_EVERY)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            let channel = plain.connect_with_connector(tower::service_fn({
                let answered = Arc::clone(&answered);
                move |_| dial(security.clone(), endpoint.clone(), Arc::clone(&answered))
            }));
            match tokio::time::timeout(within, channel).await {
                Ok(Ok(channel)) => Ok(Connected { channel, principal: answered.get().cloned().flatten() }),
                Ok(Err(error)) => Err(failed(error)),
                Err(_) => Err(ConnectError { reason: format!("no connection within {} ms", within.as_millis()) }),
            }
        })
    }
}

/// A channel connects again by itself when its connection was lost: then the same controller has to answer.
async fn dial(
    security: Security,
    to: Endpoint,
    answered: Arc<OnceLock<Option<Principal>>>,
) -> std::io::Result<TokioIo<crate::tls::Stream>> {
    let dialed = security.dial(&to).await?;
    if answered.get_or_init(|| dialed.principal.clone()) != &dialed.principal {
        return Err(std::io::Error::other("another controller answers there than before"));
    }
    Ok(TokioIo::new(dialed.stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_channel_that_connects_again_reaches_whom_it_reached_before_or_nobody() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to: Endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answered = Arc::new(OnceLock::new());
        for _ in 0..2 {
            assert!(dial(Security::default(), to.clone(), Arc::clone(&answered)).await.is_ok());
        }
        let before = "spiffe://x/controller/1".parse().unwrap();
        let refused = dial(Security::default(), to, Arc::new(OnceLock::from(Some(before)))).await;
        assert!(refused.unwrap_err().to_string().contains("another controller answers there than before"));
    }
}
