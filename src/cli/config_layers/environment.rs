//! `PILOTHOUSE_LISTEN__PEER=…` as the key `listen.peer`. It does not know which keys exist.

use figment::value::Value;

use super::LoadError;

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "PILOTHOUSE_";
/// Variables that are not configuration keys: the operators' commands read them.
const NOT_KEYS: [&str; 4] = ["PILOTHOUSE_ENDPOINT", "PILOTHOUSE_TIMEOUT", "PILOTHOUSE_CONFIG", "PILOTHOUSE_INSECURE"];

/// This process's variables that begin with `PILOTHOUSE_`.
///
/// # Errors
/// [`LoadError::NotUnicode`].
pub fn variables() -> Result<Vec<(String, String)>, LoadError> {
    let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    ours.filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(variable, value)| match value.into_string() {
            Ok(value) => Ok((variable, value)),
            Err(_) => Err(LoadError::NotUnicode { variable }),
        })
        .collect()
}

/// The dotted key that a variable sets, or `None` when it is none of a configuration's.
pub(super) fn key(variable: &str) -> Option<String> {
    let name = variable.strip_prefix(PREFIX).filter(|name| !name.is_empty() && !NOT_KEYS.contains(&variable))?;
    Some(name.to_ascii_lowercase().replace("__", "."))
}

/// A variable's value: `true`, numbers, `["a", "b"]` and `"quoted"` as in TOML; anything else is a text.
pub(super) fn value(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_underscores_nest() {
        assert_eq!(key("PILOTHOUSE_DATA_DIR").as_deref(), Some("data_dir"));
        assert_eq!(key("PILOTHOUSE_RAFT__HEARTBEAT_MS").as_deref(), Some("raft.heartbeat_ms"));
    }

    #[test]
    fn variables_of_the_commands_are_no_keys() {
        assert_eq!(key("PILOTHOUSE_ENDPOINT"), None);
        assert_eq!(key("PILOTHOUSE_"), None);
        assert_eq!(key("OTHER"), None);
    }
}
