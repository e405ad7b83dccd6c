//! Connections that are counted, that say nothing, and that are closed by their handles.

use futures::{StreamExt, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;

/// Connections that a test makes.
struct Made(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

impl Listen for Made {
    type Io = DuplexStream;

    async fn accept_one(&self) -> io::Result<DuplexStream> {
        self.0.lock().await.recv().await.ok_or_else(|| io::Error::other("no more"))
    }
}

fn listener() -> (mpsc::Sender<DuplexStream>, Made) {
    let (dial, made) = mpsc::channel(8);
    (dial, Made(made.into()))
}

async fn dial(to: &mpsc::Sender<DuplexStream>) -> DuplexStream {
    let (here, there) = duplex(64);
    to.send(there).await.unwrap();
    here
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_one_that_did_is_not() {
    let (to, made) = listener();
    let connections = Connections { patience: Duration::from_millis(50), ..Connections::new(8) };
    let mut incoming = std::pin::pin!(connections.incoming(made));
    let (_silent, mut talking) = (dial(&to).await, dial(&to).await);
    let (mut first, mut second) = (incoming.next().await.unwrap().unwrap(), incoming.next().await.unwrap().unwrap());
    talking.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    second.read_exact(&mut said).await.unwrap();
    let closed = first.read_u8().await.unwrap_err();
    assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
    assert!(poll!(Box::pin(second.read_u8())).is_pending());
}

#[tokio::test]
async fn no_more_connections_than_there_are_places() {
    let (to, made) = listener();
    let connections = Connections::new(1);
    let mut incoming = std::pin::pin!(connections.incoming(made));
    let _dialled = (dial(&to).await, dial(&to).await);
    let first = incoming.next().await.unwrap().unwrap();
    assert!(poll!(incoming.next()).is_pending());
    assert_eq!(connections.count(), 1);
    drop(first);
    assert!(incoming.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_handle_closes_its_connection() {
    let (to, made) = listener();
    let connections = Connections::new(8);
    let mut incoming = std::pin::pin!(connections.incoming(made));
    let _dialled = dial(&to).await;
    let mut connection = incoming.next().await.unwrap().unwrap();
    connections.close_all();
    assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    drop(connection);
    assert_eq!(connections.count(), 0);
}

#[tokio::test]
async fn the_connections_of_one_identity_can_be_closed_and_the_others_stay() {
    let (to, made) = listener();
    let connections = Connections::new(8);
    let mut incoming = std::pin::pin!(connections.incoming(made));
    let mut dialled = Vec::new();
    let mut accepted = Vec::new();
    for identity in [Some("router/edge-1"), Some("router/edge-2"), Some("router/edge-1"), None] {
        dialled.push(dial(&to).await);
        let connection = incoming.next().await.unwrap().unwrap();
        if let Some(identity) = identity {
            connection.identify(Identity::new(identity));
        }
        accepted.push(connection);
    }
    assert_eq!(connections.close(&Identity::new("router/edge-1")), 2);
    assert_eq!(connections.close(&Identity::new("router/edge-9")), 0);
    for (number, connection) in accepted.iter_mut().enumerate() {
        let read = poll!(Box::pin(connection.read_u8()));
        assert_eq!(read.is_ready(), [0, 2].contains(&number), "connection {number}");
    }
    accepted.clear();
    assert_eq!(connections.close(&Identity::new("router/edge-1")), 0, "what has ended is forgotten");
}
