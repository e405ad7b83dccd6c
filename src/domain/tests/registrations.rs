//! `registrations.txt`: the replicated state, entry by entry.

use std::collections::BTreeMap;

use super::fixtures::{id, identity, key, membership};
use super::transcript::{self, Question};
use crate::domain::command::{Change, Command, Outcome, Registration};
use crate::domain::controller_list::ListState;
use crate::domain::feature::{Announcement, FeatureLevel};
use crate::domain::ids::{BootId, Incarnation, RouterId};
use crate::domain::negotiation::ProtocolRange;
use crate::domain::state::{ClusterState, LogPosition, ROUTERS_MAX};

#[test]
fn transcript_of_registrations() {
    let mut log = Log::default();
    transcript::check("registrations.txt", |question| log.answer(question));
}

#[derive(Default)]
struct Log {
    state: ClusterState,
    index: u64,
}

impl Log {
    fn answer(&mut self, question: &Question) -> String {
        match question.name.as_str() {
            "show" => return self.show(question.nth(0)),
            "state" => return self.summary(),
            "ask" => {
                let limit = usize::try_from(question.number("limit", ROUTERS_MAX as u64)).unwrap();
                return match self.state.judge_within(&registration(question), limit) {
                    Ok(registered) => format!("would be {registered:?}\n").to_lowercase(),
                    Err(refusal) => format!("would be refused ({}): {refusal}\n", refusal.code()),
                };
            }
            _ => {}
        }
        let position = LogPosition { term: 1, index: self.index };
        self.index += 1;
        let change = match question.name.as_str() {
            "blank" => {
                self.state.apply_blank(position);
                return self.summary();
            }
            "membership" => {
                let set = question.numbers("voters");
                self.state.apply_membership(position, membership(&[&set], &question.numbers("learners")));
                return self.summary();
            }
            "found" => Change::Found { identity: identity(), level: FeatureLevel::ONE },
            "register" => Change::Register(vec![registration(question)]),
            "forget" => Change::Forget(RouterId::new(question.nth(0)).unwrap()),
            "announce" => Change::Announce(announcement(question)),
            "ban" => Change::Ban(RouterId::new(question.nth(0)).unwrap()),
            "allow" => Change::Allow(RouterId::new(question.nth(0)).unwrap()),
            other => panic!("{other}?"),
        };
        let command = Command { time_ms: question.number("at", 0), change };
        match self.state.apply(position, &command) {
            Outcome::Registered(outcomes) => outcomes
                .into_iter()
                .map(|outcome| match outcome {
                    Ok(registered) => format!("{registered:?}\n").to_lowercase(),
                    Err(refusal) => format!("refused ({}): {refusal}\n", refusal.code()),
                })
                .collect(),
            Outcome::Refused(refusal) => format!("refused: {refusal}\n"),
            outcome => format!("{outcome}\n"),
        }
    }

    fn show(&self, router: &str) -> String {
        let Some(record) = self.state.routers.get(&RouterId::new(router).unwrap()) else {
            return "not known\n".to_owned();
        };
        let superseded: Vec<_> =
            record.superseded_boots.iter().map(|boot| u128::from_be_bytes(boot.to_bytes()).to_string()).collect();
        format!(
            "registered at {}, updated at {}, boot {} number {}, superseded boots: {}\n",
            record.registered_ms,
            record.updated_ms,
            u128::from_be_bytes(record.registration.boot.to_bytes()),
            record.registration.sequence,
            superseded.join(" ")
        )
    }

    fn summary(&self) -> String {
        let list = match self.state.list() {
            Ok(ListState::Known(list)) => list.version().to_string(),
            Ok(ListState::Unknown) => "unknown".to_owned(),
            Err(defect) => defect.to_string(),
        };
        let used: Vec<_> = self.state.used_ids.iter().map(ToString::to_string).collect();
        let announced: Vec<_> = self.state.announcements.keys().map(ToString::to_string).collect();
        format!(
            "applied {}, time {}, list {list}, used ids {}, announced {}, protocols {}\n",
            self.state.applied.map_or_else(|| "nothing".to_owned(), |position| position.index.to_string()),
            self.state.time_ms,
            if used.is_empty() { "none".to_owned() } else { used.join(",") },
            if announced.is_empty() { "none".to_owned() } else { announced.join(",") },
            self.state.protocols(),
        )
    }
}

fn registration(question: &Question) -> Registration {
    let bytes = |key, default| usize::try_from(question.number(key, default)).unwrap();
    let labels = question.get("label").map(|value| ("site".to_owned(), value.to_owned()));
    let long = question.get("label-bytes").map(|_| (String::new(), "x".repeat(bytes("label-bytes", 0))));
    Registration {
        router: RouterId::new(question.nth(0)).unwrap(),
        boot: BootId::from_u128(question.number("boot", 1).into()),
        sequence: question.number("number", 1),
        software_version: "v".repeat(bytes("software-bytes", 5)),
        protocols: ProtocolRange::SUPPORTED,
        labels: labels.into_iter().chain(long).collect::<BTreeMap<_, _>>(),
        keys: vec![key(bytes("key-bytes", 32)); bytes("keys", 0)],
    }
}

fn announcement(question: &Question) -> Announcement {
    let number = question.nth(0).parse().unwrap();
    let number_of = |key, default: u32| u32::try_from(question.number(key, default.into())).unwrap();
    Announcement {
        controller: id(number),
        incarnation: if question.plain().any(|word| word == "wiped") {
            Incarnation::from_u128(1)
        } else {
            super::fixtures::member(number).incarnation
        },
        software_version: "v".repeat(usize::try_from(question.number("software-bytes", 5)).unwrap()),
        level_min: FeatureLevel::ONE,
        level_max: FeatureLevel::new(number_of("level", FeatureLevel::SUPPORTED.get())).unwrap(),
        protocols: ProtocolRange::from_wire(number_of("min", 1), number_of("max", 2)).unwrap(),
    }
}
