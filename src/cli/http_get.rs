//! Just enough of an HTTP client to ask a process of ours: one GET over a connection that somebody else made, bounded in size.
//! Its time is bounded by whoever calls.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::ops::http::Bytes;

/// Largest answer: a status with 64 controllers is far below.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Status and body of `GET path`. HTTP/1.0: the answer is not chunked, and ends with the connection.
pub(crate) async fn get(mut stream: impl Bytes, host: &str, path: &str) -> io::Result<(u16, String)> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    let version = words.next()?;
    let status = words.next()?.parse().ok().filter(|_| version.starts_with("HTTP/1."))?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &str) -> io::Result<(u16, String)> {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let server = async {
            let mut request = [0; 1024];
            let length = theirs.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /a HTTP/1.0\r\nHost: b\r\n"));
            theirs.write_all(answer.as_bytes()).await.unwrap();
            drop(theirs);
        };
        tokio::join!(get(ours, "b", "/a"), server).0
    }

    #[tokio::test]
    async fn a_status_and_a_body_are_returned_and_what_is_not_http_is_an_error() {
        let good = answered("HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"c\":1}").await.unwrap();
        assert_eq!(good, (200, "{\"c\":1}".to_owned()));
        let unready = answered("HTTP/1.1 503 Service Unavailable\r\n\r\nno").await.unwrap();
        assert_eq!(unready, (503, "no".to_owned()));
        for wrong in ["", "garbage", "SSH-2.0 200\r\n\r\n", "HTTP/1.1 ok\r\n\r\n"] {
            assert!(answered(wrong).await.is_err(), "{wrong:?}");
        }
    }
}
