//! `token …`

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Reach;
use crate::domain::ids::RouterId;
use crate::domain::principal::RoleKind;

/// `token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token: whoever has it gets one certificate
    ///
    /// The token alone goes to stdout, so that it can be piped. It is shown once: the cluster keeps a hash of it. With
    /// `-o json`: `token`, `role`, `id`, `expires_ms` (milliseconds since 1970).
    Create(Creation),
}

/// `token create`
#[derive(Debug, Args)]
pub struct Creation {
    /// What the certificate will be for: router
    #[arg(long, value_name = "ROLE")]
    pub role: RoleKind,
    /// Whose certificate it will be
    #[arg(long, value_name = "ID")]
    pub id: RouterId,
    /// How long the token is worth something, from 1m to 30d, as in 90s, 15m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// Whom to ask.
    #[command(flatten)]
    pub reach: Reach,
}

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and its unit, as in 90s, 15m, 12h or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let digits = &text[..text.len() - unit.len_utf8()];
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "1", "1w", "-1h", "1.5h", "1 h", "99999999999999999999h", "99999999999999999d", "1µ"] {
            assert!(duration(text).unwrap_err().contains("15m"), "{text}");
        }
    }
}
