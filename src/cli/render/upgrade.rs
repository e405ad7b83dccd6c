//! `cluster upgrade …`: builds, what is in the way, and plans. Field names of the JSON are stable.

use serde::Serialize;

use super::listed;
use super::table::{Table, facts};
use crate::cli::console::Tone;
use crate::proto::admin;

/// An upgrade, as `cluster upgrade status -o json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Upgrade {
    /// What the cluster may write; 0: not founded.
    pub feature_level: u32,
    /// The level that was asked about.
    pub target: u32,
    /// Whether the cluster may write that level.
    pub finalized: bool,
    /// Id of the leader; `null` when there is none.
    pub leader: Option<u64>,
    /// Who answered, and with whose state the others were compared.
    pub answered_by: u64,
    /// Ordered by id.
    pub controllers: Vec<Build>,
    /// What is in the way of the target; empty: nothing.
    pub blockers: Vec<Blocker>,
    /// Registered routers by version, the most frequent first.
    pub routers: Vec<RouterBuilds>,
    /// How long the target has to be possible until it is finalized by itself; `null`: never.
    pub soak_ms: Option<u64>,
    /// How long it has been; `null`: something is in the way.
    pub soaked_ms: Option<u64>,
    /// What the target would do; `null` when it was not asked for.
    pub plan: Option<Plan>,
}

/// A controller's build.
#[derive(Debug, Clone, Serialize)]
pub struct Build {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Of its software; `null` when it is not known.
    pub version: Option<String>,
    /// Whether it answers now.
    pub running: bool,
    /// Feature levels that it reads, as `MIN to MAX`.
    pub reads: Option<String>,
    /// Router protocols that it serves, as `MIN to MAX`.
    pub serves: Option<String>,
    /// `equal`, `differs` or `unknown`.
    pub state: String,
    /// Log index at which states were compared.
    pub compared_at: Option<u64>,
}

/// Something in the way.
#[derive(Debug, Clone, Serialize)]
pub struct Blocker {
    /// Stable name.
    pub reason: String,
    /// Whose; `null`: of nobody alone.
    pub controller: Option<u64>,
    /// In words.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Routers of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct RouterBuilds {
    /// Of their software.
    pub version: String,
    /// Protocols that they speak.
    pub speaks: String,
    /// How many.
    pub count: u64,
}

/// What a level would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Router protocols that the cluster serves now.
    pub serves: String,
    /// Router protocols that it will serve.
    pub serves_then: String,
    /// Routers that would be refused.
    pub refused: u64,
    /// Routers that would be spoken to in another protocol.
    pub changed: u64,
    /// The first of them.
    pub routers: Vec<AffectedRouter>,
    /// Each controller wrote its state at that level, on a copy, and read it back.
    pub trials: Vec<Trial>,
}

/// A router that would notice.
#[derive(Debug, Clone, Serialize)]
pub struct AffectedRouter {
    /// Its id.
    pub id: String,
    /// Of its software.
    pub version: String,
    /// Protocol now; `null` when it will be refused.
    pub from: Option<u32>,
    /// Protocol then; `null`: refused.
    pub to: Option<u32>,
}

/// A trial on one controller.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// Which controller.
    pub id: u64,
    /// Size of its state at that level.
    pub bytes: u64,
    /// Why it cannot be; `null`: it can.
    pub failure: Option<String>,
}

fn range(min: u32, max: u32) -> String {
    if min == max { min.to_string() } else { format!("{min} to {max}") }
}

impl From<admin::UpgradeResponse> for Upgrade {
    fn from(answer: admin::UpgradeResponse) -> Self {
        Self {
            feature_level: answer.feature_level,
            target: answer.target,
            finalized: answer.feature_level >= answer.target,
            leader: Some(answer.leader).filter(|leader| *leader > 0),
            answered_by: answer.answered_by,
            controllers: answer.builds.into_iter().map(Build::from).collect(),
            blockers: answer.blockers.into_iter().map(Blocker::from).collect(),
            routers: answer.router_builds.into_iter().map(RouterBuilds::from).collect(),
            soak_ms: answer.soak_ms,
            soaked_ms: answer.soaked_ms,
            plan: answer.plan.map(Plan::from),
        }
    }
}

impl From<admin::Build> for Build {
    fn from(build: admin::Build) -> Self {
        Self {
            id: build.id,
            name: build.name,
            version: Some(build.software_version).filter(|version| !version.is_empty()),
            running: build.running,
            reads: (build.level_max > 0).then(|| range(build.level_min, build.level_max)),
            serves: (build.protocol_max > 0).then(|| range(build.protocol_min, build.protocol_max)),
            state: build.state,
            compared_at: Some(build.compared_at).filter(|index| *index > 0),
        }
    }
}

