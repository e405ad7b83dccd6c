//! The controller's own tasks. A panic in one of them ends the controller: an unknown state is worse than a restart.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where the controller's tasks are started. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    panicked: Arc<watch::Sender<Option<&'static str>>>,
}

impl Tasks {
    /// Runs a task until it ends by itself.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let panicked = self.panicked.clone();
        tokio::spawn(async move {
            // Nobody looks at what the task left behind: the process ends.
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "a task panicked: the process has to be restarted");
                // The first one is the cause, later ones may be consequences.
                panicked.send_if_modified(|first| first.is_none() && first.replace(name).is_none());
            }
        })
    }

    /// Runs a task until it ends by itself or [`Tasks::stop`] is called.
    pub fn follow(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    /// Ends what was started with [`Tasks::follow`].
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns the name of the first task that panics.
    pub async fn panicked(&self) -> &'static str {
        let mut panicked = self.panicked.subscribe();
        match panicked.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            // The sender lives as long as this does.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_panic_is_named_and_an_ordinary_end_is_none() {
        let tasks = Tasks::default();
        tasks.spawn("well", async {}).await.unwrap();
        tasks.spawn("broken", async { panic!("planted") }).await.unwrap();
        tasks.spawn("consequence", async { panic!("planted") }).await.unwrap();
        assert_eq!(tasks.panicked().await, "broken");
    }

    #[tokio::test]
    async fn a_stop_ends_what_follows_and_nothing_else() {
        let tasks = Tasks::default();
        let (held, follows) = tokio::sync::oneshot::channel::<()>();
        tasks.follow("follows", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let other = tasks.spawn("other", std::future::pending());
        tasks.stop();
        assert!(follows.await.is_err(), "it was dropped");
        assert!(!other.is_finished());
        other.abort();
    }
}
