//! How a connection to a controller is made, as a seam: TLS and simulation bring their own.

use std::time::Duration;

use futures::future::BoxFuture;
use tonic::transport::Channel;

use crate::domain::endpoint::Endpoint;
use crate::router::instruments::chain;

/// HTTP/2 pings on a silent connection: a second line of defence behind the heartbeats.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections.
pub trait Connector: Send + Sync + 'static {
    /// Connects, within this time.
    fn connect(&self, endpoint: Endpoint, within: Duration) -> BoxFuture<'static, Result<Channel, ConnectError>>;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectError {
    /// In words, causes included.
    pub reason: String,
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, endpoint: Endpoint, within: Duration) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        Box::pin(async move {
            let failed = |error: tonic::transport::Error| ConnectError { reason: chain(&error) };
            let channel = tonic::transport::Endpoint::from_shared(endpoint.to_string())
                .map_err(failed)?
                .connect_timeout(within)
                .http2_keep_alive_interval(KEEPALIVE_EVERY)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            match tokio::time::timeout(within, channel.connect()).await {
                Ok(connected) => connected.map_err(failed),
                Err(_) => Err(ConnectError { reason: format!("no connection within {} ms", within.as_millis()) }),
            }
        })
    }
}
