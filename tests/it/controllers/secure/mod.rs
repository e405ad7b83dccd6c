//! Clusters that speak TLS: who may do what, and what becomes of identities over time.

mod enrolling;
mod joining;
mod renewing;
mod revocation;
mod roles;
mod rotation;
mod starting;

use std::net::SocketAddr;
use std::time::Duration;

use pilothouse::router::{Connector, TcpConnector};
use pilothouse::tls::{Newcomer, Security};
use tonic::transport::Channel;

use super::cluster::Cluster;
use crate::support::pki::{Pki, TRUST_DOMAIN};

/// A channel to a port of a cluster.
async fn channel(cluster: &Cluster, security: Security, to: SocketAddr) -> Result<Channel, String> {
    let connected = TcpConnector(security).connect(cluster.at(to), Duration::from_secs(5)).await;
    connected.map(|connected| connected.channel).map_err(|error| error.to_string())
}

/// Somebody who knows whom to trust, and has no certificate.
fn newcomer(pki: &Pki) -> Security {
    let pem = pki.controllers();
    let der = pilothouse::tls::authority::describe(&pem).unwrap();
    let fingerprints: Vec<[u8; 32]> = der.iter().map(|one| fingerprint(&one.sha256)).collect();
    let (newcomer, _) = Newcomer::trusting(TRUST_DOMAIN.parse().unwrap(), &pem, &fingerprints).unwrap();
    Security::Newcomer(newcomer)
}

fn fingerprint(hex: &str) -> [u8; 32] {
    let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
    std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
}
