//! Asking a router on this host: one GET, bounded in time.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

use crate::cli::http_get;

/// Longest wait for an answer from a process on this host.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// The body of a successful answer to `GET path` on a loopback port.
pub(crate) async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let answer = tokio::time::timeout(ANSWER_DEADLINE, ask(port, path)).await;
    let (status, body) = answer.with_context(|| format!("no answer from port {port} within {ANSWER_DEADLINE:?}"))??;
    anyhow::ensure!(status == 200, "port {port} answered {path} with {status}");
    Ok(body)
}

async fn ask(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    let stream = stream.with_context(|| format!("connect to port {port}"))?;
    Ok(http_get::get(stream, &format!("127.0.0.1:{port}"), path).await?)
}
