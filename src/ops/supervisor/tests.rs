//! A service manager that is only an ear: what it hears, and that it is never waited for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

/// Quick, so that nothing here takes long.
const PACE: Pace = Pace {
    patience_every: Duration::from_millis(20),
    start_max: Duration::from_millis(300),
    status_every: Duration::from_millis(50),
    told_within: Duration::from_millis(20),
};
const WATCHDOG: Duration = Duration::from_millis(100);
/// Nothing comes for so long: several times what any sign takes.
const SILENCE: Duration = Duration::from_millis(500);
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

struct Manager {
    _folder: TempDir,
    ear: UnixDatagram,
}

impl Manager {
    fn new() -> (Self, Supervisor) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor { pace: PACE, ..Supervisor::at(Some(&path), Some(WATCHDOG)) };
        (Self { _folder: folder, ear }, supervisor)
    }

    /// What comes next, a line each; `None` after a silence.
    async fn next(&self, silence: Duration) -> Option<Vec<String>> {
        let mut message = [0; 4096];
        let bytes = tokio::time::timeout(silence, self.ear.recv(&mut message)).await.ok()?.unwrap();
        Some(String::from_utf8_lossy(&message[..bytes]).lines().map(str::to_owned).collect())
    }

    /// What comes until a line has come so often.
    async fn hears(&self, line: &str, times: usize) -> Vec<String> {
        let mut heard = Vec::new();
        let listening = async {
            while count(&heard, line) < times {
                heard.extend(self.next(SOON).await.expect("it says something"));
            }
        };
        let complete = tokio::time::timeout(SOON, listening).await;
        assert!(complete.is_ok(), "{line} did not come {times} times: {heard:?}");
        heard
    }

    /// What comes until nothing does.
    async fn hears_out(&self) -> Vec<String> {
        let mut heard = Vec::new();
        let listening = async {
            while let Some(more) = self.next(SILENCE).await {
                heard.extend(more);
            }
        };
        assert!(tokio::time::timeout(SOON, listening).await.is_ok(), "it falls silent");
        heard
    }
}

fn count(heard: &[String], line: &str) -> usize {
    heard.iter().filter(|heard| *heard == line).count()
}

/// A daemon whose life and words are the test's.
struct Puppet {
    alive: Arc<AtomicBool>,
    words: Arc<Mutex<String>>,
}

impl Puppet {
    fn new() -> Self {
        Self { alive: Arc::new(AtomicBool::new(true)), words: Arc::new(Mutex::new("follower".into())) }
    }

    fn vitals(&self) -> Vitals {
        let (alive, words) = (self.alive.clone(), self.words.clone());
        let run = move || if alive.load(Ordering::Relaxed) { Ok(()) } else { Err("stuck".to_owned()) };
        Vitals { alive: Check::new("progress", run), status: Arc::new(move || words.lock().unwrap().clone()) }
    }

    fn says(&self, words: impl Into<String>) {
        *self.words.lock().unwrap() = words.into();
    }
}

#[tokio::test]
async fn a_start_asks_for_time_until_it_serves_and_not_for_ever() {
    let (manager, supervisor) = Manager::new();
    let (ready, attended) = supervisor.attend(CancellationToken::new());
    let heard = manager.hears("EXTEND_TIMEOUT_USEC=30000000", 3).await;
    assert!(!heard.iter().any(|line| line == "READY=1" || line == "WATCHDOG=1"), "{heard:?}");
    // It hangs.
    manager.hears_out().await;
    ready.serving(Puppet::new().vitals());
    let heard = manager.hears("WATCHDOG=1", 1).await;
    assert_eq!(heard, ["READY=1", "STATUS=follower", "WATCHDOG=1"]);
    attended.ended().await;
    let heard = manager.hears_out().await;
    assert_eq!(heard[heard.len() - 2..], ["STOPPING=1", "STATUS=stopping"]);
}

#[test]
fn half_of_the_managers_time_is_between_two_signs_of_life() {
    assert_eq!(sign_every(Duration::from_secs(30)), Duration::from_secs(15));
}

