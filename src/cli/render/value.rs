//! A configuration's value as it would be written in TOML, on one line.

use figment::value::{Num, Value};

/// The value as TOML.
#[must_use]
pub fn toml_text(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, char) => format!("{:?}", char.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => number_text(*number),
        Value::Empty(..) => "(not set)".into(),
        Value::Dict(_, dict) => {
            let inner: Vec<_> = dict.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(_, list) => {
            let inner: Vec<_> = list.iter().map(toml_text).collect();
            format!("[{}]", inner.join(", "))
        }
    }
}

fn number_text(number: Num) -> String {
    let whole = number.to_u128().map(|n| n.to_string()).or_else(|| number.to_i128().map(|n| n.to_string()));
    whole.or_else(|| number.to_f64().map(|n| n.to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_in_a_file() {
        for text in ["\"a\"", "7", "-7", "true", "[\"a\", \"b\"]", "[{ id = 1, name = \"c\" }]"] {
            assert_eq!(toml_text(&text.parse().unwrap()), text);
        }
    }
}
