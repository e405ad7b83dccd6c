//! One HTTP request: a connection, a POST, its answer, all within a bound. It does not know what an alert is about.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes as Content;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::config::AlertsConfig;
use super::outbox::Posting;
use crate::ops::http::Bytes;

/// A post that takes longer has failed, the connection included.
pub const POST_MAX: Duration = Duration::from_secs(10);
/// Most of an answer that is read: only an error says anything, in a line.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Largest file with an `Authorization` header: some tokens have kilobytes.
const AUTHORIZATION_BYTES_MAX: u64 = 16 * 1024;
/// Most characters of an answer that are logged.
const EXCERPT_CHARS_MAX: usize = 200;

/// Makes connections to the webhook.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Bytes>>> + Send + Sync>;

/// Why a post was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    /// It does not answer in time.
    #[error("nothing within {0:?}")]
    Late(Duration),
    /// It does not speak HTTP, or broke off.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The header cannot be read.
    #[error("the file {} cannot be used: {why}", path.display())]
    Authorization {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It cannot take it now.
    #[error("it answers {status}: {text}")]
    Busy {
        /// With which status.
        status: StatusCode,
        /// In its words.
        text: String,
    },
    /// It takes no such thing.
    #[error("it answers {status}: {text}")]
    Rejected {
        /// With which status.
        status: StatusCode,
        /// In its words.
        text: String,
    },
}

impl Failure {
    /// Stable name: the `reason` of metrics.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Late(_) => "late",
            Self::Broken(_) => "broken",
            Self::Authorization { .. } => "authorization",
            Self::Busy { .. } => "busy",
            Self::Rejected { .. } => "rejected",
        }
    }

    fn answered(status: StatusCode, text: String) -> Self {
        // Bad credentials and wrong paths are mended by people, meanwhile the alarms wait.
        let rejected = matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE);
        if rejected { Self::Rejected { status, text } } else { Self::Busy { status, text } }
    }
}

/// The way to one webhook.
pub(super) struct Post {
    dial: Dial,
    authority: String,
    path: String,
    authorization_file: Option<PathBuf>,
    within: Duration,
}

impl Post {
    pub(super) fn new(config: &AlertsConfig, dial: Dial, within: Duration) -> Self {
        let authorization_file = config.authorization_file.clone();
        Self { dial, authority: config.to.authority(), path: config.path(), authorization_file, within }
    }

    /// Posts a batch. A connection is made for each: alarms are seldom.
    pub(super) async fn send(&self, batch: &[Posting]) -> Result<(), Failure> {
        tokio::time::timeout(self.within, self.exchange(batch)).await.unwrap_or(Err(Failure::Late(self.within)))
    }

    async fn exchange(&self, batch: &[Posting]) -> Result<(), Failure> {
        let request = self.request(batch).await?;
        let stream = (self.dial)().await.map_err(Failure::Unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends together with this exchange, however that ends.
        let mut driving = JoinSet::new();
        driving.spawn(async move { drop(connection.await) });
        let (head, body) = sender.send_request(request).await?.into_parts();
        if head.status.is_success() {
            return Ok(());
        }
        let text = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => excerpt(&body.to_bytes()),
            Err(_) => "no words that could be read".to_owned(),
        };
        Err(Failure::answered(head.status, text))
    }

    async fn request(&self, batch: &[Posting]) -> Result<Request<Full<Content>>, Failure> {
        let content = serde_json::to_vec(batch).expect("texts only");
        let mut request = Request::post(self.path.as_str())
            .header(HOST, self.authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("pilothouse/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.authorization_file {
            request = request.header(AUTHORIZATION, authorization(path.clone()).await?);
        }
        Ok(request.body(Full::new(content.into())).expect("the configuration was checked"))
    }
}

/// Read each time: it may be replaced.
async fn authorization(path: PathBuf) -> Result<HeaderValue, Failure> {
    let failed = |why: String| Failure::Authorization { path: path.clone(), why };
    let length = tokio::fs::metadata(&path).await.map_err(|why| failed(why.to_string()))?.len();
    if length > AUTHORIZATION_BYTES_MAX {
        return Err(failed(format!("it has {length} bytes, the limit is {AUTHORIZATION_BYTES_MAX}")));
    }
    let text = tokio::fs::read_to_string(&path).await.map_err(|why| failed(why.to_string()))?;
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| failed("it is no value of a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(EXCERPT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
