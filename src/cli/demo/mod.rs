//! `pilothouse demo`: a whole cluster and its routers as child processes on this host, the tour that shows what they
//! promise, and scenarios that tell one story each.
//!
//! It is a user of the product like any other: what it knows, it asks the public interfaces.
//!
//! ```text
//! home ── folder, lock, ports     layout ── names, ports, folders, configurations (pure)
//! credentials ── certificates     children, log ── processes, and their logs, bounded
//! observe, http ── asks           view ──── what was answered (plain values)
//! narrate ── view, view -> sentences (pure)      tour, scenario ── the steps and their checks
//! imposter ─ a controller that went bad           prober ── writes, and when they were acknowledged
//! ```

mod change;
mod children;
mod credentials;
mod home;
mod http;
mod imposter;
mod layout;
mod log;
mod narrate;
mod observe;
mod prober;
mod scenario;
mod stage;
mod stop;
mod summary;
mod tour;
mod view;
mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::exit::ExitStatus;
use super::failure::Failure;
use children::Children;
use home::{Home, Wish};
use layout::{BASE_PORT_END, BASE_PORT_MIN, CONTROLLERS_MAX, ROUTERS_MAX, Unit};
pub use scenario::Scenario;
use scenario::Story;
use stage::Stage;
use stop::StopSignals;
use view::ClusterView;

/// A child that ended by itself, or was killed by whoever tries things out, is away for this long: several elections.
/// The demo starts it again itself, so that nothing runs which it does not stop in the end.
const REVIVED_AFTER: Duration = Duration::from_secs(10);
/// How often the demo looks at what happens.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// How many controllers found the cluster
    #[arg(long, value_name = "COUNT", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(CONTROLLERS_MAX)))]
    pub controllers: u16,
    /// How many routers register
    #[arg(long, value_name = "COUNT", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(0..=i64::from(ROUTERS_MAX)))]
    pub routers: u16,
    /// Keep everything here [default: a temporary folder that goes when the demo ends]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Controller i has the ports P+10i to P+10i+3, router j has P+500+j [default: free ones]
    #[arg(long, value_name = "P",
          value_parser = clap::value_parser!(u16).range(i64::from(BASE_PORT_MIN)..i64::from(BASE_PORT_END)))]
    pub base_port: Option<u16>,
    /// Plain text instead of TLS with certificates from an authority in the data directory
    #[arg(long)]
    pub insecure: bool,
    /// Show the main job unattended, check every step, and end: 0 only if all of them held
    #[arg(long)]
    pub tour: bool,
    /// Tell one story unattended, judge it, and end: 0 only if it ended as it should
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "tour")]
    pub scenario: Option<Scenario>,
    /// What `--scenario rolling-upgrade` begins with [default: what `.ci/compat.sh` built in this checkout]
    #[arg(long, value_name = "BINARY", requires = "scenario")]
    pub older: Option<PathBuf>,
}

/// What a demo shows.
#[derive(Debug, Clone)]
enum Show {
    /// What happens, until it is told to end.
    Life,
    /// The steps of the tour.
    Tour,
    /// A story.
    Story(Story),
}

/// Runs a demo until it is told to end, or what it shows is over. Leaves no process and no temporary file behind.
///
/// # Errors
/// [`Failure`] when the demo cannot begin, or something did not happen as it should have.
pub async fn run(arguments: &DemoArguments) -> Result<ExitStatus, Failure> {
    let own = std::env::current_exe().context("find this program's file")?;
    let what = arguments.show(&own)?;
    what.fits(arguments)?;
    let mut signals = StopSignals::catch()?;
    let home = Home::settle(&wish(arguments, &what))?;
    let children = Children::new(own);
    let called = std::env::args().next().unwrap_or_else(|| "pilothouse".to_owned());
    let mut stage = Stage::new(home.layout.clone(), children, called);
    let shown = tokio::select! {
        shown = show(&mut stage, &what) => shown,
        () = signals.next() => what.asked_to_end(),
    };
    end(&mut stage, &home, &mut signals).await;
    home.leave()?;
    shown.map(|()| ExitStatus::Done).map_err(Failure::from)
}

impl DemoArguments {
    fn show(&self, own: &Path) -> Result<Show, Failure> {
        Ok(match (self.tour, self.scenario) {
            (true, _) => Show::Tour,
            (false, Some(scenario)) => Show::Story(scenario.story(self.older.as_deref(), own)?),
            (false, None) => Show::Life,
        })
    }
}

