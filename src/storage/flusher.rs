//! The one order in which appends, votes and truncations reach the disk, and who is told when.
//!
//! Whoever writes to the [`Log`] does so before it asks for a sync here, so a sync covers what was written before it was
//! asked for, and nobody is answered before that sync has returned. Requests that wait together share one sync.
//! Between syncs the thread gives back the room of purged entries, a bounded step at a time.
//!
//! A failed sync is never retried: the kernel may have dropped the pages. Everybody who waits is told, and the process
//! ends ([`OnFatal`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Log, LogError, OnFatal};

/// Most requests that wait for the flusher. Raft waits beyond that.
const QUEUE_MAX: usize = 1024;
/// Most requests that share one sync.
const GROUP_MAX: usize = 256;
/// A disk that takes longer than this for one sync is a failed one.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);

/// Where slow work on the disk happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Work {
    /// On threads of its own, so that Raft never waits for the disk longer than it has to.
    #[default]
    Threads,
    /// Where it is asked for, so that a simulation is deterministic.
    Inline,
}

/// Told when what was written is durable.
pub type Flushed = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// How often and how well requests were gathered.
#[derive(Debug, Default)]
pub struct FlushCounts {
    syncs: AtomicU64,
    requests: AtomicU64,
}

impl FlushCounts {
    /// How many syncs there were.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// How many requests they answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Syncs a log for everybody who writes to it. Clones are handles to the same thread; the last one to go ends it.
#[derive(Debug, Clone)]
pub struct Flusher {
    shared: Arc<Shared>,
}

enum Request {
    Sync(Flushed),
    Answer(oneshot::Sender<()>),
    Purge,
}

#[derive(Debug)]
struct Shared {
    syncer: Arc<Syncer>,
    queue: Option<mpsc::Sender<Request>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Syncer {
    log: Arc<dyn Log>,
    on_fatal: OnFatal,
    stopped: AtomicBool,
    counts: FlushCounts,
}

impl Flusher {
    /// Starts the flusher of this log.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(log: Arc<dyn Log>, work: Work, on_fatal: OnFatal) -> std::io::Result<Self> {
        let syncer =
            Arc::new(Syncer { log, on_fatal, stopped: AtomicBool::new(false), counts: FlushCounts::default() });
        let (queue, thread) = match work {
            Work::Inline => (None, None),
            Work::Threads => {
                let (queue, requests) = mpsc::channel(QUEUE_MAX);
                let syncer = Arc::clone(&syncer);
                let thread = std::thread::Builder::new().name("flusher".into());
                (Some(queue), Some(thread.spawn(move || syncer.serve(requests))?))
            }
        };
        Ok(Self { shared: Arc::new(Shared { syncer, queue, thread: Mutex::new(thread) }) })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.shared.syncer.log
    }

    /// How often it has synced.
    #[must_use]
    pub fn counts(&self) -> &FlushCounts {
        &self.shared.syncer.counts
    }

    /// Has everything that was written so far synced, and `flushed` told. Returns before that.
    ///
    /// # Errors
    /// [`LogError::Stopped`]; `flushed` is then told as well.
    pub async fn sync(&self, flushed: Flushed) -> Result<(), LogError> {
        let Some(queue) = &self.shared.queue else {
            self.shared.syncer.sync_for(vec![flushed]);
            return Ok(());
        };
        match queue.send(Request::Sync(flushed)).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendError(request)) => {
                if let Request::Sync(flushed) = request {
                    flushed(Err(LogError::Stopped));
                }
                Err(LogError::Stopped)
            }
        }
    }

    /// Has everything that was written so far synced, and waits for it.
    ///
    /// # Errors
    /// What the sync failed with. The process is about to end.
    pub async fn synced(&self) -> Result<(), LogError> {
        let (told, flushed) = oneshot::channel();
        // Nobody waits any more when the receiver is gone: nothing to tell.
        self.sync(Box::new(move |result| drop(told.send(result)))).await?;
        let stalled = |_| {
            let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "the disk did not answer in time");
            LogError::Engine { operation: "sync the log", source: Arc::new(source) }
        };
        match tokio::time::timeout(SYNC_DEADLINE, flushed).await.map_err(stalled) {
            Ok(answer) => answer.unwrap_or(Err(LogError::Stopped)),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Whether the flusher comes to answer: it does once it has done what was asked before, and nothing is written for it.
    pub async fn answers(&self) -> bool {
        let Some(queue) = &self.shared.queue else { return true };
        let (reply, answer) = oneshot::channel();
        queue.send(Request::Answer(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// Reports that a write has failed, and passes the error on. Nothing is synced any more.
    pub fn fail(&self, error: LogError) -> LogError {
        self.shared.syncer.fail(&error);
        error
    }

    /// Gives back the room of purged entries, soon and in small steps.
    pub fn purge_soon(&self) {
        match &self.shared.queue {
            // When the queue is full there is a later purge, or the next start, to do it.
            Some(queue) => drop(queue.try_send(Request::Purge)),
            None => while self.shared.syncer.purge_step() {},
        }
    }
}

impl Syncer {
    fn serve(&self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        let mut purging = true;
        loop {
            if purging {
                // Steps of a purge fill the gaps between syncs.
                match requests.try_recv() {
                    Ok(request) => group.push(request),
                    Err(mpsc::error::TryRecvError::Empty) => {
                        purging = self.purge_step();
                        continue;
                    }
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            } else if requests.blocking_recv_many(&mut group, GROUP_MAX) == 0 {
                return;
            }
            while group.len() < GROUP_MAX
                && let Ok(request) = requests.try_recv()
            {
                group.push(request);
            }
            let (mut waiting, mut asked) = (Vec::with_capacity(group.len()), Vec::new());
            for request in group.drain(..) {
                match request {
                    Request::Sync(flushed) => waiting.push(flushed),
                    Request::Answer(reply) => asked.push(reply),
                    Request::Purge => purging = true,
                }
            }
            // Before the sync: that it came here is the answer, and one that waited for two syncs would be silence.
            for reply in asked {
                // Whoever asked may have given up.
                let _ = reply.send(());
            }
            if !waiting.is_empty() {
                self.sync_for(waiting);
                purging = purging && self.purge_step();
            }
        }
    }

    fn sync_for(&self, waiting: Vec<Flushed>) {
        let result = if self.stopped.load(Ordering::Acquire) { Err(LogError::Stopped) } else { self.log.sync() };
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.counts.requests.fetch_add(waiting.len() as u64, Ordering::Relaxed);
        if let Err(error) = &result {
            self.fail(error);
        }
        for flushed in waiting {
            flushed(result.clone());
        }
    }

    fn purge_step(&self) -> bool {
        if self.stopped.load(Ordering::Acquire) {
            return false;
        }
        self.log.purge_step().unwrap_or_else(|error| {
            self.fail(&error);
            false
        })
    }

    /// Raised once, for the failure that came first.
    fn fail(&self, error: &LogError) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.on_fatal.raise(error);
        }
    }
}

impl Drop for Shared {
    /// Everything that was asked for is done before the thread is gone, and with it the last hold on the log.
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A panic there has been reported by itself.
            drop(thread.join());
        }
    }
}
