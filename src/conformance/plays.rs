//! How each case is played: what is done to the router, and what of its conduct is judged.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::case::Case;
use super::conduct::{Said, Unmet, failed};
use super::lists::{Dialect, Draft, hostile};
use super::server::Door;
use super::stage::{Answer, Manner, Stage};

/// Lists of the endless stream.
const UPDATES_MAX: u64 = 200;
/// How long the endless stream lasts at most.
const UPDATES_FOR: Duration = Duration::from_secs(3);
/// Whoever has not answered the newest of them then says something within this: six heartbeats.
const SPEAKS_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks whether there is room for another one.
const ROOM_AGAIN: Duration = Duration::from_millis(2);
/// Controllers of the list whose controllers are dead.
const DEAD: u64 = 3;

/// An outsider's offers, until one is judged.
const OUTSIDERS_OFFERS_MAX: u32 = 3;
/// How long a router is waited for that has a session with a member and one with an outsider.
const OUTSIDER_FOR: Duration = Duration::from_secs(5);

type Seen = Result<String, Unmet>;

impl Stage {
    /// Plays a case with a router that holds the good list.
    pub(super) async fn play(&mut self, case: Case) -> Seen {
        match case {
            Case::OlderAfterRestart => self.older_after_restart().await,
            Case::EndlessUpdates => self.endless_updates().await,
            Case::RemovesAllKnown => self.removes_all_known().await,
            Case::DeadControllers => self.dead_controllers().await,
            Case::BadWelcome => self.bad_welcome().await,
            Case::Silence => self.silence().await,
            Case::LateOldLeader => {
                let before = self.good();
                self.give_good().await?;
                self.hostile_offers(case, &before).await
            }
            _ => {
                let before = self.good();
                self.hostile_offers(case, &before).await
            }
        }
    }

    fn good(&mut self) -> Draft {
        match &self.good {
            Some(good) => good.clone(),
            None => self.draft(Vec::new()),
        }
    }

    async fn hostile_offers(&mut self, case: Case, before: &Draft) -> Seen {
        let good = self.good();
        let mut seen = Vec::new();
        for offer in hostile(case, &good, before, self.dialect()) {
            seen.push(self.refuses(&offer).await?);
        }
        self.still_holds_good().await?;
        Ok(seen.join("; "))
    }

    async fn older_after_restart(&mut self) -> Seen {
        let Some(command) = self.settings.restart.clone() else {
            return Err(Unmet::Skipped("it needs a restart of the router: give --restart-command".to_owned()));
        };
        let session = self.ready().await?;
        let boot = self.sessions.get(&session).map(|session| session.hello.boot_id.clone()).unwrap_or_default();
        let before = self.newest();
        self.restart(&command).await?;
        let within = self.settings.timeout;
        let reborn = |stage: &Self| {
            let another = |number: &u64| {
                let hello = stage.sessions.get(number).map(|session| &session.hello.boot_id);
                hello.is_some_and(|now| now.is_empty() || *now != boot)
            };
            stage.open_at(Door::Seed).filter(|number| *number > before).filter(another)
        };
        if self.wait(within, reborn).await.is_none() {
            return Err(failed(format!("it did not come back from its restart within {} s", within.as_secs())));
        }
        self.returned(before).await?;
        let before = self.good();
        self.hostile_offers(Case::OlderAfterRestart, &before).await
    }