impl From<admin::Blocker> for Blocker {
    fn from(blocker: admin::Blocker) -> Self {
        let controller = Some(blocker.controller).filter(|id| *id > 0);
        Self { reason: blocker.reason, controller, message: blocker.message, hint: blocker.hint }
    }
}

impl From<admin::RouterBuilds> for RouterBuilds {
    fn from(kind: admin::RouterBuilds) -> Self {
        let speaks = range(kind.protocol_min, kind.protocol_max);
        Self { version: kind.software_version, speaks, count: kind.count }
    }
}

impl From<admin::UpgradePlan> for Plan {
    fn from(plan: admin::UpgradePlan) -> Self {
        let protocol = |number: u32| Some(number).filter(|number| *number > 0);
        let router = |router: admin::AffectedRouter| AffectedRouter {
            id: router.id,
            version: router.software_version,
            from: protocol(router.from),
            to: protocol(router.to),
        };
        let trial = |trial: admin::Trial| Trial {
            id: trial.id,
            bytes: trial.bytes,
            failure: Some(trial.failure).filter(|failure| !failure.is_empty()),
        };
        Self {
            serves: range(plan.protocol_min, plan.protocol_max),
            serves_then: range(plan.protocol_min_then, plan.protocol_max_then),
            refused: plan.refused,
            changed: plan.changed,
            routers: plan.routers.into_iter().map(router).collect(),
            trials: plan.trials.into_iter().map(trial).collect(),
        }
    }
}

impl Upgrade {
    /// Whether a plan found nothing that speaks against it.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let plan = self.plan.as_ref();
        self.blockers.is_empty()
            && plan.is_none_or(|plan| plan.refused == 0 && plan.trials.iter().all(|trial| trial.failure.is_none()))
    }

    fn soaking(&self) -> String {
        let hours = |ms: u64| format!("{} s", ms / 1_000);
        match (self.soak_ms, self.soaked_ms) {
            _ if self.finalized => "nothing to do".into(),
            (None, _) => "when an operator runs `pilothouse cluster upgrade finalize`".into(),
            (Some(needed), None) => format!("by itself, {} after nothing is in the way", hours(needed)),
            (Some(needed), Some(soaked)) => format!("by itself, in {}", hours(needed.saturating_sub(soaked))),
        }
    }
}

/// `cluster upgrade status` and `plan` for people.
#[must_use]
pub fn upgrade(upgrade: &Upgrade, colour: bool) -> String {
    let target = match upgrade.finalized {
        true => format!("{} (the cluster may write it)", upgrade.target),
        false => format!("{} (not finalized: the older version may come back)", upgrade.target),
    };
    let routers =
        upgrade.routers.iter().map(|kind| format!("{} run {} (protocol {})", kind.count, kind.version, kind.speaks));
    let mut text = facts(&[
        ("feature level", upgrade.feature_level.to_string()),
        ("newest level", target),
        ("is finalized", upgrade.soaking()),
        ("routers", listed(&routers.collect::<Vec<_>>())),
    ]);
    text.push('\n');
    text += &controllers(upgrade, colour);
    if let Some(plan) = &upgrade.plan {
        text += &planned(plan, upgrade.target, colour);
    }
    for blocker in &upgrade.blockers {
        text += &format!("\nin the way: {}\n  hint: {}\n", blocker.message, blocker.hint);
    }
    if upgrade.blockers.is_empty() && !upgrade.finalized {
        text += "\nnothing is in the way\n";
    }
    text
}

fn controllers(upgrade: &Upgrade, colour: bool) -> String {
    let mut table =
        Table::new(&["ID", "NAME", "LEADER", "STATE", "VERSION", "READS LEVELS", "PROTOCOLS", "REPLICATED STATE"]);
    let or_hyphen = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    for build in &upgrade.controllers {
        let replicated = match (build.state.as_str(), build.compared_at) {
            _ if build.id == upgrade.answered_by => "(compared with this one)".to_owned(),
            ("unknown", _) | (_, None) => "not compared yet".to_owned(),
            (state, Some(index)) => format!("{state} at log index {index}"),
        };
        let tone = match (build.state.as_str(), build.running) {
            ("differs", _) => Tone::Bad,
            (_, false) => Tone::Bad,
            _ => Tone::Plain,
        };
        let cells = vec![
            build.id.to_string(),
            build.name.clone(),
            if Some(build.id) == upgrade.leader { "yes" } else { "-" }.into(),
            if build.running { "up" } else { "down" }.into(),
            or_hyphen(&build.version),
            or_hyphen(&build.reads),
            or_hyphen(&build.serves),
            replicated,
        ];
        table.row(tone, cells);
    }
    table.render(colour)
}

