//! The tour: the main job, unattended, in steps that are each checked. One step, one function; what a step must have
//! brought about is judged by a pure function of [`checks`] on what the public interfaces answer.

mod agree;
mod change;
pub(crate) mod checks;
mod failover;
mod files;
mod form;
mod imposter;
mod members;
mod stranded;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::LocalBoxFuture;

use super::layout::{RouterChoice, Unit};
use super::observe;
use super::stage::Stage;
use super::summary;
use super::view::{ClusterView, Offers, RouterSelf};

/// Fewest controllers: one is killed, and the others must still be a majority.
pub(crate) const CONTROLLERS_MIN: u16 = 3;
/// How many controllers replace the whole cluster while a router is away.
pub(crate) const REPLACEMENTS: u16 = 3;
/// Controllers that join during the tour: the fourth, and those that replace all others.
pub(crate) const EXTRA_CONTROLLERS: u16 = 1 + REPLACEMENTS;
/// The whole tour. It takes a third of this on two cores.
const TOUR_DEADLINE: Duration = Duration::from_secs(60);

/// A step: brings something about, checks it, and says what it saw.
type Step = for<'a> fn(&'a mut Tour<'_>) -> LocalBoxFuture<'a, anyhow::Result<String>>;

const STEPS: &[(&str, Step)] = &[
    ("a cluster forms", |tour| Box::pin(form::form(tour))),
    ("routers register and hold the list", |tour| Box::pin(form::register(tour))),
    ("the leader is killed, and writes go on", |tour| Box::pin(failover::fail_over(tour))),
    ("another controller joins as a learner", |tour| Box::pin(members::join(tour))),
    ("it is promoted, and every router sees it", |tour| Box::pin(members::promote(tour))),
    ("a controller is removed", |tour| Box::pin(members::remove(tour))),
    ("a router restarts with an emptied list file", |tour| Box::pin(files::emptied(tour))),
    ("a router restarts with a corrupt list file", |tour| Box::pin(files::corrupt(tour))),
    ("a router restarts, and every controller that it knew is gone", |tour| Box::pin(stranded::replaced(tour))),
    ("a router is offered an empty list", |tour| Box::pin(imposter::empty_list(tour))),
    ("every router holds the committed list", |tour| Box::pin(agree::agree(tour))),
];

/// A tour under way.
pub(crate) struct Tour<'a> {
    /// What runs.
    stage: &'a mut Stage,
    /// Member ids by the number of the controller.
    members: BTreeMap<u16, u64>,
    /// What was offered to routers in the runs that are over.
    offers: Offers,
    /// How many runs of routers were counted.
    router_runs: usize,
}

/// Goes through all steps.
///
/// # Errors
/// The step that did not hold, and what was seen instead.
pub(crate) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let members = stage.layout.founders().map(|number| (number, u64::from(number))).collect();
    let mut tour = Tour { stage, members, offers: Offers::default(), router_runs: 0 };
    let walked = tokio::time::timeout(TOUR_DEADLINE, walk(&mut tour)).await;
    let walked = walked.with_context(|| format!("the tour was not over after {TOUR_DEADLINE:?}")).flatten();
    // A child that ended by itself is often why a step did not hold.
    for (_, sentence) in stage.obituaries().await {
        stage.say(&sentence)?;
    }
    walked
}

async fn walk(tour: &mut Tour<'_>) -> anyhow::Result<()> {
    for (number, (name, step)) in (1..).zip(STEPS) {
        tour.stage.say(&format!("{number:>2}/{} {name}", STEPS.len()))?;
        let saw = step(tour).await.with_context(|| format!("step {number} did not hold: {name}"))?;
        tour.stage.say(&format!("      {saw}"))?;
        let ended: Vec<String> = tour.stage.obituaries().await.into_iter().map(|(_, told)| told).collect();
        anyhow::ensure!(ended.is_empty(), "these ended by themselves: {}", ended.join("\n"));
    }
    checks::offered(&tour.offers)?;
    let text = format!("\nall {} steps held\n{}", STEPS.len(), summary::offers(&tour.offers, tour.router_runs));
    Ok(tour.stage.print(&text)?)
}

impl Tour<'_> {
    /// The cluster as any controller reports it.
    async fn cluster(&mut self) -> anyhow::Result<ClusterView> {
        self.stage.cluster().await
    }

    /// What a router says of itself.
    async fn router(&self, number: u16) -> anyhow::Result<RouterSelf> {
        observe::router(&self.stage.layout, number).await
    }

    /// The numbers of all routers.
    fn routers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.stage.layout.routers
    }

    /// What all routers say of themselves, by name.
    async fn selves(&self) -> anyhow::Result<BTreeMap<String, RouterSelf>> {
        let mut selves = BTreeMap::new();
        for number in self.routers() {
            selves.insert(Unit::Router(number).to_string(), self.router(number).await?);
        }
        Ok(selves)
    }

    /// The number of a member.
    fn number_of(&self, id: u64) -> anyhow::Result<u16> {
        let found = self.members.iter().find(|(_, member)| **member == id);
        found.map(|(number, _)| *number).with_context(|| format!("controller {id} is none of this tour's"))
    }

    /// Counts what was offered to a router, which is about to lose its counters.
    async fn count_offers(&mut self, number: u16) -> anyhow::Result<()> {
        self.offers = self.offers.clone().plus(&self.router(number).await?.offers);
        self.router_runs += 1;
        Ok(())
    }

    /// Stops a router in order, after counting what it was offered.
    async fn stop_router(&mut self, number: u16) -> anyhow::Result<()> {
        self.count_offers(number).await?;
        let obeyed = self.stage.children.stop(Unit::Router(number)).await?;
        anyhow::ensure!(obeyed, "router-{number} had to be killed");
        Ok(())
    }

    /// A choice of seeds that is all members that there are.
    fn choice_of_members(&self, sessions: usize) -> RouterChoice {
        RouterChoice { seeds: self.members.keys().copied().collect(), sessions }
    }
}
