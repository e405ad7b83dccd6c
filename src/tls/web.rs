//! Somebody else's web server, as an Alertmanager: verified by its name, against issuers that a file names.
//!
//! The only connections of this house where the name of a host counts and identities do not: who answers there has a
//! certificate of the world outside.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::material::trusted;
use super::security::Stream;
use crate::domain::endpoint::{Endpoint, Scheme};
use crate::ops::alerts::{AlertsConfig, Dial};

/// The way to where alarms are posted.
#[must_use]
pub fn to_alerts(config: &AlertsConfig) -> Dial {
    let (to, ca) = (config.to.clone(), config.ca.clone());
    Arc::new(move || {
        let (to, ca) = (to.clone(), ca.clone());
        Box::pin(async move { Ok(Box::new(dial(&to, ca).await?) as Box<dyn crate::ops::http::Bytes>) })
    })
}

/// Connects. Whoever calls sets the deadline. The issuers are read each time: the file may be replaced, and alarms are seldom.
///
/// # Errors
/// What went wrong: the file, the network, or who answers.
pub async fn dial(to: &Endpoint, ca: Option<PathBuf>) -> io::Result<Stream> {
    let config = match (to.scheme(), ca) {
        (Scheme::Plain, _) => None,
        (Scheme::Tls, Some(ca)) => {
            let config = tokio::task::spawn_blocking(move || config(&ca)).await;
            Some(config.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?)
        }
        (Scheme::Tls, None) => return Err(io::Error::other("https:// needs a file with issuers to trust")),
    };
    let stream = TcpStream::connect(to.authority()).await?;
    stream.set_nodelay(true)?;
    let Some(config) = config else { return Ok(Stream::Plain(stream)) };
    let host = to.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(TlsStream::from(stream))))
}

fn config(ca: &Path) -> io::Result<Arc<ClientConfig>> {
    let roots = trusted(ca).map_err(|why| io::Error::other(why.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