    /// Runs the user's command, while sessions go on.
    async fn restart(&mut self, command: &str) -> Result<(), Unmet> {
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|why| Unmet::Skipped(format!("the restart command cannot be run: {why}")))?;
        let within = self.settings.timeout;
        let skipped = |why: String| Unmet::Skipped(format!("the restart command {why}"));
        let mut ended = None;
        self.wait(within, |_| {
            ended = child.try_wait().transpose();
            // Looked at again with every heartbeat, at the latest.
            ended.is_some().then_some(())
        })
        .await;
        match ended {
            Some(Ok(status)) if status.success() => Ok(()),
            Some(Ok(status)) => Err(skipped(format!("failed: {status}"))),
            Some(Err(why)) => Err(skipped(format!("was lost: {why}"))),
            None => Err(skipped(format!("did not end within {} s", within.as_secs()))),
        }
    }

    async fn endless_updates(&mut self) -> Seen {
        let session = self.ready().await?;
        let dialect = self.dialect();
        let controllers = self.good().controllers;
        let until = Instant::now() + UPDATES_FOR;
        let heard = |stage: &Self| stage.answers.len() as u64 + stage.sessions.get(&session).map_or(0, |one| one.beats);
        let over = |stage: &Self| stage.sessions.get(&session).is_none_or(|session| session.ended.is_some());
        let (mut sent, mut newest, mut last) = (0, self.good(), None);
        while sent < UPDATES_MAX && Instant::now() < until {
            let next =
                Draft { index: newest.index + 1, term: newest.term + 1, controllers: controllers.clone(), ..newest };
            let Some(nonce) = self.send(session, &next.offer("a newer list", dialect)) else {
                if over(self) {
                    break;
                }
                newest = next;
                newest.index -= 1;
                self.wait(ROOM_AGAIN, |_| None::<()>).await;
                continue;
            };
            (sent, newest, last) = (sent + 1, next, Some(nonce));
        }
        self.last_index = self.last_index.max(newest.index);
        let index = newest.index;
        self.good = Some(newest);
        if dialect != Dialect::Watch {
            let within = self.settings.timeout;
            let answered = |stage: &Self| {
                let answer = last.and_then(|nonce| stage.answers.get(&nonce).cloned());
                (answer.is_some() || over(stage)).then_some(answer)
            };
            let answered = self.wait(within, answered).await.flatten();
            match answered {
                Some(Answer::Ack(_)) => {}
                Some(Answer::Nack(nack)) => return Err(failed(format!("it refused the newest: {}", nack.reason))),
                // Only the newest counts: whoever passes over some of them says in its heartbeats what it holds.
                None => {
                    let before = heard(self);
                    let speaks = |stage: &Self| (heard(stage) > before || over(stage)).then_some(());
                    if self.wait(SPEAKS_WITHIN, speaks).await.is_none() {
                        return Err(failed("it went silent"));
                    }
                }
            }
        }
        if over(self) {
            return Err(failed(format!("it ended the session after {sent} lists")));
        }
        self.still_holds_good().await?;
        Ok(format!("{sent} lists were sent, it ended up with the newest (index {index})"))
    }

    /// A list that only names a second controller is given; then the first one, an outsider by it, wants to be the only
    /// one again.
    async fn removes_all_known(&mut self) -> Seen {
        if self.settings.security.store().is_some() {
            let why = "two controllers are needed, and a certificate is one controller's: run it with --insecure";
            return Err(Unmet::Skipped(why.to_owned()));
        }
        let unopened = |why| Unmet::Skipped(format!("no second door: {why}"));
        let (_second, endpoint) = self.second_door().await.map_err(unopened)?;
        let member = self.draft(vec![(self.id(Door::Second), vec![endpoint.to_string()])]);
        self.give(Door::Seed, member).await?;
        let within = self.settings.timeout;
        if self.wait(within, |stage| stage.open_at(Door::Second)).await.is_none() {
            return Err(failed(format!("it did not go to {endpoint}, the only controller of its list")));
        }
        let verdict = self.offered_by_an_outsider().await;
        // Whatever came of it, the router is called back.
        let me = (self.id(Door::Seed), vec![self.endpoint.to_string()]);
        let good = self.draft(vec![me]);
        let called_back = self.give(Door::Second, good).await;
        self.hang_up(Door::Second);
        let seen = verdict?;
        called_back?;
        self.still_holds_good().await?;
        Ok(seen)
    }

    /// The offer counts when the router stays on the outsider until it has answered: one that moves to the member
    /// meanwhile did not judge it.
    async fn offered_by_an_outsider(&mut self) -> Seen {
        // A router that has not read the member's welcome yet has no member that answers, and may take the list.
        let on_the_member =
            |stage: &Self, inside: u64| stage.sessions.get(&inside).is_some_and(|session| session.beats > 0);
        let both = |stage: &Self| {
            let both = stage.open_at(Door::Seed).zip(stage.open_at(Door::Second));
            both.filter(|&(_, inside)| on_the_member(stage, inside))
        };
        for _ in 0..OUTSIDERS_OFFERS_MAX {
            let Some((outside, inside)) = self.wait(self.settings.timeout.min(OUTSIDER_FOR), both).await else { break };
            if let Some(seen) = self.outsiders_list(outside, inside).await? {
                return Ok(seen);
            }
        }
        let why =
            "it holds no session with an outsider beside the one with a member, so no outsider can offer anything";
        Err(Unmet::Skipped(why.to_owned()))
    }

    async fn outsiders_list(&mut self, outside: u64, inside: u64) -> Result<Option<String>, Unmet> {
        let mine = self.draft(vec![(self.id(Door::Seed), vec![self.endpoint.to_string()])]);
        let offer = mine.offer("an outsider's list", Dialect::Structured);
        let said = self.answer_to(outside, &offer, self.settings.timeout).await;
        let beats = |stage: &Self| stage.sessions.get(&inside).map_or(0, |session| session.beats);
        let enough = beats(self) + 2;
        self.wait(self.settings.timeout, |stage| (beats(stage) >= enough).then_some(())).await;
        let held = self.sessions.get(&inside).and_then(|session| session.held.as_ref()?.version);
        let adopted = held.is_some_and(|version| version.index == mine.index);
        match said {
            said @ Said::Ack(..) => Err(failed(format!("an outsider's list: {said}"))),
            _ if adopted => Err(failed("it holds the outsider's list")),
            Said::Ended(_) => Ok(None),
            said => Ok(Some(format!("an outsider's list: {said}"))),
        }
    }

    async fn dead_controllers(&mut self) -> Seen {
        let ip = if self.settings.listen.ip().is_ipv6() {
            self.settings.listen.ip()
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        let reserve = || -> std::io::Result<(TcpSocket, SocketAddr)> {
            // Bound and never listening: whoever comes is refused, and nobody else takes the port meanwhile.
            let socket = if ip.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
            socket.bind(SocketAddr::new(ip, 0))?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let reserved: Result<Vec<_>, _> = (0..DEAD).map(|_| reserve()).collect();
        let reserved = reserved.map_err(|why| Unmet::Skipped(format!("no ports for dead controllers: {why}")))?;
        let scheme = self.settings.security.scheme().as_str();
        let first = self.id(Door::Second) + 1;
        let controllers =
            (first..).zip(&reserved).map(|(id, (_, at))| (id, vec![format!("{scheme}://{at}")])).collect();
        let dead = self.draft(controllers);
        let seen = self.give(Door::Seed, dead).await?;
        self.comes_back().await?;
        let again = self.give_good().await?;
        self.still_holds_good().await?;
        Ok(format!("{seen} of dead controllers, came back to its seed, {again} there"))
    }

    async fn bad_welcome(&mut self) -> Seen {
        let session = self.ready().await?;
        let structured = self.sessions.get(&session).is_some_and(|one| one.dialect == Dialect::Structured);
        let before = self.newest();
        self.manner = Manner::BadWelcome;
        self.hang_up(Door::Seed);
        let within = self.settings.timeout;
        let Some(bad) = self.wait(within, |stage| Some(stage.newest()).filter(|newest| *newest > before)).await else {
            return Err(failed(format!("it did not come back within {} s", within.as_secs())));
        };
        let good = self.good();
        let newer = Draft { index: good.index + 1, term: good.term + 1, ..good };
        let dialect = if structured { Dialect::Structured } else { Dialect::Flat };
        let nonce = self.send(bad, &newer.offer("a list after a bad welcome", dialect));
        let ended = |stage: &Self| stage.sessions.get(&bad).is_none_or(|session| session.ended.is_some()).then_some(());
        let left = self.wait(within, ended).await;
        let answer = nonce.and_then(|nonce| self.answers.get(&nonce));
        let adopted = matches!(answer, Some(Answer::Ack(_)));
        let before = self.newest();
        self.manner = Manner::Proper;
        if left.is_none() {
            return Err(failed(format!("it kept the session for {} s", within.as_secs())));
        }
        if adopted {
            return Err(failed("it acknowledged a list after a welcome that it could not have understood"));
        }
        self.returned(before.max(bad)).await?;
        Ok("it left that session and came back".to_owned())
    }

    async fn silence(&mut self) -> Seen {
        self.ready().await?;
        let before = self.newest();
        self.manner = Manner::Silent;
        self.hang_up(Door::Seed);
        let within = self.settings.timeout;
        let Some(mute) = self.wait(within, |stage| Some(stage.newest()).filter(|newest| *newest > before)).await else {
            return Err(failed(format!("it did not come back within {} s", within.as_secs())));
        };
        self.manner = Manner::Proper;
        let began = Instant::now();
        let ended =
            |stage: &Self| stage.sessions.get(&mute).is_none_or(|session| session.ended.is_some()).then_some(());
        if self.wait(within, ended).await.is_none() {
            return Err(failed(format!("it stayed for {} s of silence", within.as_secs())));
        }
        let after = began.elapsed().as_millis();
        self.returned(mute).await?;
        Ok(format!("it left after {after} ms and came back"))
    }
}
