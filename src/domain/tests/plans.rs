//! `plans.txt` and `lists.txt`: what is planned for a request, and which list a membership stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::fixtures::{Draft, endpoint, id, identity, ids, member, membership};
use super::transcript::{self, Question};
use crate::domain::acceptance;
use crate::domain::controller_list::{Applied, ControllerList, ListState};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, ControllerName, Incarnation};
use crate::domain::membership::{Current, Member, Membership, Plan, Refusal, Request, Step, found, plan};
use crate::domain::state::LogPosition;

#[test]
fn transcript_of_plans() {
    let mut cluster = Cluster::default();
    transcript::check("plans.txt", |question| cluster.answer(question));
}

#[test]
fn transcript_of_lists() {
    transcript::check("lists.txt", derive);
}

/// A cluster as its leader sees it.
#[derive(Default)]
struct Cluster {
    membership: Membership,
    used: BTreeSet<ControllerId>,
    live: BTreeSet<ControllerId>,
    lag: BTreeMap<ControllerId, u64>,
    leader: u64,
    routers_refuse: bool,
}

impl Cluster {
    fn answer(&mut self, question: &Question) -> String {
        match question.name.as_str() {
            "cluster" => self.set(question),
            "found" => {
                self.set(question);
                match found(&identity(), self.membership.members().cloned().collect(), &|_| self.judge()) {
                    Ok(membership) => format!("{}\n", show(&membership)),
                    Err(why) => format!("refused ({}): {why}\n", why.reason.code()),
                }
            }
            "plan" => match self.plan(&request(question)) {
                Ok(plan) => print(&plan),
                Err(refusal) => format!("refused ({}): {refusal}\nhint: {}\n", refusal.code(), refusal.hint()),
            },
            other => panic!("{other}?"),
        }
    }

    fn set(&mut self, question: &Question) -> String {
        let (voters, next) = (question.numbers("voters"), question.numbers("next"));
        let sets: Vec<&[u64]> = [voters.as_slice(), &next].into_iter().filter(|set| !set.is_empty()).collect();
        self.membership = membership(&sets, &question.numbers("learners"));
        for line in &question.lines {
            let words: Vec<_> = line.split_whitespace().collect();
            let members = self.membership.members().cloned().map(|member| amend(member, &words)).collect::<Vec<_>>();
            self.membership = Membership::new(self.membership.voter_sets().to_vec(), members);
        }
        let everyone: BTreeSet<_> = self.membership.members().map(|member| member.id).collect();
        self.used = everyone.iter().copied().chain(ids(&question.numbers("used"))).collect();
        self.leader = question.number("leader", 1);
        let dead = ids(&question.numbers("dead"));
        self.live = everyone.difference(&dead).copied().collect();
        self.lag = self.live.iter().filter(|live| live.get() != self.leader).map(|live| (*live, 0)).collect();
        for behind in question.get("lag").into_iter().flat_map(|lag| lag.split(',')) {
            let (who, entries) = behind.split_once(':').unwrap();
            self.lag.insert(who.parse().unwrap(), entries.parse().unwrap());
        }
        ids(&question.numbers("unknown-lag")).iter().for_each(|id| _ = self.lag.remove(id));
        self.routers_refuse = question.get("routers") == Some("refuse");
        let tolerance = self.membership.failure_tolerance(&self.live);
        format!("{}, tolerates {tolerance} failures\n", show(&self.membership))
    }

    fn plan(&self, request: &Request) -> Result<Plan, Refusal> {
        let identity = identity();
        let current = Current {
            membership: &self.membership,
            position: LogPosition { term: 3, index: 20 },
            identity: &identity,
            used_ids: &self.used,
            leader: id(self.leader),
            live: &self.live,
            lag_entries: &self.lag,
        };
        plan(&current, request, &|_| self.judge())
    }

    fn judge(&self) -> Result<(), acceptance::Refusal> {
        if self.routers_refuse { Err(acceptance::Refusal::DigestMismatch) } else { Ok(()) }
    }
}

fn request(question: &Question) -> Request {
    let addresses = |kind| question.get(kind).map(endpoints);
    let number = || question.nth(1).parse().unwrap();
    match question.nth(0) {
        "add" => Request::Add(newcomer(number(), question)),
        "promote" => Request::Promote(id(number())),
        "demote" => Request::Demote(id(number())),
        "remove" => Request::Remove(id(number())),
        "readdress" => Request::Readdress {
            id: id(number()),
            peer: addresses("peer"),
            router: addresses("router"),
            admin: addresses("admin"),
        },
        other => panic!("{other}?"),
    }
}

fn newcomer(number: u64, question: &Question) -> Member {
    let mut newcomer = member(number);
    for (held, kind) in [(&mut newcomer.peer, "peer"), (&mut newcomer.router, "router"), (&mut newcomer.admin, "admin")]
    {
        if let Some(given) = question.get(kind) {
            *held = endpoints(given);
        }
    }
    if let Some(name) = question.get("name") {
        newcomer.name = ControllerName::new(name).unwrap();
    }
    if question.get("directory-of").is_some() {
        newcomer.incarnation = member(question.number("directory-of", 0)).incarnation;
    }
    if question.get("incarnation").is_some() {
        newcomer.incarnation = Incarnation::from_u128(question.number("incarnation", 0).into());
    }
    newcomer.keys = vec![super::fixtures::key(8); usize::try_from(question.number("keys", 0)).unwrap()];
    newcomer
}

