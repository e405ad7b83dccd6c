//! What an HTTP listener of ours serves, as an axum router. It owns no socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::BODY_BYTES_MAX;
use crate::ops::check::{self, Check};

const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is served.
#[derive(Debug, Clone, Default)]
pub struct Surface {
    /// Shown on `/metrics`.
    pub registry: Arc<Registry>,
    /// Asked by `/livez`, and by whoever else restarts what is stuck. Without it, whoever answers is alive.
    pub alive: Option<Check>,
    /// Asked by `/readyz`.
    pub checks: Vec<Check>,
    /// Further routes; they get the same limits.
    pub routes: Router,
}

impl Surface {
    /// The routes with their limits; each request is answered within `request`.
    pub(super) fn into_router(self, request: Duration) -> Router {
        let (registry, alive, checks): (_, _, Arc<[Check]>) = (self.registry, self.alive, self.checks.into());
        Router::new()
            .route("/livez", get(livez).with_state(alive))
            .route("/readyz", get(readyz).with_state(checks))
            .route("/metrics", get(metrics).with_state(registry))
            .merge(self.routes)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn(move |asked, next| within(request, asked, next)))
    }
}

/// 200, or 503 with the reason: then a restart is what helps.
async fn livez(State(alive): State<Option<Check>>) -> (StatusCode, String) {
    match alive.map_or(Ok(()), |alive| (alive.run)()) {
        Ok(()) => (StatusCode::OK, "alive\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not alive: {reason}\n")),
    }
}

/// 200 or 503; with `?verbose`, or when something failed, one line a check.
async fn readyz(State(checks): State<Arc<[Check]>>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let (ready, lines) = check::report(&checks);
    let verbose =
        query.is_some_and(|query| query.split('&').any(|key| key == "verbose" || key.starts_with("verbose=")));
    match (ready, verbose) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, lines),
        (true, true) => (StatusCode::OK, lines),
        (true, false) => (StatusCode::OK, "ready\n".into()),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "could not encode the metrics; report this, with the version");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn within(deadline: Duration, request: Request, next: Next) -> Response {
    tokio::time::timeout(deadline, next.run(request))
        .await
        .unwrap_or_else(|_| (StatusCode::SERVICE_UNAVAILABLE, "not answered in time\n").into_response())
}
