//! `config …`

use std::collections::BTreeSet;
use std::path::Path;

use figment::Provider;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use serde::Serialize;

use super::configured::layered;
use crate::cli::arguments::{ConfigCommand, Output, Role};
use crate::cli::config_layers::Written;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::json;
use crate::cli::render::settings::{Settings, plain, with_origins};
use crate::controller::config::ControllerFile;
use crate::router::config::RouterFile;

pub(super) fn dispatch(command: ConfigCommand, console: Console) -> Result<ExitStatus, Failure> {
    let ConfigCommand::Show(show) = command;
    let role = match show.role {
        Some(role) => role,
        None => told_by_keys(show.config.as_deref())?,
    };
    let settings = match role {
        Role::Controller => layered::<ControllerFile>(show.config.clone(), show.flags.values())?.settings,
        Role::Router => layered::<RouterFile>(show.config.clone(), show.flags.values())?.settings,
    };
    let view = Settings::of(role.as_str(), &settings);
    console.data(&match (show.output.output, show.origin) {
        (Output::Json, _) => json(&view),
        (Output::Table, true) => with_origins(&view, console.out_colour()),
        (Output::Table, false) => plain(&view),
    })?;
    Ok(ExitStatus::Done)
}

/// Whose configuration a file is: whoever knows more of its keys.
fn told_by_keys(file: Option<&Path>) -> Result<Role, Failure> {
    let written = file.and_then(|path| Toml::file_exact(path).data().ok()).unwrap_or_default();
    let written: BTreeSet<String> = written.into_values().flat_map(Dict::into_keys).collect();
    let known = |keys: &BTreeSet<String>| keys.intersection(&written).count();
    match known(&keys(&ControllerFile::defaults())).cmp(&known(&keys(&RouterFile::defaults()))) {
        std::cmp::Ordering::Greater => Ok(Role::Controller),
        std::cmp::Ordering::Less => Ok(Role::Router),
        std::cmp::Ordering::Equal => {
            Err(Failure::usage("whose configuration is it?").hint("add --role controller or --role router"))
        }
    }
}

fn keys<T: Serialize>(written: &T) -> BTreeSet<String> {
    let value = Value::serialize(written).ok();
    value.and_then(Value::into_dict).unwrap_or_default().into_keys().collect()
}
