//! Just enough of an HTTP client to ask a router on this host: one GET, bounded in time and size.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for an answer from a process on this host.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// Largest answer: a status with 64 controllers is far below.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// The body of a successful answer to `GET path` on a loopback port.
pub(crate) async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let answer = tokio::time::timeout(ANSWER_DEADLINE, ask(port, path)).await;
    let answer = answer.with_context(|| format!("no answer from port {port} within {ANSWER_DEADLINE:?}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let status = head.lines().next().unwrap_or_default();
    anyhow::ensure!(status.split(' ').nth(1) == Some("200"), "port {port} answered {path} with {status}");
    Ok(body.to_owned())
}

/// HTTP/1.0: the answer is not chunked, and ends with the connection.
async fn ask(port: u16, path: &str) -> anyhow::Result<String> {
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    let mut stream = connected.with_context(|| format!("connect to port {port}"))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answered(answer: &'static str) -> anyhow::Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /a HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let body = get(port, "/a").await;
        server.await?;
        body
    }

    #[tokio::test]
    async fn a_body_is_returned_and_an_error_is_one() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"c\":1}").await.unwrap(), "{\"c\":1}");
        let error = answered("HTTP/1.1 503 Service Unavailable\r\n\r\nno").await.unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
        assert!(answered("garbage").await.is_err());
    }
}
