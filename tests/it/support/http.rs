//! One HTTP/1.1 request, by hand: enough for health checks and the routers' own API.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Status and body of `GET path`.
pub(crate) async fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(ANSWER_WITHIN, exchange).await.map_err(|_| format!("no answer on port {port}"))?;
    parse(&answer.map_err(|error| format!("port {port}: {error}"))?)
}

/// The JSON that `GET path` answers with.
pub(crate) async fn get_json(port: u16, path: &str) -> Result<serde_json::Value, String> {
    let (status, body) = get(port, path).await?;
    if status != 200 {
        return Err(format!("{path} answered {status}: {body}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("{path}: {error}: {body}"))
}

fn parse(answer: &str) -> Result<(u16, String), String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("not HTTP: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("no status: {head:?}"))?, body.to_owned()))
}
