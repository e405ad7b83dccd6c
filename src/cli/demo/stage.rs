//! What a running demo consists of: its layout, its children, and the voice in which it tells what happens.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::children::Children;
use super::credentials;
use super::layout::{Entry, Layout, RouterChoice, Unit};
use super::observe;
use super::view::ClusterView;
use crate::rpc::client::AdminClient;
use crate::tls::Security;

/// How many lines of its log are shown of a child that ended by itself.
const LAST_LINES: usize = 5;
/// As wide as the time before each sentence.
const INDENT: &str = "          ";

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where everything is.
    pub(crate) layout: Layout,
    /// The processes.
    pub(crate) children: Children,
    /// Controllers that can be asked: they run, and they are or will be members.
    pub(crate) asked: BTreeSet<u16>,
    /// How the user called this program.
    pub(crate) program: String,
    /// How controllers are asked.
    pub(crate) security: Security,
    client: Option<AdminClient>,
    began: Instant,
}

impl Stage {
    /// Nothing runs yet.
    pub(crate) fn new(layout: Layout, children: Children, program: String) -> Self {
        let (asked, security) = (BTreeSet::new(), Security::default());
        Self { layout, children, asked, program, security, client: None, began: Instant::now() }
    }

    /// Starts the founders and the routers, each with its certificate.
    pub(crate) fn open(&mut self, choice: &RouterChoice) -> anyhow::Result<()> {
        self.security = credentials::prepare(&self.layout)?;
        // All of them before the first process: the founders wait for each other.
        self.layout.units().into_iter().try_for_each(|unit| credentials::of_unit(&self.layout, unit))?;
        self.write_client_config(self.layout.founders())?;
        for unit in self.layout.units() {
            match unit {
                Unit::Controller(number) => self.start_controller(number, Entry::Founds)?,
                Unit::Router(number) => self.start_router(number, choice)?,
            }
        }
        Ok(())
    }

    /// Writes what other programs need to ask these controllers.
    pub(crate) fn write_client_config(&self, controllers: impl IntoIterator<Item = u16>) -> anyhow::Result<()> {
        let path = self.layout.client_config_path();
        let written = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(&path, self.layout.client_config(controllers))
        };
        written().with_context(|| format!("write {}", path.display()))
    }

    /// Configures and starts a controller.
    pub(crate) fn start_controller(&mut self, number: u16, entry: Entry) -> anyhow::Result<()> {
        let unit = Unit::Controller(number);
        credentials::of_unit(&self.layout, unit)?;
        Children::configure(&self.layout, unit, &self.layout.controller_config(number, entry))?;
        self.children.start(&self.layout, unit)?;
        if entry == Entry::Founds {
            self.asked.insert(number);
        }
        Ok(())
    }

    /// Configures and starts a router.
    pub(crate) fn start_router(&mut self, number: u16, choice: &RouterChoice) -> anyhow::Result<()> {
        let unit = Unit::Router(number);
        Children::configure(&self.layout, unit, &self.layout.router_config(number, choice))?;
        self.children.start(&self.layout, unit)
    }

    /// A client of any controller that answers; a new one when `fresh` is asked for.
    pub(crate) async fn admin(&mut self) -> anyhow::Result<&mut AdminClient> {
        if self.client.is_none() {
            self.client = Some(observe::admin(&self.layout, &self.asked, &self.security).await?);
        }
        self.client.as_mut().context("a client was just made")
    }

    /// The cluster as any controller reports it. After an error the next call asks whoever else answers.
    pub(crate) async fn cluster(&mut self) -> anyhow::Result<ClusterView> {
        let seen = observe::cluster(self.admin().await?).await;
        if seen.is_err() {
            self.client = None;
        }
        seen
    }

    /// Forgets whom it was connected to: the next request asks whoever answers.
    pub(crate) fn reconnect(&mut self) {
        self.client = None;
    }

    /// Tells of every child that ended by itself: which, how, and its last words.
    pub(crate) async fn obituaries(&mut self) -> Vec<(Unit, String)> {
        let ended = self.children.ended().await;
        ended.into_iter().map(|(unit, status)| (unit, self.obituary(unit, status))).collect()
    }

    /// Starts a child that has ended, as it was configured.
    pub(crate) fn start_again(&mut self, unit: Unit) -> anyhow::Result<()> {
        self.children.start(&self.layout, unit)
    }

    fn obituary(&self, unit: Unit, status: ExitStatus) -> String {
        let log = std::fs::read_to_string(self.layout.log_of(unit)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter();
        // One that was killed had no time for last words.
        let last = last.filter(|_| status.code().is_some()).map(|line| format!("{INDENT}| {line}"));
        let first = format!("{unit} ended ({status})");
        let told: Vec<String> = std::iter::once(first).chain(last).collect();
        told.join("\n")
    }

    /// How long after the start something happened.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// Says a sentence, with the time since the start.
    pub(crate) fn say(&self, sentence: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{:>6.1} s  {sentence}", self.began.elapsed().as_secs_f64())?;
        out.flush()
    }

    /// Prints a text as it is.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
