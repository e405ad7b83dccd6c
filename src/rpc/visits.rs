//! What one connection asks for: how many calls, and how many that it drops before they are answered. A client that
//! opens streams only to reset them (CVE-2023-44487) costs its peer far more than itself; it loses its connection.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tower::{Layer, Service};

use crate::domain::access::Caller;
use crate::domain::pace::{Bucket, Rate};

/// Most calls of one connection: 2,000 at once, 1,000 a second.
pub const CALLS_PER_CONNECTION: Rate = Rate { burst: 2_000, every_ms: 1 };
/// Most calls of a connection without a certificate, where it can only get one: 32 at once, 2 a second.
pub const ANONYMOUS_CALLS: Rate = Rate { burst: 32, every_ms: 500 };
/// Most calls of one connection that it drops before they are answered: 200 at once, 20 a second.
pub const DROPPED_CALLS_PER_CONNECTION: Rate = Rate { burst: 200, every_ms: 50 };

/// Who calls, and what the connection did before: part of every request.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// As the transport verified it.
    pub caller: Caller,
    /// Of its connection.
    pub visits: Arc<Visits>,
}

/// The calls of one connection.
pub struct Visits {
    since: Instant,
    calls: Rate,
    buckets: Mutex<(Bucket, Bucket)>,
    close: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Visits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visits").finish_non_exhaustive()
    }
}

impl Visits {
    /// None yet, and as many as this; `close` ends the connection.
    pub fn new(calls: Rate, close: impl Fn() + Send + Sync + 'static) -> Self {
        Self { since: Instant::now(), calls, buckets: Mutex::default(), close: Box::new(close) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn began(&self) {
        let calls = &mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner).0;
        if calls.take(self.calls, self.now_ms()).is_err() {
            (self.close)();
        }
    }

    fn dropped(&self) {
        let dropped = &mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner).1;
        if dropped.take(DROPPED_CALLS_PER_CONNECTION, self.now_ms()).is_err() {
            (self.close)();
        }
    }
}

/// Counts what comes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted;

impl<S> Layer<S> for Counted {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Counting<S> {
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Counting<S>
where
    S: Service<http::Request<B>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// Counts at once: a call that is dropped may never be polled.
    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let call = Call(request.extensions().get::<Visitor>().map(|visitor| Arc::clone(&visitor.visits)));
        if let Some(visits) = &call.0 {
            visits.began();
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            call.answered();
            answer
        })
    }
}

/// A call that is under way.
struct Call(Option<Arc<Visits>>);

impl Call {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(visits) = &self.0 {
            visits.dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn closing() -> (Arc<AtomicUsize>, Arc<Visits>) {
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&closed);
        (
            closed,
            Arc::new(Visits::new(CALLS_PER_CONNECTION, move || {
                counted.fetch_add(1, Ordering::Relaxed);
            })),
        )
    }

    async fn call(visits: &Arc<Visits>, answered: bool) {
        let service = tower::service_fn(move |_: http::Request<()>| async move {
            if !answered {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let mut request = http::Request::new(());
        request.extensions_mut().insert(Visitor { caller: Caller::Plain, visits: Arc::clone(visits) });
        let answer = Counted.layer(service).call(request);
        if answered {
            answer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn whoever_drops_its_calls_loses_its_connection_long_before_whoever_waits_for_them() {
        let (closed, visits) = closing();
        for _ in 0..DROPPED_CALLS_PER_CONNECTION.burst * 2 {
            call(&visits, true).await;
        }
        assert_eq!(closed.load(Ordering::Relaxed), 0, "answered calls are no offence");
        for _ in 0..DROPPED_CALLS_PER_CONNECTION.burst {
            call(&visits, false).await;
        }
        assert_eq!(closed.load(Ordering::Relaxed), 0);
        for _ in 0..DROPPED_CALLS_PER_CONNECTION.burst {
            call(&visits, false).await;
        }
        assert!(closed.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn so_many_calls_and_no_more() {
        let (closed, visits) = closing();
        for _ in 0..CALLS_PER_CONNECTION.burst {
            call(&visits, true).await;
        }
        assert_eq!(closed.load(Ordering::Relaxed), 0);
        for _ in 0..CALLS_PER_CONNECTION.burst {
            call(&visits, true).await;
        }
        assert!(closed.load(Ordering::Relaxed) > 0);
    }
}
