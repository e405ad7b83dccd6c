//! The incident, side by side: a router without the guards and ours, on the same cluster, go through the same four steps.
//!
//! ```text
//! unguarded ── the other router     verdict ── whether it is what it should be (pure)     columns ── how it looks (pure)
//! ```
//!
//! Our own controllers can send no empty list. Who does is the demo's imposter, which takes the port and the certificate
//! of a controller that was stopped, as if an upgrade had made that of it.

mod columns;
mod unguarded;
mod verdict;

use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::columns::{Entry, Side};
use self::unguarded::{Configuration, Seen, Unguarded};
use self::verdict::{Observations, Ours, Start, Theirs};
use super::CONTROLLERS;
use crate::cli::demo::imposter::{Claim, Imposter};
use crate::cli::demo::layout::{self, RouterChoice, Unit};
use crate::cli::demo::stage::Stage;
use crate::cli::demo::tour::checks;
use crate::cli::demo::view::{ClusterView, RouterSelf};
use crate::cli::demo::wait::until;
use crate::cli::demo::{credentials, observe};

/// The whole story. It takes a tenth of this on two cores.
const STORY_DEADLINE: Duration = Duration::from_secs(90);
/// From the beginning of a step to what it brings about: elections and restarts on a busy machine.
const STEP_DEADLINE: Duration = Duration::from_secs(20);
/// Which of our routers it happens to.
const OURS: u16 = 1;
/// The name of the other one.
const THEIRS: &str = layout::names::UNGUARDED;

/// Every controller is a seed, and each router has a session with all of them, the imposter included.
pub(crate) fn choice() -> RouterChoice {
    RouterChoice { seeds: (1..=CONTROLLERS).collect(), sessions: usize::from(CONTROLLERS) }
}

/// Tells the whole story, and judges it.
///
/// # Errors
/// What did not happen as it should have.
pub(crate) async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    stage.print(&format!(
        "\n{}",
        columns::heading("THE ROUTER OF 1.3.1 (reconstructed)", &format!("OURS ({})", Unit::Router(OURS)))
    ))?;
    let seen = Story { stage, lines_told: 0, entries: Vec::new() }.told().await?;
    let said = verdict::verdict(&seen).context("the story did not end as it should")?;
    Ok(stage.print(&format!("\nverdict: {said}\n"))?)
}

struct Story<'a> {
    stage: &'a mut Stage,
    /// Lines of the other router's log that were told.
    lines_told: usize,
    /// What happened in this step and was not told yet.
    entries: Vec<Entry>,
}

/// What both were when they were served.
struct Served {
    view: ClusterView,
    theirs: Seen,
    ours: RouterSelf,
}

/// A controller after its upgrade.
struct Upgraded {
    number: u16,
    claim: Claim,
    imposter: Imposter,
}

