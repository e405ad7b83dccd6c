//! `config show`.

use serde::Serialize;

use super::table::Table;
use super::value::toml_text;
use crate::cli::config_layers::Setting;
use crate::cli::console::Tone;

/// The resulting values, as `config show -o json` prints them.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// `controller` or `router`.
    pub role: &'static str,
    /// Every key, ordered.
    pub settings: Vec<Shown>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Dotted key.
    pub key: String,
    /// `null` when it is not set.
    pub value: Option<figment::value::Value>,
    /// `default`, `FILE:LINE`, `environment VARIABLE` or `flag --FLAG`.
    pub origin: String,
}

impl Settings {
    /// The view.
    #[must_use]
    pub fn of(role: &'static str, settings: &[Setting]) -> Self {
        let shown = settings.iter().map(|setting| Shown {
            key: setting.key.clone(),
            value: setting.value.clone(),
            origin: setting.origin.to_string(),
        });
        Self { role, settings: shown.collect() }
    }
}

/// As TOML: what is not set is a comment.
#[must_use]
pub fn plain(settings: &Settings) -> String {
    let line = |shown: &Shown| match &shown.value {
        Some(value) => format!("{} = {}\n", shown.key, toml_text(value)),
        None => format!("# {} is not set\n", shown.key),
    };
    settings.settings.iter().map(line).collect()
}

/// With the origin of each value.
#[must_use]
pub fn with_origins(settings: &Settings, colour: bool) -> String {
    let mut table = Table::new(&["KEY", "VALUE", "ORIGIN"]);
    for shown in &settings.settings {
        let value = shown.value.as_ref().map_or_else(|| "(not set)".into(), toml_text);
        table.row(Tone::Plain, vec![shown.key.clone(), value, shown.origin.clone()]);
    }
    table.render(colour)
}
