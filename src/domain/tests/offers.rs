//! `offers.txt`: one router after the other, and what it makes of what it is offered.

use std::fmt::Write as _;

use super::fixtures::{Draft, digest, key, offered};
use super::transcript::{self, Question};
use crate::domain::acceptance::{Content, Held, HeldList, Offer, Offerer, Verdict, decide};
use crate::domain::controller_list::{Digest, DigestScheme, Epoch, ListVersion, OfferedController, OfferedList};
use crate::domain::ids::{ClusterId, ControllerId};

#[test]
fn transcript_of_offers() {
    let mut router = Router::default();
    transcript::check("offers.txt", |question| router.answer(question));
}

/// A router's keeper, as small as it can be: it does what the verdict says and nothing else.
#[derive(Default)]
struct Router {
    held: Held,
    previous: Option<HeldList>,
}

impl Router {
    fn answer(&mut self, question: &Question) -> String {
        match question.name.as_str() {
            "router" => {
                *self = Self::default();
                self.holds()
            }
            "offer" => self.judge(&structured(question)),
            "flat" => {
                let counted = question.numbers("hosts").into_iter().map(|host| format!("http://h{host:03}:1"));
                let addresses = question.plain().map(ToOwned::to_owned).chain(counted).collect();
                self.judge(&Offer { from: from(question), encoded_bytes: 64, content: Content::Flat { addresses } })
            }
            "garbage" => {
                let content = Content::Undecodable { detail: "invalid wire type".into() };
                self.judge(&Offer { from: from(question), encoded_bytes: 64, content })
            }
            "members" => {
                self.held.member_answers = question.nth(0) == "answer";
                self.holds()
            }
            "restart" => self.restart(question),
            "trust" => {
                self.held.cluster = Some(cluster(question.nth(0)));
                self.held.floor = None;
                self.holds()
            }
            other => panic!("{other}?"),
        }
    }

    fn judge(&mut self, offer: &Offer) -> String {
        let verdict = decide(&self.held, offer);
        match &verdict {
            Verdict::Adopt(adopted) => {
                self.previous = self.held.list.take();
                self.held = Held { member_answers: self.held.member_answers, ..Held::of(adopted.clone()) };
            }
            Verdict::Merge(hints) => self.held.hints.clone_from(hints),
            Verdict::Unchanged | Verdict::Refuse(_) => {}
        }
        let mut answer = format!("{verdict}\n");
        if let Verdict::Refuse(refusal) = &verdict {
            writeln!(answer, "hint: {}", refusal.hint()).unwrap();
        }
        if let Verdict::Merge(hints) = &verdict {
            let hints: Vec<_> = hints.iter().map(ToString::to_string).collect();
            let first = hints[..hints.len().min(8)].join(" ");
            let more =
                if hints.len() > 8 { format!(" and so on to {}", hints[hints.len() - 1]) } else { String::new() };
            writeln!(answer, "hints: {first}{more}").unwrap();
        }
        answer
    }

    /// What survives is what files survived.
    fn restart(&mut self, question: &Question) -> String {
        let keeps = |what| question.plain().any(|word| word == what);
        let before = std::mem::take(self);
        self.held.cluster = before.held.cluster;
        self.held.floor = before.held.floor.filter(|_| keeps("floor"));
        self.held.list = before.held.list.filter(|_| keeps("list")).or(before.previous.filter(|_| keeps("previous")));
        self.holds()
    }

    fn holds(&self) -> String {
        let list = self.held.list.as_ref().map_or_else(|| "no list".to_owned(), |held| held.list.version().to_string());
        let floor = self.held.floor.map_or_else(|| "no floor".to_owned(), |floor| format!("floor {}", floor.version));
        format!("holds {list}, {floor}\n")
    }
}

