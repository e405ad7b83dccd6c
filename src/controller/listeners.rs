//! The ports of a controller, bound before anything else starts: a port in use ends the start, with nothing touched.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::ControllerError;
use super::config::{Advertise, ControllerConfig};
use crate::domain::endpoint::{Endpoint, Scheme};

/// Only the user that runs the controller may speak to its socket.
const SOCKET_MODE: u32 = 0o600;

/// Bound ports. In tests they are bound to port 0 beforehand.
#[derive(Debug)]
pub struct Listeners {
    /// For other controllers.
    pub peer: TcpListener,
    /// For routers.
    pub router: TcpListener,
    /// For operators.
    pub admin: TcpListener,
    /// For probes and metrics.
    pub http: TcpListener,
    /// For operators on this host.
    pub socket: Option<AdminSocket>,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// [`ControllerError::Bind`] or [`ControllerError::Socket`], naming what could not be bound.
    pub async fn bind(config: &ControllerConfig) -> Result<Self, ControllerError> {
        let listen = &config.listen;
        Ok(Self {
            peer: bind("listen.peer", listen.peer).await?,
            router: bind("listen.router", listen.router).await?,
            admin: bind("listen.admin", listen.admin).await?,
            http: bind("listen.http", listen.http).await?,
            socket: config.admin_socket.as_deref().map(AdminSocket::bind).transpose()?,
        })
    }

    /// What is advertised: what the configuration says, and the bound address of what it does not mention.
    ///
    /// # Errors
    /// [`ControllerError::Address`] when the system does not say where a port is bound.
    pub fn advertise(&self, configured: &Advertise, scheme: Scheme) -> Result<Advertise, ControllerError> {
        Ok(Advertise {
            peer: advertised(&configured.peer, &self.peer, scheme)?,
            router: advertised(&configured.router, &self.router, scheme)?,
            admin: advertised(&configured.admin, &self.admin, scheme)?,
        })
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ControllerError> {
    TcpListener::bind(address).await.map_err(|source| ControllerError::Bind { key, address, source })
}

fn advertised(configured: &[Endpoint], bound: &TcpListener, scheme: Scheme) -> Result<Vec<Endpoint>, ControllerError> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    let address = bound.local_addr().map_err(ControllerError::Address)?;
    let endpoint = format!("{}://{address}", scheme.as_str()).parse();
    Ok(vec![endpoint.map_err(|_| ControllerError::Address(io::Error::other("it has no port")))?])
}

/// A unix socket that only its owner may use; removed when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl AdminSocket {
    /// Binds it. A socket that a dead process left behind is replaced, a live one is not.
    ///
    /// # Errors
    /// [`ControllerError::Socket`].
    pub fn bind(path: &Path) -> Result<Self, ControllerError> {
        let failed = |source| ControllerError::Socket { path: path.to_path_buf(), source };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")));
        }
        // Made under another name: whoever can see it under its own name finds its permissions set.
        let made = path.with_extension(format!("new-{}", std::process::id()));
        let _ = fs::remove_file(&made);
        let listener = UnixListener::bind(&made).map_err(failed)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        fs::rename(&made, path).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), listener: Some(listener) })
    }

    /// The listener, once.
    pub(super) fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // What is left is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}