impl Story<'_> {
    async fn told(mut self) -> anyhow::Result<Observations> {
        let seen = tokio::time::timeout(STORY_DEADLINE, self.steps()).await;
        // What was seen before a step failed is told with it.
        self.tell(None)?;
        seen.with_context(|| format!("the story was not over after {STORY_DEADLINE:?}"))?
    }

    async fn steps(&mut self) -> anyhow::Result<Observations> {
        self.begin("1/4  both routers are served by a cluster of three")?;
        let configuration = self.configuration()?;
        let router = Unguarded::start(&configuration).map_err(anyhow::Error::msg)?;
        let served = self.served(&router).await?;
        let mut upgraded = self.upgrade().await?;
        self.begin("3/4  it sends its routers an empty list with a large index")?;
        let (stranded, nack, kept) = self.empty_list(&served, &router, &mut upgraded).await?;
        self.begin("4/4  both routers are started again")?;
        drop(router);
        let restarted = self.start_theirs(&configuration)?;
        let back = self.restart_ours(&kept, &upgraded).await?;
        let (after, moved_on) = self.put_right(&served, &upgraded.claim, upgraded.number, upgraded.imposter).await?;
        let end = self.start_theirs(&configuration)?;
        Ok(Observations {
            before: served.view,
            upgraded: upgraded.claim.controller_id,
            empty_index: upgraded.claim.flat_index(),
            after,
            theirs: Theirs { served: served.theirs, offered: stranded, restarted, end },
            ours: Ours { served: served.ours, nack, offered: kept, restarted: back, end: moved_on },
        })
    }

    /// What the other router is started with, each time: all that our router's configuration names.
    fn configuration(&self) -> anyhow::Result<Configuration> {
        let layout = &self.stage.layout;
        let folder = layout.folder.join(THEIRS);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let seed = |number| layout.endpoint(layout.ports(number).router).to_string();
        Ok(Configuration {
            id: THEIRS.to_owned(),
            seeds: layout.founders().map(seed).collect(),
            saved: folder.join("controllers"),
            security: credentials::of_router(layout, THEIRS)?,
        })
    }

    async fn served(&mut self, router: &Unguarded) -> anyhow::Result<Served> {
        let (served, their, our) = until(STEP_DEADLINE, async || {
            let view = self.stage.cluster().await?;
            checks::formed(&view, usize::from(CONTROLLERS))?;
            let (theirs, ours) = (router.seen(), observe::router(&self.stage.layout, OURS).await?);
            let their = verdict::they_are_served(&view, &theirs).context("the router of 1.3.1")?;
            let our = verdict::we_are_served(&view, &ours).context("our router")?;
            Ok((Served { view, theirs, ours }, their, our))
        })
        .await?;
        self.happened(Side::Left, &their);
        self.happened(Side::Right, &our);
        self.tell(Some(router))?;
        Ok(served)
    }

    /// A follower is stopped, and an imposter takes its place.
    async fn upgrade(&mut self) -> anyhow::Result<Upgraded> {
        let status = self.stage.admin().await?.status().await?;
        let follower = self.stage.layout.founders().find(|number| u64::from(*number) != status.leader);
        let number = follower.context("every controller leads")?;
        let unit = Unit::Controller(number);
        self.begin(&format!("2/4  {unit} is upgraded"))?;
        self.stage.asked.remove(&number);
        self.stage.reconnect();
        self.stage.children.stop(unit).await?;
        // The member's own certificate: whether a router sees through it is up to the router alone.
        let security = credentials::as_controller(&self.stage.layout, number)?;
        let claim = Claim { controller_id: u64::from(number), cluster_id: status.cluster_id, epoch: status.epoch };
        let imposter = Imposter::start(self.stage.layout.ports(number).router, claim.clone(), security).await?;
        Ok(Upgraded { number, claim, imposter })
    }

    async fn empty_list(
        &mut self,
        served: &Served,
        router: &Unguarded,
        upgraded: &mut Upgraded,
    ) -> anyhow::Result<(Seen, String, RouterSelf)> {
        let answer = tokio::time::timeout(STEP_DEADLINE, upgraded.imposter.answers.recv()).await;
        let nack = answer.context("our router did not answer the empty list")?.context("the imposter ended")?;
        // It counts its refusal a moment after it has sent it.
        let (offered, said) = until(STEP_DEADLINE, async || {
            let now = observe::router(&self.stage.layout, OURS).await?;
            let said = verdict::kept(&served.ours, &nack, &now).context("our router")?;
            Ok((now, said))
        })
        .await?;
        self.happened(Side::Right, &said);
        let (stranded, said) = until(STEP_DEADLINE, async || {
            let seen = router.seen();
            let said = verdict::stranded(&served.theirs, upgraded.claim.flat_index(), &seen);
            said.map(|said| (seen, said)).context("the router of 1.3.1")
        })
        .await?;
        self.happened(Side::Left, &said);
        self.tell(Some(router))?;
        Ok((stranded, nack, offered))
    }

    /// Its operator starts the other router again, with the same configuration and what it saved.
    fn start_theirs(&mut self, configuration: &Configuration) -> anyhow::Result<Start> {
        let start = match Unguarded::start(configuration) {
            Ok(_) => Start::Runs,
            Err(why) => Start::Refused(why),
        };
        self.happened(Side::Left, &verdict::refused(&start).context("the router of 1.3.1")?);
        Ok(start)
    }

    async fn restart_ours(&mut self, kept: &RouterSelf, upgraded: &Upgraded) -> anyhow::Result<RouterSelf> {
        self.stage.children.stop(Unit::Router(OURS)).await?;
        self.stage.start_router(OURS, &choice())?;
        let (back, said) = until(STEP_DEADLINE, async || {
            let ours = observe::router(&self.stage.layout, OURS).await?;
            let said = verdict::back(kept, upgraded.claim.controller_id, &ours).context("our router")?;
            Ok((ours, said))
        })
        .await?;
        self.happened(Side::Right, &said);
        self.tell(None)?;
        Ok(back)
    }

    /// The upgraded controller is replaced by what it was, and a fourth one joins: there is a new list.
    async fn put_right(
        &mut self,
        served: &Served,
        claim: &Claim,
        number: u16,
        imposter: Imposter,
    ) -> anyhow::Result<(ClusterView, RouterSelf)> {
        let joins = CONTROLLERS + 1;
        self.begin(&format!(
            "     then {} is put right, and {} joins",
            Unit::Controller(number),
            Unit::Controller(joins)
        ))?;
        drop(imposter);
        self.stage.start_controller(number, layout::Entry::Founds)?;
        let whole = async || checks::formed(&self.stage.cluster().await?, usize::from(CONTROLLERS));
        until(STEP_DEADLINE, whole).await.with_context(|| format!("controller {} is back", claim.controller_id))?;
        self.stage.add(joins).await?;
        let (view, ours, said) = until(STEP_DEADLINE, async || {
            let view = self.stage.cluster().await?;
            verdict::all_answer(&view)?;
            let ours = observe::router(&self.stage.layout, OURS).await?;
            let said = verdict::moved_on(&served.ours, &view, &ours).context("our router")?;
            Ok((view, ours, said))
        })
        .await?;
        self.happened(Side::Right, &said);
        Ok((view, ours))
    }

    fn begin(&self, step: &str) -> anyhow::Result<()> {
        Ok(self.stage.print(&format!("     {step}\n"))?)
    }

    fn happened(&mut self, side: Side, what: &str) {
        self.entries.push(Entry { at: self.stage.since_start(Instant::now()), side, what: what.to_owned() });
    }

    /// Prints what happened in this step, with what the other router logged meanwhile.
    fn tell(&mut self, router: Option<&Unguarded>) -> anyhow::Result<()> {
        let log = router.map(|router| router.seen().log).unwrap_or_default();
        for (at, what) in log.iter().skip(self.lines_told) {
            self.entries.push(Entry { at: self.stage.since_start(*at), side: Side::Left, what: what.clone() });
        }
        self.lines_told = log.len();
        let entries = std::mem::take(&mut self.entries);
        Ok(self.stage.print(&columns::rows(entries))?)
    }
}
