//! A router's HTTP API for its host: `/api/v1/status` and `/api/v1/controllers`, and its checks. It changes nothing.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::watch;

use super::outputs::ListView;
use super::status::AgentStatus;
use crate::domain::acceptance::HeldList;
use crate::ops::Check;

#[derive(Clone)]
struct Followed {
    status: watch::Receiver<AgentStatus>,
    lists: watch::Receiver<Option<HeldList>>,
}

/// The routes.
pub(super) fn routes(status: watch::Receiver<AgentStatus>, lists: watch::Receiver<Option<HeldList>>) -> Router {
    Router::new()
        .route("/api/v1/status", get(show_status))
        .route("/api/v1/controllers", get(show_controllers))
        .with_state(Followed { status, lists })
}

/// What `/readyz` asks: a router is of use to its data plane as soon as it holds a list, whoever answers.
pub(super) fn checks(status: &watch::Receiver<AgentStatus>) -> Vec<Check> {
    let check = |name, holds: fn(&AgentStatus) -> bool, reason: &'static str| {
        let status = status.clone();
        Check::new(name, move || if holds(&status.borrow()) { Ok(()) } else { Err(reason.to_owned()) })
    };
    vec![
        check("list", |status| status.held.is_some(), "no list was ever received: check the seeds and the network"),
        check(
            "saved",
            |status| status.saved,
            "the list is held in memory only: free space, or repair the data directory",
        ),
    ]
}

async fn show_status(State(followed): State<Followed>) -> Json<AgentStatus> {
    Json(followed.status.borrow().clone())
}

async fn show_controllers(State(followed): State<Followed>) -> Response {
    match &*followed.lists.borrow() {
        Some(held) => Json(ListView::of(held)).into_response(),
        None => (StatusCode::NOT_FOUND, "no list is held yet\n").into_response(),
    }
}