#[tokio::test]
async fn signs_of_life_end_with_the_life_and_come_back_with_it() {
    let (manager, supervisor) = Manager::new();
    let (ready, _attended) = supervisor.attend(CancellationToken::new());
    let puppet = Puppet::new();
    ready.serving(puppet.vitals());
    manager.hears("WATCHDOG=1", 4).await;
    puppet.alive.store(false, Ordering::Relaxed);
    manager.hears_out().await;
    puppet.says("still here");
    assert_eq!(manager.hears_out().await, ["STATUS=still here"], "words are no life");
    puppet.alive.store(true, Ordering::Relaxed);
    manager.hears("WATCHDOG=1", 2).await;
}

#[tokio::test]
async fn a_status_is_told_when_it_changes_and_not_too_often() {
    let (manager, supervisor) = Manager::new();
    let (ready, _attended) = supervisor.attend(CancellationToken::new());
    let puppet = Puppet::new();
    ready.serving(puppet.vitals());
    let heard = manager.hears("WATCHDOG=1", 5).await;
    assert_eq!(heard.iter().filter(|line| line.starts_with("STATUS=")).count(), 1, "nothing changed: {heard:?}");
    let (began, mut told, mut turn) = (Instant::now(), 0, 0);
    while told < 5 {
        turn += 1;
        puppet.says(format!("follower, {turn}"));
        let heard = manager.next(Duration::from_millis(1)).await.unwrap_or_default();
        told += u32::try_from(heard.iter().filter(|line| line.starts_with("STATUS=")).count()).unwrap();
        assert!(began.elapsed() < SOON, "{told} statuses were told");
    }
    // The first may come at once, and one may be late.
    assert!(began.elapsed() >= PACE.status_every * 3, "five within {:?}", began.elapsed());
    puppet.says("leader");
    manager.hears("STATUS=leader", 1).await;
}

#[tokio::test]
async fn a_stop_is_told_at_once_and_life_goes_on_until_the_end() {
    let (manager, supervisor) = Manager::new();
    let stop = CancellationToken::new();
    let (ready, attended) = supervisor.attend(stop.clone());
    ready.serving(Puppet::new().vitals());
    manager.hears("READY=1", 1).await;
    stop.cancel();
    manager.hears("STOPPING=1", 1).await;
    let heard = manager.hears("WATCHDOG=1", 3).await;
    assert_eq!(count(&heard, "STOPPING=1"), 0, "once is enough");
    let began = Instant::now();
    attended.ended().await;
    assert!(began.elapsed() < LAST_WORDS_WITHIN, "nothing was left to say");
    assert_eq!(count(&manager.hears_out().await, "STOPPING=1"), 0);
}

#[tokio::test]
async fn a_daemon_that_does_not_start_says_that_it_stops() {
    let (manager, supervisor) = Manager::new();
    let (ready, attended) = supervisor.attend(CancellationToken::new());
    manager.hears("STATUS=starting", 1).await;
    drop(ready);
    attended.ended().await;
    manager.hears("STOPPING=1", 1).await;
}

#[tokio::test]
async fn a_manager_that_does_not_listen_is_not_waited_for() {
    let (manager, supervisor) = Manager::new();
    // Its socket is full, for everybody: each sender has a limit of its own too.
    let path = manager.ear.local_addr().unwrap().as_pathname().unwrap().to_owned();
    let mut others = Vec::new();
    loop {
        let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        if other.send_to(b"X=1", &path).is_err() {
            break;
        }
        while other.send_to(b"X=1", &path).is_ok() {}
        others.push(other);
    }
    let (ready, attended) = supervisor.attend(CancellationToken::new());
    ready.serving(Puppet::new().vitals());
    let began = Instant::now();
    attended.ended().await;
    assert!(began.elapsed() < LAST_WORDS_WITHIN);
    let heard = manager.hears_out().await;
    assert!(heard.iter().all(|line| line == "X=1"), "{heard:?}");
}

#[tokio::test]
async fn without_a_service_manager_nothing_happens() {
    for nobody in [None, Some(Path::new("/nowhere/notify"))] {
        let (ready, attended) = Supervisor::at(nobody, Some(WATCHDOG)).attend(CancellationToken::new());
        assert!(attended.task.is_none());
        ready.serving(Puppet::new().vitals());
        attended.ended().await;
    }
}
