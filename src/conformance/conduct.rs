//! What every case is made of: give a good list, offer a bad one, see what the router holds, let it come back.

use std::time::Duration;

use super::lists::{CLUSTER, Dialect, Draft, EPOCH, Offer};
use super::server::Door;
use super::stage::{Answer, HEARTBEAT, Manner, Stage, excerpt};
use crate::proto::router::HeldVersion;

/// Between two versions, so that there is room for others.
const INDEX_STEP: u64 = 10;
/// A router that does not have to answer is given this long.
const ANSWER_OPTIONAL_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to give a good list.
const OFFER_AGAIN: Duration = Duration::from_millis(500);
/// After that many heartbeats the last one is newer than what was offered.
const BEATS: u64 = 2;

/// Why a case is not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unmet {
    /// The router did something else.
    Failed(String),
    /// It could not be tried.
    Skipped(String),
}

pub(super) fn failed(why: impl Into<String>) -> Unmet {
    Unmet::Failed(why.into())
}

impl Stage {
    /// The router's session at the door that it knows.
    pub(super) async fn ready(&mut self) -> Result<u64, Unmet> {
        let within = self.settings.timeout;
        let open = self.wait(within, |stage| stage.open_at(Door::Seed)).await;
        open.ok_or_else(|| failed(format!("it did not come back within {} s", within.as_secs())))
    }

    /// How it speaks, as far as is known.
    pub(super) fn dialect(&self) -> Dialect {
        self.sessions.last_key_value().map_or(Dialect::Structured, |(_, session)| session.dialect)
    }

    /// A list above every other that was offered.
    pub(super) fn draft(&mut self, controllers: Vec<(u64, Vec<String>)>) -> Draft {
        self.last_index += INDEX_STEP;
        Draft { cluster: CLUSTER, index: self.last_index, term: self.last_index, controllers }
    }

    /// A newer list that names this controller, given to the router until it says that it holds it.
    pub(super) async fn give_good(&mut self) -> Result<String, Unmet> {
        let me = (self.id(Door::Seed), vec![self.endpoint.to_string()]);
        let good = self.draft(vec![me]);
        self.give(Door::Seed, good).await
    }

