//! Stands in front of every service: who calls was verified by the transport, what may be called says
//! [`access::TABLE`](crate::domain::access::TABLE). What is refused here never reaches a handler.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tonic::service::Routes;
use tonic::{Code, Extensions, Status};

use super::status::refusal;
use super::visits::{Counted, Visitor};
use crate::domain::access::{Caller, Denied};
use crate::ops::Seldom;

/// Refused calls are told of at most once a second, and counted all: strangers must not fill the log.
static TOLD: Seldom = Seldom::new();

/// Whether somebody may call a path, as things are now.
pub type Judge = Arc<dyn Fn(&str, &Caller) -> Result<(), Denied> + Send + Sync>;

/// The routes behind the guard, unknown paths included.
#[must_use]
pub fn guarded(routes: Routes, judge: Judge) -> Routes {
    let check = move |request: Request, next: Next| {
        let judge = Arc::clone(&judge);
        async move { check(&judge, request, next).await }
    };
    routes.into_axum_router().layer(from_fn(check)).layer(Counted).into()
}

async fn check(judge: &Judge, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let caller = of(request.extensions().get::<Visitor>(), request.extensions().get::<Caller>());
    match judge(path, &caller) {
        Ok(()) => next.run(request).await,
        Err(why) => {
            if TOLD.now() {
                tracing::warn!(%caller, path = excerpt(path), reason = why.code(), "refused a call");
            }
            denied(why).into_http()
        }
    }
}

/// Who calls, as the transport verified it.
#[must_use]
pub fn caller(extensions: &Extensions) -> Caller {
    of(extensions.get::<Visitor>(), extensions.get::<Caller>())
}

/// A connection without a caller would be a hole in the accept loop: it gets what a stranger gets.
fn of(visitor: Option<&Visitor>, caller: Option<&Caller>) -> Caller {
    visitor.map(|visitor| &visitor.caller).or(caller).cloned().unwrap_or(Caller::Anonymous)
}

/// As it is said.
#[must_use]
pub fn denied(why: Denied) -> Status {
    let code = match why {
        Denied::Unknown => Code::Unimplemented,
        Denied::NoCertificate => Code::Unauthenticated,
        Denied::WrongRole(_) | Denied::Retired | Denied::Banned | Denied::NotAMember => Code::PermissionDenied,
    };
    refusal(code, why.code(), why.to_string(), why.hint())
}

/// Somebody speaks in the name of another one.
#[must_use]
pub fn not_his(caller: &Caller, name: &str) -> Status {
    let message = format!("{caller} may not speak for {name}");
    refusal(Code::PermissionDenied, "wrong_identity", message, "use the certificate of that id")
}

fn excerpt(path: &str) -> String {
    path.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tower::Service;

    use super::super::visits::{CALLS_PER_CONNECTION, Visits};
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_also_those_that_are_refused() {
        let closed = Arc::new(AtomicBool::new(false));
        let close = Arc::clone(&closed);
        let visits = Arc::new(Visits::new(CALLS_PER_CONNECTION, move || close.store(true, Ordering::Relaxed)));
        let mut routes = guarded(Routes::default(), Arc::new(|_, _| Err(Denied::Unknown)));
        for _ in 0..2 * CALLS_PER_CONNECTION.burst {
            let mut request = axum::http::Request::new(tonic::body::Body::empty());
            request.extensions_mut().insert(Visitor { caller: Caller::Plain, visits: Arc::clone(&visits) });
            routes.call(request).await.unwrap();
        }
        assert!(closed.load(Ordering::Relaxed));
    }
}