impl Show {
    /// Whether there are as many controllers and routers as it needs.
    fn fits(&self, arguments: &DemoArguments) -> Result<(), Failure> {
        let DemoArguments { controllers, routers, .. } = *arguments;
        let wrong = match self {
            Self::Tour if controllers < tour::CONTROLLERS_MIN || routers < 1 => {
                let least = tour::CONTROLLERS_MIN;
                format!("the tour kills a controller, so it needs at least {least} of them, and a router")
            }
            Self::Story(_) if controllers != scenario::CONTROLLERS || routers < 1 => {
                format!("a scenario is about {} controllers, and a router", scenario::CONTROLLERS)
            }
            Self::Life | Self::Tour | Self::Story(_) => return Ok(()),
        };
        Err(Failure::usage(wrong).hint("leave --controllers and --routers out"))
    }

    /// How many controllers may join meanwhile.
    const fn extra(&self) -> u16 {
        match self {
            Self::Life => 0,
            Self::Tour => tour::EXTRA_CONTROLLERS,
            Self::Story(_) => scenario::EXTRA_CONTROLLERS,
        }
    }

    /// A demo that was asked to end has done its work; a tour or a story has not.
    fn asked_to_end(&self) -> anyhow::Result<()> {
        anyhow::ensure!(matches!(self, Self::Life), "it was asked to end before its last step");
        Ok(())
    }
}

fn wish(arguments: &DemoArguments, what: &Show) -> Wish {
    Wish {
        folder: arguments.data_dir.clone(),
        base_port: arguments.base_port,
        controllers: arguments.controllers,
        routers: arguments.routers,
        secure: !arguments.insecure,
        extra: what.extra(),
        fresh: !matches!(what, Show::Life),
    }
}

async fn show(stage: &mut Stage, what: &Show) -> anyhow::Result<()> {
    let choice = match what {
        Show::Story(story) => story.begin(stage),
        Show::Life | Show::Tour => stage.layout.usual_choice(),
    };
    stage.open(&choice)?;
    stage.print(&summary::listeners(&stage.layout))?;
    match what {
        Show::Tour => tour::run(stage).await,
        Show::Story(story) => story.run(stage).await,
        Show::Life => {
            stage.print(&format!("\n{}", summary::suggestions(&stage.layout, &stage.program)))?;
            tell(stage).await
        }
    }
}

/// Tells what happens, for ever, and starts again whatever ends.
async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    let mut seen = ClusterView::default();
    let mut answered = true;
    let mut gone: BTreeMap<Unit, Instant> = BTreeMap::new();
    loop {
        for (unit, sentence) in stage.obituaries().await {
            stage.say(&sentence)?;
            gone.insert(unit, Instant::now());
        }
        while let Some((unit, _)) = gone.iter().find(|(_, since)| since.elapsed() >= REVIVED_AFTER) {
            let unit = *unit;
            gone.remove(&unit);
            stage.say(&format!("{unit} is started again"))?;
            stage.start_again(unit)?;
        }
        match stage.cluster().await {
            Ok(now) => {
                for sentence in narrate::sentences(&seen, &now) {
                    stage.say(&sentence)?;
                }
                (seen, answered) = (now, true);
            }
            // Before the first answer there is nothing to miss.
            Err(error) if answered && seen != ClusterView::default() => {
                stage.say(&format!("no controller answers, routers keep their lists: {error}"))?;
                answered = false;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Stops all children; a second signal ends them at once.
async fn end(stage: &mut Stage, home: &Home, signals: &mut StopSignals) {
    let count = stage.children.units().len();
    // Whether anybody still reads is of no matter here.
    let _ = stage.say(&format!("stopping {count} processes"));
    let killed = tokio::select! {
        killed = stage.children.stop_all() => killed,
        () = signals.next() => {
            let left = stage.children.units();
            stage.children.kill_all().await;
            left
        }
    };
    let names: Vec<String> = killed.iter().map(Unit::to_string).collect();
    let how = if names.is_empty() { "all ended in order".to_owned() } else { format!("killed: {}", names.join(", ")) };
    let rest = match home.is_temporary() {
        true => "their folder is removed".to_owned(),
        false => format!("their folder stays: {}", stage.layout.folder.display()),
    };
    let _ = stage.say(&format!("{how}; {rest}"));
}