    /// Offers a list that may not be refused, again and again until it is acknowledged.
    pub(super) async fn give(&mut self, door: Door, list: Draft) -> Result<String, Unmet> {
        let deadline = tokio::time::Instant::now() + self.settings.timeout;
        let mut last = "no session".to_owned();
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Err(failed(format!("it did not acknowledge good list {EPOCH}.{}: {last}", list.index)));
            }
            let Some(session) = self.wait(left, |stage| stage.open_at(door)).await else { continue };
            let offer = list.offer("a good list", self.dialect());
            let said = self.answer_to(session, &offer, left).await;
            let Said::Ack(version, same_content) = said else {
                if self.dialect() == Dialect::Watch && matches!(said, Said::Nothing) {
                    self.good = Some(list);
                    return Ok("it was given a good list".to_owned());
                }
                last = said.to_string();
                self.wait(OFFER_AGAIN.min(left), |_| None::<()>).await;
                continue;
            };
            if self.dialect() == Dialect::Structured && (version != Some((EPOCH, list.index)) || !same_content) {
                let said = version.map_or_else(|| "no version".to_owned(), |(epoch, index)| format!("{epoch}.{index}"));
                return Err(failed(format!("good list {EPOCH}.{} was offered, it acknowledged {said}", list.index)));
            }
            let seen = format!("it acknowledged list {EPOCH}.{}", list.index);
            self.good = Some(list);
            return Ok(seen);
        }
    }

    /// Offers something once and waits for what comes of it.
    pub(super) async fn answer_to(&mut self, session: u64, offer: &Offer, within: Duration) -> Said {
        let Some(nonce) = self.send(session, offer) else { return Said::Ended("it takes no messages".to_owned()) };
        let within = if self.dialect() == Dialect::Structured { within } else { within.min(ANSWER_OPTIONAL_MAX) };
        let answered = self.wait(within, |stage| match stage.answers.get(&nonce) {
            Some(Answer::Ack(ack)) => {
                let version = ack.version.map(|version| (version.epoch, version.index));
                let same = ack.digest.as_ref().is_none_or(|digest| {
                    digest.scheme != offer.digest().scheme || digest.value == offer.digest().value
                });
                Some(Said::Ack(version, same))
            }
            Some(Answer::Nack(nack)) => Some(Said::Nack(excerpt(&nack.reason))),
            None => match stage.sessions.get(&session).map(|session| &session.ended) {
                Some(None) => None,
                Some(Some(how)) => Some(Said::Ended(how.clone())),
                None => Some(Said::Ended("it is gone".to_owned())),
            },
        });
        answered.await.unwrap_or(Said::Nothing)
    }

    /// Offers something that has to be refused.
    pub(super) async fn refuses(&mut self, offer: &Offer) -> Result<String, Unmet> {
        let session = self.ready().await?;
        let what = offer.what;
        match self.answer_to(session, offer, self.settings.timeout).await {
            said @ Said::Ack(..) => Err(failed(format!("{what}: {said}"))),
            Said::Nothing if self.dialect() == Dialect::Structured => {
                Err(failed(format!("{what}: no answer within {} s", self.settings.timeout.as_secs())))
            }
            said => Ok(format!("{what}: {said}")),
        }
    }

    /// What it says it holds; then its session is ended, it has to come back, and has to say the same.
    pub(super) async fn still_holds_good(&mut self) -> Result<(), Unmet> {
        let session = self.ready().await?;
        if self.dialect() == Dialect::Structured {
            let at = |stage: &Self| stage.sessions.get(&session).map_or(u64::MAX, |session| session.beats);
            let enough = at(self).saturating_add(BEATS);
            let patience = HEARTBEAT * 6;
            let over = |stage: &Self| stage.sessions.get(&session).is_none_or(|session| session.ended.is_some());
            self.wait(patience, |stage| (at(stage) >= enough || over(stage)).then_some(())).await;
            // A heartbeat from before the offer says nothing about it.
            let beat = self.sessions.get(&session).filter(|session| session.beats >= enough);
            if let Some(held) = beat.map(|session| session.held.clone()) {
                self.is_good(held.as_ref()).map_err(|why| failed(format!("its heartbeat says {why}")))?;
            }
        }
        self.comes_back().await
    }

    /// Ends its session: it has to come back, and to say in its hello that it holds the good list.
    pub(super) async fn comes_back(&mut self) -> Result<(), Unmet> {
        let before = self.newest();
        self.manner = Manner::Proper;
        self.hang_up(Door::Seed);
        self.returned(before).await
    }

    /// A session after this one has to come, with a hello that names the good list.
    pub(super) async fn returned(&mut self, before: u64) -> Result<(), Unmet> {
        let newer = |stage: &Self| stage.open_at(Door::Seed).filter(|session| *session > before);
        let within = self.settings.timeout;
        let Some(session) = self.wait(within, newer).await else {
            return Err(failed(format!("it did not come back within {} s", within.as_secs())));
        };
        if self.dialect() != Dialect::Structured {
            return Ok(());
        }
        let held = self.sessions.get(&session).and_then(|session| session.hello.held.clone());
        self.is_good(held.as_ref()).map_err(|why| failed(format!("its next hello says {why}")))
    }

    fn is_good(&self, held: Option<&HeldVersion>) -> Result<(), String> {
        let Some(good) = &self.good else { return Ok(()) };
        let Some(held) = held else { return Err("it holds nothing".to_owned()) };
        let version = held.version.unwrap_or_default();
        let meant = good.offer("", Dialect::Structured);
        let same = held
            .digest
            .as_ref()
            .is_none_or(|digest| digest.scheme != meant.digest().scheme || digest.value == meant.digest().value);
        let same_version = held.cluster_id == good.cluster && (version.epoch, version.index) == (EPOCH, good.index);
        if same_version && same {
            return Ok(());
        }
        let content = if same_version { " with other content" } else { "" };
        Err(format!("it holds {}.{}{content} instead of {EPOCH}.{}", version.epoch, version.index, good.index))
    }
}

/// What came of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It says that it holds this version, and whether the digest is that of the offer.
    Ack(Option<(u32, u64)>, bool),
    /// It refused for this reason.
    Nack(String),
    /// The session ended.
    Ended(String),
    /// No answer in time.
    Nothing,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ack(Some((epoch, index)), _) => write!(f, "Ack of version {epoch}.{index}"),
            Self::Ack(None, _) => f.write_str("Ack"),
            Self::Nack(reason) => write!(f, "Nack {reason:?}"),
            Self::Ended(how) => write!(f, "session over: {how}"),
            Self::Nothing => f.write_str("no answer"),
        }
    }
}
