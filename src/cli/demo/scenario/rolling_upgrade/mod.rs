//! A rolling upgrade: a cluster of an older binary, under load, becomes one of this binary, one process after the other.
//!
//! Half of the routers are upgraded before the controllers, the others after them; controllers one by one, the leader
//! last. The list changes in between, while both builds are members, and once more in the end.

mod older;
mod verdict;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::verdict::Observations;
use self::witness::Witness;
use super::CONTROLLERS;
use crate::cli::demo::layout::{Layout, Unit};
use crate::cli::demo::observe;
use crate::cli::demo::prober::Prober;
use crate::cli::demo::stage::Stage;
use crate::cli::demo::tour::checks;
use crate::cli::demo::view::{ClusterView, RouterSelf};
use crate::cli::demo::wait::until;
use crate::cli::failure::Failure;
use crate::domain::endpoint::Endpoint;
use crate::proto::admin::Readdress;
use crate::proto::admin::change_request::Change;
use crate::rpc::client::AdminClient;

/// The whole story. It takes a sixth of this on two cores.
const STORY_DEADLINE: Duration = Duration::from_secs(120);
/// From the beginning of a step to what it brings about: elections and restarts on a busy machine.
const STEP_DEADLINE: Duration = Duration::from_secs(20);
/// Writes that must be acknowledged before the first upgrade, and after the last one.
const ACKS_AROUND: usize = 20;

/// The older binary, and what both say of their version.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    older: PathBuf,
    versions: [String; 2],
}

impl Binaries {
    /// The named older binary, or the one of this checkout; `own` is this one.
    ///
    /// # Errors
    /// When there is none, or it is no `pilothouse`.
    pub(crate) fn find(named: Option<&Path>, own: &Path) -> Result<Self, Failure> {
        let older = older::find(named, own)?;
        let versions = [older::version(&older)?, env!("CARGO_PKG_VERSION").to_owned()];
        Ok(Self { older, versions })
    }

    /// Everything that runs from the start is of the older binary.
    pub(crate) fn begin(&self, stage: &mut Stage) {
        for unit in stage.layout.units() {
            stage.children.will_run(unit, self.older.clone());
        }
    }
}

/// Tells the whole story, and judges it.
///
/// # Errors
/// What did not happen as it should have.
pub(crate) async fn play(stage: &mut Stage, binaries: &Binaries) -> anyhow::Result<()> {
    let mut story = Story { stage, upgraded: BTreeSet::new() };
    let seen = tokio::time::timeout(STORY_DEADLINE, story.steps(binaries)).await;
    let seen = seen.with_context(|| format!("the story was not over after {STORY_DEADLINE:?}"))??;
    let said = verdict::verdict(&seen).context("the upgrade was noticed")?;
    Ok(stage.print(&format!("\nverdict: {said}\n"))?)
}

/// What routers say of themselves, by name.
type Routers = BTreeMap<String, RouterSelf>;

struct Story<'a> {
    stage: &'a mut Stage,
    upgraded: BTreeSet<Unit>,
}