fn endpoints(list: &str) -> Vec<Endpoint> {
    match list {
        "none" => Vec::new(),
        "nine" => (1..=9).map(|n| endpoint(&format!("http://198.51.100.1:{n}"))).collect(),
        list => list.split(',').map(endpoint).collect(),
    }
}

fn print(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        match step {
            Step::HandOver { to } => writeln!(text, "hand leadership to {to}"),
            Step::AddLearner(member) => writeln!(text, "add learner {}", record(member)),
            Step::SetVoters(voters) => writeln!(text, "set voters {}", commas(voters)),
            Step::AwaitApplied(id) => writeln!(text, "wait until {id} has applied it"),
            Step::ReplaceMember(member) => writeln!(text, "replace the record of {}", record(member)),
            Step::ConfirmAddresses { id, incarnation, peer, services } => {
                assert_eq!(*incarnation, member(id.get()).incarnation);
                writeln!(text, "confirm {id} at: peer {}, services {}", spaces(peer), spaces(services))
            }
            Step::RemoveLearner(id) => writeln!(text, "remove learner {id}"),
            Step::TellRemoved(member) => writeln!(text, "tell {} that it was removed", member.id),
        }
        .unwrap();
    }
    for membership in &plan.memberships {
        writeln!(text, "-> {}", show(membership)).unwrap();
    }
    let LogPosition { term, index } = plan.precondition;
    writeln!(text, "only if the last membership is still the one at {term}.{index}").unwrap();
    text
}

fn record(member: &Member) -> String {
    let Member { id, peer, router, admin, .. } = member;
    format!("{id}: peer {}, router {}, admin {}", spaces(peer), spaces(router), spaces(admin))
}

fn spaces(endpoints: &[Endpoint]) -> String {
    let texts: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(" ") }
}

fn show(membership: &Membership) -> String {
    let sets: Vec<_> = membership.voter_sets().iter().map(commas).collect();
    let voters = membership.voters();
    let learners: Vec<_> = membership.members().map(|member| member.id).filter(|id| !voters.contains(id)).collect();
    let learners = if learners.is_empty() { String::new() } else { format!(", learners {}", commas(&learners)) };
    format!("voters {}{learners}", sets.join(" and "))
}

fn commas<'a>(ids: impl IntoIterator<Item = &'a ControllerId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn derive(question: &Question) -> String {
    let (voters, next) = (question.numbers("voters"), question.numbers("next"));
    let sets: Vec<&[u64]> = [voters.as_slice(), &next].into_iter().filter(|set| !set.is_empty()).collect();
    let mut draft = Draft::new(&sets, &question.numbers("learners"));
    for line in &question.lines {
        let words: Vec<_> = line.split_whitespace().collect();
        let members = draft.membership.members().cloned().map(|member| amend(member, &words)).collect::<Vec<_>>();
        draft.membership = Membership::new(draft.membership.voter_sets().to_vec(), members);
    }
    let used_ids = draft.membership.members().map(|m| m.id).chain(ids(&question.numbers("used"))).collect();
    let applied = Applied {
        identity: Some(&draft.identity).filter(|_| question.get("identity") != Some("none")),
        term: question.number("term", 1),
        log_index: question.number("log", 4),
        used_ids: &used_ids,
        previous_log_index: question.get("previous").map(|_| question.number("previous", 0)),
    };
    match ControllerList::derive(&draft.membership, applied) {
        Ok(ListState::Unknown) => "unknown: nothing is sent\n".to_owned(),
        Ok(ListState::Known(list)) => print_list(&list),
        Err(defect) => format!("no list ({}): {defect}\n", defect.code()),
    }
}

fn amend(mut member: Member, words: &[&str]) -> Member {
    match *words {
        ["controller", id, "is", "named", name] if member.id.to_string() == id => {
            member.name = ControllerName::new(name).unwrap();
        }
        ["controller", id, "has", "no", "endpoints"] if member.id.to_string() == id => member.router.clear(),
        ["controller", id, "has", "peers", at] if member.id.to_string() == id => member.peer = endpoints(at),
        ["controller", id, "listens", "at", at] if member.id.to_string() == id => member.router = endpoints(at),
        _ => {}
    }
    member
}

fn print_list(list: &ControllerList) -> String {
    let mut text = format!("version {}, on the wire of protocol 1 {}", list.version(), list.version().flat_index());
    let before = list.predecessor().map_or_else(String::new, |version| format!(", after {version}"));
    writeln!(text, "{before}, term {}", list.term()).unwrap();
    for controller in list.controllers() {
        let endpoints: Vec<_> = controller.endpoints.iter().map(ToString::to_string).collect();
        writeln!(text, "{} {} {} {}", controller.id, controller.name, controller.role, endpoints.join(" ")).unwrap();
    }
    let sets: Vec<_> = list.voter_sets().iter().map(commas).collect();
    writeln!(text, "voters {}", sets.join(" and ")).unwrap();
    if !list.retired().is_empty() {
        writeln!(text, "retired {}", commas(list.retired())).unwrap();
    }
    text
}
