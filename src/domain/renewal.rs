//! When a certificate is renewed: long before it ends, and not all at once.
//!
//! Half-way is what SPIRE's agents do; a fleet that was enrolled in one hour is spread over a tenth of the lifetime.
//! Time and randomness are arguments.

/// Seconds since 1970 from which a certificate is to be renewed, from a `random` number that the caller drew uniformly over
/// all of `u32`: between 40 and 50 hundredths of its lifetime. One that ends before it begins is due at its beginning.
#[must_use]
pub fn due(not_before: i64, not_after: i64, random: u32) -> i64 {
    let lifetime = i128::from(not_after.saturating_sub(not_before).max(0));
    let into = lifetime * 4 / 10 + lifetime / 10 * i128::from(random) / i128::from(u32::MAX);
    not_before.saturating_add(i64::try_from(into).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn a_certificate_of_ninety_days_is_renewed_between_day_36_and_day_45() {
        assert_eq!(due(1_000, 1_000 + 90 * DAY, 0), 1_000 + 36 * DAY);
        assert_eq!(due(1_000, 1_000 + 90 * DAY, u32::MAX), 1_000 + 45 * DAY);
    }

    proptest! {
        #[test]
        fn it_is_due_within_its_life_and_before_its_second_half(from: i64, until: i64, random: u32) {
            let due = due(from, until, random);
            prop_assert!(due >= from);
            if until >= from {
                let (into, left) = (i128::from(due) - i128::from(from), i128::from(until) - i128::from(due));
                prop_assert!(into <= left);
            }
        }
    }
}