fn structured(question: &Question) -> Offer {
    let (epoch, index) = question.get("version").unwrap_or("1.5").split_once('.').unwrap();
    let (voters, next, learners) = (question.numbers("voters"), question.numbers("next"), question.numbers("learners"));
    let sets: Vec<&[u64]> = [voters.as_slice(), &next].into_iter().filter(|set| !set.is_empty()).collect();
    let mut draft = Draft::new(if sets.is_empty() { &[&[1, 2, 3]] } else { &sets }, &learners)
        .version(epoch.parse().unwrap(), index.parse().unwrap())
        .retired(&question.numbers("retired"));
    draft.identity.cluster = cluster(question.get("cluster").unwrap_or("a"));
    draft.term = question.number("term", 1);
    if question.get("recovery").is_some() {
        draft = draft.recovery(question.number("recovery", 0).into());
    }
    let mut list = offered(&draft.list());
    question.lines.iter().for_each(|line| spoil(&mut list, line));
    let computed = digest(&list);
    let stated = match question.get("digest") {
        None => Some(computed),
        Some("none") => None,
        Some("wrong") => Some(Digest { bytes: [0; 32], ..computed }),
        Some("foreign-scheme") => Some(Digest { scheme: DigestScheme(9), bytes: [0; 32] }),
        Some(other) => panic!("digest={other}?"),
    };
    let bytes = question.number("bytes", 1024);
    let content = Content::Structured { list: Box::new(list), computed, stated };
    Offer { from: from(question), encoded_bytes: usize::try_from(bytes).unwrap(), content }
}

/// What a faulty sender does to a good list, a line each.
fn spoil(list: &mut OfferedList, line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        ["no", "controllers"] => list.controllers.clear(),
        ["no", "identity"] => list.identity = None,
        ["no", "version"] => list.version = None,
        ["no", "voters"] => list.voter_sets.clear(),
        ["an", "empty", "voter", "set"] => list.voter_sets.push(Vec::new()),
        ["version", "of", "epoch", epoch] => {
            list.version.as_mut().unwrap().epoch = Epoch::new(epoch.parse().unwrap()).unwrap();
        }
        ["index", "0"] => list.version.as_mut().unwrap().index = 0,
        ["a", "third", "voter", "set"] => {
            let one = list.voter_sets[0].clone();
            list.voter_sets.extend([one.clone(), one]);
        }
        ["after", version] => {
            let (epoch, index) = version.split_once('.').unwrap();
            let epoch = Epoch::new(epoch.parse().unwrap()).unwrap();
            list.predecessor = Some(ListVersion { epoch, index: index.parse().unwrap() });
        }
        ["voter", id] => list.voter_sets[0].push(id.parse().unwrap()),
        ["retired", id] => list.retired.push(id.parse().unwrap()),
        ["controllers", count] => {
            let one = list.controllers[0].clone();
            list.controllers = vec![one; count.parse().unwrap()];
        }
        ["reversed"] => list.controllers.reverse(),
        ["controller", id, "twice"] => {
            let again = controller(list, id).clone();
            list.controllers.push(again);
        }
        ["controller", id, ref rest @ ..] => spoil_controller(controller(list, id), rest),
        _ => panic!("{line}?"),
    }
}

fn spoil_controller(controller: &mut OfferedController, words: &[&str]) {
    match *words {
        ["has", "id", id] => controller.id = id.parse().unwrap(),
        ["has", "no", "role"] => controller.role = None,
        ["has", "role", "learner"] => controller.role = Some(crate::domain::controller_list::Role::Learner),
        ["has", "no", "incarnation"] => controller.incarnation = None,
        ["has", "no", "name"] => controller.name.clear(),
        ["is", "named", name] => name.clone_into(&mut controller.name),
        ["has", count, "keys"] => controller.keys = vec![key(32); count.parse().unwrap()],
        ["has", "a", "key", "of", bytes, "bytes"] => controller.keys = vec![key(bytes.parse().unwrap())],
        ["has", count, "endpoints"] => {
            let nth = |n: u16| format!("http://192.0.2.1:{}", n + 1);
            controller.endpoints = (0..count.parse().unwrap()).map(nth).collect();
        }
        ["listens", "at", ref endpoints @ ..] => {
            controller.endpoints = endpoints.iter().map(ToString::to_string).collect()
        }
        _ => panic!("{words:?}?"),
    }
}

fn controller<'a>(list: &'a mut OfferedList, id: &str) -> &'a mut OfferedController {
    let id: u64 = id.parse().unwrap();
    list.controllers.iter_mut().find(|controller| controller.id == id).unwrap()
}

fn from(question: &Question) -> Offerer {
    match question.number("from", 0) {
        0 => Offerer::Unidentified,
        id => Offerer::Controller(ControllerId::new(id).unwrap()),
    }
}

fn cluster(letter: &str) -> ClusterId {
    ClusterId::from_u128(u128::from_str_radix(letter, 16).unwrap())
}
