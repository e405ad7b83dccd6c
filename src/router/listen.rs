//! Where a router's HTTP API listens: a loopback port or a local socket, for this host only.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

use super::config::HttpListen;
use crate::ops;

/// The user and the group of the router may use its socket.
const SOCKET_MODE: u32 = 0o660;

/// Binds what the configuration names.
///
/// # Errors
/// As the system says; a socket that another process listens on is in use, one that a dead process left is replaced.
pub async fn listen(at: &HttpListen) -> io::Result<ops::Incoming> {
    match at {
        HttpListen::Tcp(address) => Ok(ops::http::tcp(TcpListener::bind(address).await?)),
        HttpListen::Unix(path) => Ok(ops::http::unix(bind(path)?)),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
    }
    // Made under another name: whoever sees it under its own name finds its permissions set.
    let made = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&made);
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(&made, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = HttpListen::Unix(folder.path().join("router.sock"));
        let first = listen(&at).await.unwrap();
        assert_eq!(listen(&at).await.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(listen(&at).await.is_ok());
    }
}
