//! Finding a controller to ask: --endpoint or PILOTHOUSE_ENDPOINT, a file, or the local socket.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::arguments::{ADMIN_SOCKET, Reach};
use crate::cli::config_layers::{Layers, LoadError, Written, load};
use crate::cli::failure::Failure;
use crate::controller::config::ControllerFile;
use crate::domain::endpoint::{Endpoint, Scheme};
use crate::domain::principal::RoleKind;
use crate::ops::config::Problems;
use crate::rpc::client::AdminClient;
use crate::tls::{Security, TlsConfig, TlsFile};

/// A question is answered within this time, or given up.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A change that waits for nothing but its own steps is done within this time, or given up.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(60);
/// A change that waits for a learner to catch up is done within this time, or given up.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(180);

/// A file for operators only.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OperatorFile {
    /// Admin ports of controllers, as `https://HOST:PORT`.
    endpoints: Vec<String>,
    /// An admin's certificate, or plain text.
    tls: TlsFile,
}

impl Written for OperatorFile {
    fn defaults() -> Self {
        Self::default()
    }
}

/// Whom to ask, and how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    endpoints: Vec<Endpoint>,
    socket: Option<PathBuf>,
    tls: Option<TlsConfig>,
}

/// Connects to the first controller that answers.
pub(super) async fn connect(reach: &Reach) -> Result<AdminClient, Failure> {
    let Found { endpoints, socket, tls } = find(reach, Path::new(ADMIN_SOCKET))?;
    let security = match (tls, endpoints.is_empty()) {
        (Some(tls), _) => tls.open().map_err(|why| Failure::new(why.to_string()))?,
        // Nothing but the socket, which needs no certificate.
        (None, true) => Security::default(),
        (None, false) => {
            return Err(Failure::new("no certificate to show to the controllers").hint(
                "give --tls-dir DIR (`pilothouse pki issue … admin NAME` makes one), a file by --config, or --insecure for \
                 plain text on this host",
            ));
        }
    };
    Ok(AdminClient::connect(&endpoints, socket, security).await?)
}

/// Gives up in time.
pub(super) async fn within<T>(
    deadline: Duration,
    asking: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(deadline, asking).await.unwrap_or_else(|_| {
        Err(Failure::new(format!("not done within {} s", deadline.as_secs()))
            .hint("give it more time with --timeout; look at `pilothouse cluster status` before you repeat a change"))
    })
}

fn find(reach: &Reach, socket: &Path) -> Result<Found, Failure> {
    let mut found = match &reach.config {
        Some(path) => from_file(path)?,
        None => Found { socket: socket.exists().then(|| socket.to_owned()), ..Found::default() },
    };
    if !reach.endpoints.is_empty() {
        found.endpoints.clone_from(&reach.endpoints);
        found.socket = None;
    }
    if reach.insecure {
        found.tls = Some(TlsConfig::Insecure { off_loopback: false });
    } else if let Some(dir) = &reach.tls_dir {
        found.tls = meant(TlsFile { dir: Some(dir.clone()), ..TlsFile::default() })?;
    }
    if let (Some(path), true, None) = (&reach.config, found.endpoints.is_empty(), &found.socket) {
        return Err(Failure::new(format!("{} names no endpoint", path.display()))
            .hint("write endpoints = [\"https://HOST:PORT\"] with the admin ports of the controllers"));
    }
    Ok(found)
}

fn meant(file: TlsFile) -> Result<Option<TlsConfig>, Failure> {
    if file == TlsFile::default() {
        return Ok(None);
    }
    let mut problems = Problems::default();
    match file.meant(RoleKind::Admin, &mut problems) {
        Some(tls) => Ok(Some(tls)),
        None => Err(Failure::new(problems.into_invalid().to_string())),
    }
}

/// A file for operators, or else a controller's own.
fn from_file(path: &Path) -> Result<Found, Failure> {
    let layers = Layers { file: Some(path.to_owned()), ..Layers::default() };
    match load::<OperatorFile>(&layers) {
        Ok(file) => {
            let parsed = file.written.endpoints.iter().map(|text| {
                text.parse().map_err(|why| Failure::new(format!("{}: endpoints: {text:?} {why}", path.display())))
            });
            let endpoints: Vec<_> = parsed.collect::<Result<_, _>>()?;
            Ok(Found { endpoints, socket: None, tls: meant(file.written.tls)? })
        }
        Err(LoadError::UnknownKey { .. }) => from_controller(&load::<ControllerFile>(&layers)?.written, path),
        Err(other) => Err(other.into()),
    }
}

fn from_controller(file: &ControllerFile, path: &Path) -> Result<Found, Failure> {
    let listen = file.listen.admin.as_deref().unwrap_or_default();
    let address: SocketAddr = listen
        .parse()
        .map_err(|_| Failure::new(format!("{}: listen.admin: {listen:?} is not ADDRESS:PORT", path.display())))?;
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let mut problems = Problems::default();
    let tls = file.tls.clone().meant(&mut problems);
    if tls.is_none() {
        return Err(Failure::new(problems.into_invalid().to_string()));
    }
    let scheme = tls.as_ref().map_or(Scheme::Tls, TlsConfig::scheme).as_str();
    let endpoint = format!("{scheme}://{}", SocketAddr::new(ip, address.port()));
    let endpoint = endpoint.parse().map_err(|why| Failure::new(format!("{}: listen.admin: {why}", path.display())))?;
    let socket = file.admin_socket.clone().filter(|socket| socket.exists());
    Ok(Found { endpoints: vec![endpoint], socket, tls })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Output, OutputFlag};

    fn reach(endpoints: &[&str], config: Option<PathBuf>) -> Reach {
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        Reach {
            endpoints,
            config,
            tls_dir: None,
            insecure: false,
            timeout: None,
            output: OutputFlag { output: Output::Table },
        }
    }

    fn shown(found: Result<Found, Failure>) -> String {
        match found {
            Ok(found) => {
                let endpoints: Vec<_> = found.endpoints.iter().map(Endpoint::to_string).collect();
                format!("{} {:?}", endpoints.join(" "), found.socket)
            }
            Err(failure) => failure.rendered(str::to_owned),
        }
    }

    #[test]
    fn endpoints_win_over_the_file_and_the_file_over_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let socket = file("admin.sock", "");
        let operator = file("operator.toml", "endpoints = [\"http://a:1\", \"http://b:2\"]\n");
        let controller =
            file("controller.toml", "name = \"c\"\n[listen]\nadmin = \"0.0.0.0:7003\"\n[tls]\ninsecure = true\n");
        let find =
            |endpoints: &[&str], config: Option<&PathBuf>| shown(find(&reach(endpoints, config.cloned()), &socket));

        assert_eq!(find(&["http://x:9"], Some(&operator)), "http://x:9 None");
        assert_eq!(find(&[], Some(&operator)), "http://a:1 http://b:2 None");
        assert_eq!(find(&[], Some(&controller)), "http://127.0.0.1:7003 None");
        assert_eq!(find(&[], None), format!(" Some({socket:?})"));

        assert!(find(&[], Some(&file("empty.toml", ""))).contains("names no endpoint"));
        assert!(find(&[], Some(&file("typo.toml", "endpoint = [\"http://a:1\"]"))).contains("unknown key"));
        assert!(find(&[], Some(&file("bad.toml", "endpoints = [\"a:1\"]"))).contains("\"a:1\""));
    }
}
