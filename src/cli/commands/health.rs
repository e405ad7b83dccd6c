//! `health`: a daemon's own `/readyz` or `/livez`, asked where its configuration says that it listens. What ready and
//! alive mean is the daemon's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use super::configured::validated;
use crate::cli::arguments::Health;
use crate::cli::config_layers::{Layers, load, variables};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::http_get;
use crate::controller::config::ControllerFile;
use crate::domain::endpoint::{Endpoint, Scheme};
use crate::ops::http::Bytes;
use crate::router::config::{HttpListen, RouterFile};
use crate::tls::{TlsConfig, web};

/// What is asked.
const READINESS: &str = "/readyz";
/// What is asked with `--alive`.
const LIVENESS: &str = "/livez";
/// The answer of a daemon that is.
const YES: u16 = 200;
/// The answer of one that is not, with a line for each check.
const NO: u16 = 503;
/// What a request over a local socket names as its host: nobody looks at it.
const LOCAL: &str = "localhost";

/// Where a daemon is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A controller, verified by its own files.
    Controller { at: Endpoint, tls: TlsConfig },
    /// A router's port on this host.
    Router { at: Endpoint },
    /// A router's socket on this host.
    Socket(PathBuf),
    /// What --url says, verified by its name.
    Url { at: Endpoint, ca: Option<PathBuf> },
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Controller { at, .. } | Self::Router { at } | Self::Url { at, .. } => at.to_string(),
            Self::Socket(path) => format!("unix:{}", path.display()),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Bytes>, Failure> {
        let unreachable = |why: io::Error| {
            Failure::new(why).doing(format!("{} does not answer", self.name())).hint(
                "see whether the daemon runs, and its log; it listens where its configuration says (listen.http, http)",
            )
        };
        Ok(match self {
            Self::Controller { at, tls } => {
                let security = tls.open().map_err(Failure::of)?;
                Box::new(security.dial_http(at).await.map_err(unreachable)?.stream)
            }
            Self::Router { at } => Box::new(web::dial(at, None).await.map_err(unreachable)?),
            Self::Socket(path) => Box::new(UnixStream::connect(path).await.map_err(unreachable)?),
            Self::Url { at, ca } => Box::new(web::dial(at, ca.clone()).await.map_err(unreachable)?),
        })
    }

    fn host(&self) -> String {
        match self {
            Self::Controller { at, .. } | Self::Router { at } | Self::Url { at, .. } => at.authority(),
            Self::Socket(_) => LOCAL.to_owned(),
        }
    }
}

pub(super) async fn ask(asked: &Health, console: Console) -> Result<ExitStatus, Failure> {
    let place = place(asked)?;
    let path = if asked.alive { LIVENESS } else { READINESS };
    let deadline = Duration::from_secs(u64::from(asked.timeout.get()));
    let (status, body) = tokio::time::timeout(deadline, probe(&place, path)).await.unwrap_or_else(|_| {
        Err(Failure::new(format!("{} did not answer within {} s", place.name(), deadline.as_secs()))
            .hint("see the daemon's log; --timeout gives it more time"))
    })?;
    judge(&place.name(), path, status, &body)?;
    console.data(&body)?;
    Ok(ExitStatus::Done)
}

async fn probe(place: &Place, path: &str) -> Result<(u16, String), Failure> {
    let stream = place.connect().await?;
    let answer = http_get::get(stream, &place.host(), path).await;
    answer.map_err(|why| Failure::from(why).doing(format!("{} broke off", place.name())).hint("see the daemon's log"))
}

/// Whether an answer means yes.
fn judge(name: &str, path: &str, status: u16, body: &str) -> Result<(), Failure> {
    match status {
        YES => Ok(()),
        NO if path == LIVENESS => Err(Failure::new(format!("{name} is not alive\n{}", body.trim_end()))
            .hint("its log may say where it is stuck; restart it")),
        NO => Err(Failure::new(format!("{name} is not ready\n{}", body.trim_end()))
            .hint("each check that failed says why; those of a controller that just started pass within seconds")),
        other => Err(Failure::new(format!("{name} answered {path} with {other}"))
            .hint("is that the HTTP port of a controller or router? listen.http and http name it")),
    }
}

fn place(asked: &Health) -> Result<Place, Failure> {
    let Some(at) = asked.url.clone() else {
        return configured(asked.config.as_deref());
    };
    match (at.scheme(), &asked.ca) {
        (Scheme::Tls, None) => Err(Failure::usage(format!("whom is {at} to be verified by?"))
            .hint("give --ca FILE, as in --ca ca-controllers.pem; or --config FILE in place of --url")),
        (Scheme::Plain, Some(_)) => {
            Err(Failure::usage(format!("{at} is plain text, and --ca verifies nobody there")).hint("leave out --ca"))
        }
        _ => Ok(Place::Url { at, ca: asked.ca.clone() }),
    }
}