impl Story<'_> {
    async fn steps(&mut self, binaries: &Binaries) -> anyhow::Result<Observations> {
        let [older, newer] = &binaries.versions;
        self.stage.say(&format!("everything is of {older} ({})", binaries.older.display()))?;
        let (before, _) = whole(self.stage).await?;
        let load = Prober::of(&self.stage.layout, self.stage.layout.founders())?;
        until(STEP_DEADLINE, async || more_than(&load, ACKS_AROUND)).await?;
        let witness = Witness::of(&self.stage.layout);
        let units: BTreeSet<Unit> = self.stage.layout.units().into_iter().collect();
        let mut changed = false;
        for unit in order(&self.stage.layout, before.leader) {
            self.upgrade(unit, newer, &load).await?;
            if let (Unit::Controller(_), false) = (unit, changed) {
                self.readdress(before.leader).await?;
                changed = true;
            }
        }
        self.stage.add(CONTROLLERS + 1).await?;
        let acks = load.count();
        until(STEP_DEADLINE, async || more_than(&load, acks + ACKS_AROUND)).await?;
        let (after, routers) = until(STEP_DEADLINE, async || {
            let view = self.stage.cluster().await?;
            agreed(&self.stage.layout, view).await
        })
        .await?;
        self.stage.say(&format!(
            "controller-{} of {newer} joins; {}",
            CONTROLLERS + 1,
            checks::agreed(&after, &routers)?
        ))?;
        let (acks_ms, ended_ms) = load.stop();
        let (versions, upgraded, without_list) = (binaries.versions.clone(), self.upgraded.clone(), witness.wrong());
        Ok(Observations { before, versions, units, upgraded, acks_ms, ended_ms, without_list, after, routers })
    }

    /// Stops a process and starts it again, by this binary, on the same data.
    async fn upgrade(&mut self, unit: Unit, newer: &str, load: &Prober) -> anyhow::Result<()> {
        let began = Instant::now();
        let obeyed = self.stage.children.stop(unit).await?;
        anyhow::ensure!(obeyed, "{unit} had to be killed");
        self.stage.children.will_run_the_usual(unit);
        self.stage.start_again(unit)?;
        if let Unit::Controller(number) = unit {
            self.answers(number).await?;
        }
        let (_, routers) = whole(self.stage).await.with_context(|| format!("{unit} was upgraded"))?;
        self.upgraded.insert(unit);
        let (acks_ms, now_ms) = load.so_far();
        let gap = verdict::writes_went_on(&acks_ms, now_ms)?.as_millis();
        let lists: BTreeSet<&str> = routers.values().map(RouterSelf::version).collect();
        let lists: Vec<&str> = lists.into_iter().collect();
        Ok(self.stage.say(&format!(
            "{unit} is of {newer} now, after {:.1} s; every router holds list {}; longest gap in writes so far {gap} ms",
            began.elapsed().as_secs_f64(),
            lists.join(", "),
        ))?)
    }

    /// A controller answers by itself: what others say of it may be older than its restart.
    async fn answers(&self, number: u16) -> anyhow::Result<()> {
        let endpoint = observe::admin_endpoint(&self.stage.layout, number);
        let answers = async || {
            let asked = AdminClient::connect(std::slice::from_ref(&endpoint), None, self.stage.security.clone()).await;
            Ok(asked?.status().await.map(drop)?)
        };
        until(STEP_DEADLINE, answers).await.with_context(|| format!("controller-{number} was started again"))
    }

    /// One more list, of a cluster of both builds: the leader's address is written in another way.
    async fn readdress(&mut self, leader: Option<u64>) -> anyhow::Result<()> {
        let number = u16::try_from(leader.context("nobody led")?)?;
        let usual = self.stage.layout.endpoint(self.stage.layout.ports(number).router);
        let other: Endpoint = usual.to_string().replace("127.0.0.1", "localhost").parse()?;
        let router = vec![other.to_string()];
        self.stage
            .change(Change::Readdress(Readdress { id: u64::from(number), router, ..Readdress::default() }))
            .await?;
        let (view, routers) = whole(self.stage).await?;
        Ok(self
            .stage
            .say(&format!("both builds are members, and the list changes; {}", checks::agreed(&view, &routers)?))?)
    }
}

/// All founders vote and answer, and every router holds the committed list.
async fn whole(stage: &mut Stage) -> anyhow::Result<(ClusterView, Routers)> {
    until(STEP_DEADLINE, async || {
        let view = stage.cluster().await?;
        checks::formed(&view, usize::from(CONTROLLERS))?;
        agreed(&stage.layout, view).await
    })
    .await
}

/// Every router holds the list that is committed in this view.
async fn agreed(layout: &Layout, view: ClusterView) -> anyhow::Result<(ClusterView, Routers)> {
    let mut routers = Routers::new();
    for number in 1..=layout.routers {
        routers.insert(Unit::Router(number).to_string(), observe::router(layout, number).await?);
    }
    checks::agreed(&view, &routers)?;
    Ok((view, routers))
}

/// Who is upgraded when: half of the routers, the followers, the leader, the other routers.
fn order(layout: &Layout, leader: Option<u64>) -> Vec<Unit> {
    let early = layout.routers.div_ceil(2);
    let leads = |number: &u16| Some(u64::from(*number)) == leader;
    let followers = layout.founders().filter(|number| !leads(number));
    let controllers = followers.chain(layout.founders().filter(leads)).map(Unit::Controller);
    let routers = |range: std::ops::RangeInclusive<u16>| range.map(Unit::Router);
    routers(1..=early).chain(controllers).chain(routers(early + 1..=layout.routers)).collect()
}

fn more_than(load: &Prober, count: usize) -> anyhow::Result<()> {
    anyhow::ensure!(load.count() > count, "{} writes were acknowledged, more than {count} are expected", load.count());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_routers_come_first_and_the_leader_is_the_last_controller() {
        let layout =
            |routers| Layout { folder: PathBuf::new(), base_port: 20_000, controllers: 3, routers, secure: true };
        let names = |routers, leader| order(&layout(routers), leader).iter().map(Unit::to_string).collect::<Vec<_>>();
        assert_eq!(names(2, Some(1)), ["router-1", "controller-2", "controller-3", "controller-1", "router-2"]);
        assert_eq!(names(1, Some(3)), ["router-1", "controller-1", "controller-2", "controller-3"]);
    }
}
