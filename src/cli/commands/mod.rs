//! What each command does: load, ask, print. Decisions are elsewhere.

mod checks;
mod cluster;
mod config;
mod configured;
mod conformance;
mod controller;
mod daemon;
mod enroll;
mod events;
mod health;
mod join;
mod man;
mod new_config;
mod pki;
mod prepare;
mod reach;
mod router;
mod routers;
mod token;
mod upgrade;

use std::future::Future;

use clap::CommandFactory;

use super::arguments::{Arguments, Command};
use super::console::Console;
use super::demo;
use super::exit::ExitStatus;
use super::failure::Failure;

/// Carries out a command.
///
/// # Errors
/// [`Failure`], which says why and what to do.
pub fn dispatch(command: Command, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        Command::Controller(command) => controller::dispatch(command, console),
        Command::Router(command) => router::dispatch(command, console),
        Command::Cluster(command) => wait_for(cluster::dispatch(command, console)),
        Command::Routers(command) => wait_for(routers::dispatch(command, console)),
        Command::Events(arguments) => wait_for(events::dispatch(arguments, console)),
        Command::Token(command) => wait_for(token::dispatch(command, console)),
        Command::Config(command) => config::dispatch(command, console),
        Command::Pki(command) => pki::dispatch(command, console),
        Command::Health(asked) => wait_for(health::ask(&asked, console)),
        Command::Conformance(command) => wait_for(conformance::dispatch(command, console)),
        Command::Demo(arguments) => wait_for(demo::run(&arguments)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "pilothouse", &mut script);
            console.data(&String::from_utf8_lossy(&script))?;
            Ok(ExitStatus::Done)
        }
        Command::Man { dir, epoch } => man::write(&dir, epoch, console),
    }
}

/// Runs a command that asks over the network, on this thread.
fn wait_for(command: impl Future<Output = Result<ExitStatus, Failure>>) -> Result<ExitStatus, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