fn planned(plan: &Plan, level: u32, colour: bool) -> String {
    let mut text = format!("\nraising the feature level to {level}\n");
    let protocols = match plan.serves == plan.serves_then {
        true => format!("{}, as now", plan.serves),
        false => format!("{} instead of {}", plan.serves_then, plan.serves),
    };
    text += &facts(&[
        ("router protocols", protocols),
        ("routers refused", plan.refused.to_string()),
        ("routers that change", plan.changed.to_string()),
    ]);
    if !plan.routers.is_empty() {
        let mut table = Table::new(&["ROUTER", "VERSION", "PROTOCOL"]);
        for router in &plan.routers {
            let change = match (router.from, router.to) {
                (Some(from), Some(to)) => format!("{from} -> {to}"),
                _ => "refused: none in common".to_owned(),
            };
            let tone = if router.to.is_some() { Tone::Plain } else { Tone::Bad };
            table.row(tone, vec![router.id.clone(), router.version.clone(), change]);
        }
        text.push('\n');
        text += &table.render(colour);
    }
    let mut table = Table::new(&["CONTROLLER", "TRIAL ON A COPY OF ITS STATE"]);
    for trial in &plan.trials {
        let (tone, outcome) = match &trial.failure {
            None => (Tone::Plain, format!("written and read back, {} bytes", trial.bytes)),
            Some(failure) => (Tone::Bad, failure.clone()),
        };
        table.row(tone, vec![trial.id.to_string(), outcome]);
    }
    text.push('\n');
    text + &table.render(colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::{golden, json};

    fn build(id: u64, version: &str, level_max: u32, state: &str) -> admin::Build {
        admin::Build {
            id,
            name: format!("controller-{id}"),
            software_version: version.into(),
            running: id != 3,
            level_min: 1,
            level_max,
            protocol_min: u32::from(level_max > 0),
            protocol_max: if level_max > 0 { 2 } else { 0 },
            state: state.into(),
            compared_at: if state == "unknown" { 0 } else { 812 },
        }
    }

    fn answer() -> admin::UpgradeResponse {
        let blocker = |reason: &str, controller, message: &str, hint: &str| admin::Blocker {
            reason: reason.into(),
            controller,
            message: message.into(),
            hint: hint.into(),
        };
        let kind = |version: &str, protocol_max, count| admin::RouterBuilds {
            software_version: version.into(),
            protocol_min: 1,
            protocol_max,
            count,
        };
        admin::UpgradeResponse {
            feature_level: 2,
            target: 3,
            answered_by: 1,
            leader: 1,
            builds: vec![build(1, "0.2.0", 3, "equal"), build(2, "0.1.0", 2, "unknown"), build(3, "", 0, "unknown")],
            blockers: vec![
                blocker(
                    "cannot_read",
                    2,
                    "controller 2 runs 0.1.0, which reads feature levels 1 to 2",
                    "install the newer version there and start it again",
                ),
                blocker("down", 3, "controller 3 does not answer", "start it"),
            ],
            router_builds: vec![kind("0.1.0", 2, 41), kind("0.2.0", 2, 1)],
            soak_ms: Some(3_600_000),
            soaked_ms: None,
            plan: None,
        }
    }

    fn planned() -> admin::UpgradeResponse {
        let router =
            |id: &str, from, to| admin::AffectedRouter { id: id.into(), software_version: "0.1.0".into(), from, to };
        let plan = admin::UpgradePlan {
            protocol_min: 1,
            protocol_max: 2,
            protocol_min_then: 2,
            protocol_max_then: 3,
            refused: 1,
            changed: 1,
            routers: vec![router("edge-1", 0, 0), router("edge-2", 2, 3)],
            trials: vec![
                admin::Trial { id: 1, bytes: 2_048, failure: String::new() },
                admin::Trial { id: 2, bytes: 0, failure: "its version knows no upgrades yet".into() },
            ],
        };
        admin::UpgradeResponse { plan: Some(plan), ..answer() }
    }

    #[test]
    fn an_upgrade_for_people_and_programs() {
        golden("upgrade.txt", &upgrade(&answer().into(), false));
        golden("upgrade-plan.txt", &upgrade(&planned().into(), false));
        golden("upgrade.json", &json(&Upgrade::from(planned())));
    }

    #[test]
    fn whatever_speaks_against_a_plan_makes_it_harmful() {
        let clean = || {
            let mut answer = planned();
            answer.blockers.clear();
            let plan = answer.plan.as_mut().unwrap();
            (plan.refused, plan.trials[1].failure) = (0, String::new());
            answer
        };
        assert!(Upgrade::from(clean()).is_harmless());
        let blocked = admin::UpgradeResponse { blockers: answer().blockers, ..clean() };
        assert!(!Upgrade::from(blocked).is_harmless());
        let with = |change: fn(&mut admin::UpgradePlan)| {
            let mut answer = clean();
            change(answer.plan.as_mut().unwrap());
            Upgrade::from(answer).is_harmless()
        };
        assert!(!with(|plan| plan.refused = 1));
        assert!(!with(|plan| plan.trials[0].failure = "no room".into()));
    }
}