/// Where a daemon of this configuration is found: a controller's if it can be read as one, else a router's.
fn configured(file: Option<&Path>) -> Result<Place, Failure> {
    let environment = variables()?;
    if file.is_none() && environment.is_empty() {
        return Err(Failure::usage("which daemon is meant?").hint(
            "give --config FILE, the configuration that it was started with, or --url; in its container its \
             PILOTHOUSE_… variables say it",
        ));
    }
    let layers = Layers { file: file.map(Path::to_owned), environment, ..Layers::default() };
    let no_controller = match load::<ControllerFile>(&layers) {
        Ok(loaded) => {
            let config = validated(loaded)?;
            return Ok(Place::Controller { at: reached(config.tls.scheme(), config.listen.http)?, tls: config.tls });
        }
        Err(why) => why,
    };
    match load::<RouterFile>(&layers) {
        Ok(loaded) => match validated(loaded)?.http {
            Some(HttpListen::Tcp(address)) => Ok(Place::Router { at: reached(Scheme::Plain, address)? }),
            Some(HttpListen::Unix(path)) => Ok(Place::Socket(path)),
            None => Err(Failure::new("this router serves no HTTP")
                .hint("set http = \"127.0.0.1:7080\" in its configuration, and start it again")),
        },
        Err(no_router) => {
            let hint = "`pilothouse controller check` and `pilothouse router check` look at each alone".to_owned();
            Err(Failure::new(format!(
                "the configuration is neither a controller's ({no_controller}) nor a router's ({no_router})"
            ))
            .hint(hint))
        }
    }
}

/// The address at which this host reaches a listener.
fn reached(scheme: Scheme, listen: SocketAddr) -> Result<Endpoint, Failure> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, listen.port());
    format!("{}://{address}", scheme.as_str()).parse().map_err(|why| {
        Failure::new(format!("{address} cannot be asked: it {why}")).hint("give the port that it got with --url")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(place: Result<Place, Failure>) -> String {
        place.map_or_else(|failure| failure.rendered(str::to_owned), |place| place.name())
    }

    #[test]
    fn a_daemon_is_found_by_its_own_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let find = |text: &str| {
            let path = folder.path().join("daemon.toml");
            std::fs::write(&path, text).unwrap();
            shown(configured(Some(&path)))
        };
        let controller = "name = \"c\"\ndata_dir = \"/d\"\njoin = true\n";
        let tls = "[tls]\ndir = \"/t\"\n";
        assert_eq!(find(&format!("{controller}{tls}")), "https://127.0.0.1:7004");
        assert_eq!(find(&format!("{controller}[listen]\nhttp = \"0.0.0.0:9\"\n{tls}")), "https://127.0.0.1:9");
        assert_eq!(find(&format!("{controller}[listen]\nhttp = \"[::]:9\"\n{tls}")), "https://[::1]:9");
        assert!(find(&format!("{controller}[listen]\nhttp = \"127.0.0.1:0\"\n{tls}")).contains("--url"));

        let router = "id = \"edge-1\"\ndata_dir = \"/d\"\nseeds = [\"https://a:1\"]\n";
        assert_eq!(find(&format!("{router}http = \"127.0.0.1:8\"\n{tls}")), "http://127.0.0.1:8");
        assert_eq!(find(&format!("{router}http = \"unix:/run/r\"\n{tls}")), "unix:/run/r");
        assert!(find(&format!("{router}{tls}")).contains("serves no HTTP"));
        assert!(find("nonsense = 1").contains("neither a controller's"));
    }

    #[test]
    fn a_url_over_tls_needs_somebody_to_trust_and_plain_text_nobody() {
        let find = |url: &str, ca: Option<&str>| {
            let timeout = std::num::NonZeroU32::MIN;
            shown(place(&Health {
                config: None,
                url: Some(url.parse().unwrap()),
                ca: ca.map(Into::into),
                alive: false,
                timeout,
            }))
        };
        assert_eq!(find("http://a:1", None), "http://a:1");
        assert_eq!(find("https://a:1", Some("ca.pem")), "https://a:1");
        assert!(find("https://a:1", None).contains("--ca"));
        assert!(find("http://a:1", Some("ca.pem")).contains("leave out --ca"));
    }

    #[test]
    fn only_200_is_ready_and_what_failed_is_said() {
        assert!(judge("a", READINESS, 200, "ready\n").is_ok());
        assert!(judge("a", LIVENESS, 200, "").is_ok());
        let failure = judge("a", LIVENESS, 503, "[-] progress\n").unwrap_err().rendered(str::to_owned);
        assert!(failure.contains("a is not alive\n[-] progress\nhint: "), "{failure}");
        let failure =
            judge("http://a:1", READINESS, 503, "[-] list failed: none\n").unwrap_err().rendered(str::to_owned);
        assert!(failure.contains("http://a:1 is not ready\n[-] list failed: none\nhint: "), "{failure}");
        assert!(judge("a", READINESS, 404, "").is_err());
    }
}
