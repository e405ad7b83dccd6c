//! The material in use, and its replacement while everything runs: open connections keep what they began with, new ones
//! use what is newest.
//!
//! Files are looked at once a second and compared by content: that also sees what a mounted secret or a renamed
//! directory does, which notifications of the file system miss.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::material::{FILE_BYTES_MAX, Files, Material, MaterialError};

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files that do not fit together are told of only when they stay so: certificate and key are replaced one by one.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(3);

/// The material in use. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    files: Arc<Files>,
    /// Of what the files said before they were read the first time.
    first: [u8; 32],
    current: Arc<watch::Sender<Arc<Material>>>,
}

/// Between two attempts to open them.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What came of a look at the files.
#[derive(Debug, Clone)]
pub enum Reload {
    /// New material is in use.
    Done(Arc<Material>),
    /// Nothing changed since the last look.
    Unchanged(Arc<Material>),
    /// What lies there is not usable, and the earlier material stays in use.
    Failed(String),
}

impl Store {
    /// Reads everything a first time.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn open(files: Files) -> Result<Self, MaterialError> {
        // Before they are read: what changes meanwhile is seen as a change later.
        let first = fingerprint(&files);
        let current = watch::Sender::new(Arc::new(Material::load(&files)?));
        Ok(Self { files: Arc::new(files), first, current: Arc::new(current) })
    }

    /// The same, with patience for files that are being replaced at this moment.
    ///
    /// # Errors
    /// [`MaterialError`], when they stay as they are.
    pub async fn open_patiently(files: Files) -> Result<Self, MaterialError> {
        let deadline = tokio::time::Instant::now() + SETTLE_WITHIN;
        loop {
            match Self::open(files.clone()) {
                Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(OPEN_AGAIN_AFTER).await,
                opened => return opened,
            }
        }
    }

    /// What is in use now.
    #[must_use]
    pub fn current(&self) -> Arc<Material> {
        self.current.borrow().clone()
    }

    /// Where it lies.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Looks at the files until `stop`, and tells what came of each look.
    pub async fn follow(&self, stop: CancellationToken, mut told: impl FnMut(Reload)) {
        let mut used = self.first;
        let (mut odd, mut since): (Option<[u8; 32]>, _) = (None, tokio::time::Instant::now());
        let mut said = false;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.fingerprint().await;
            if now == used {
                (odd, said) = (None, false);
                told(Reload::Unchanged(self.current()));
                continue;
            }
            if odd != Some(now) {
                (odd, since, said) = (Some(now), tokio::time::Instant::now(), false);
            }
            let files = Arc::clone(&self.files);
            let Ok(loaded) = tokio::task::spawn_blocking(move || Material::load(&files)).await else { continue };
            match loaded.map_err(|why| why.to_string()).and_then(|material| self.same_owner(material)) {
                // What was read may be newer than its fingerprint; then the next look finds a change again.
                Ok(material) => {
                    let material = Arc::new(material);
                    self.current.send_replace(Arc::clone(&material));
                    (used, odd) = (now, None);
                    told(Reload::Done(material));
                }
                Err(why) if !said && since.elapsed() >= SETTLE_WITHIN => {
                    said = true;
                    told(Reload::Failed(why));
                }
                Err(_) => {}
            }
        }
    }

    /// Of everything that the files say. A file that cannot be read counts as empty.
    async fn fingerprint(&self) -> [u8; 32] {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || fingerprint(&files)).await.unwrap_or_default()
    }

    /// A process does not become somebody else: a certificate of another identity is a mistake.
    fn same_owner(&self, material: Material) -> Result<Material, String> {
        let used = self.current().leaf().principal.clone();
        let new = &material.leaf().principal;
        if *new == used {
            return Ok(material);
        }
        let path = self.files.certificate.display();
        Err(format!("{path}: the certificate is {new}'s, and this process is {used}: put its own there"))
    }
}

fn fingerprint(files: &Files) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in files.paths() {
        let mut bytes = Vec::new();
        // One that cannot be read, or not to its end, says why when it is loaded.
        let file = std::fs::File::open(path);
        let _ = file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
    }
    hash.finalize().into()
}

#[cfg(test)]
impl Store {
    /// Presents what could not be loaded from files.
    pub(super) fn present(&self, chain: &str, key: &str) {
        let other = self.current().presenting(chain, key);
        self.current.send_replace(Arc::new(other));
    }
}

/// How near the end of a certificate is: the thresholds of its alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// Further away than all thresholds.
    Far,
    /// Within 30 days.
    Month,
    /// Within 7 days.
    Week,
    /// Within a day.
    Day,
    /// Over.
    Over,
}

const DAY_SECONDS: i64 = 24 * 60 * 60;

impl Expiry {
    /// Of a certificate that ends then, both in seconds since 1970.
    #[must_use]
    pub const fn of(not_after: i64, now: i64) -> Self {
        match not_after.saturating_sub(now) {
            left if left <= 0 => Self::Over,
            left if left <= DAY_SECONDS => Self::Day,
            left if left <= 7 * DAY_SECONDS => Self::Week,
            left if left <= 30 * DAY_SECONDS => Self::Month,
            _ => Self::Far,
        }
    }

    /// As it stands in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Far => "not soon",
            Self::Month => "within 30 days",
            Self::Week => "within 7 days",
            Self::Day => "within a day",
            Self::Over => "over",
        }
    }
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_comes_nearer_in_steps() {
        let at = |left: i64| Expiry::of(1_000_000_000 + left, 1_000_000_000);
        assert_eq!(at(30 * DAY_SECONDS + 1), Expiry::Far);
        assert_eq!(at(30 * DAY_SECONDS), Expiry::Month);
        assert_eq!(at(7 * DAY_SECONDS), Expiry::Week);
        assert_eq!(at(DAY_SECONDS), Expiry::Day);
        assert_eq!((at(1), at(0), at(-1)), (Expiry::Day, Expiry::Over, Expiry::Over));
    }
}
