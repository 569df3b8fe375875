//! `--since`.

const MINUTE: u64 = 60;
/// As far back as there can be figures.
const MAX_DAYS: u64 = 60;

/// A duration in whole minutes, rounded up: `90s`, `30m`, `1h`, `7d`.
pub(super) fn minutes(text: &str) -> Result<i64, String> {
    let malformed = || format!("`{text}` is no duration such as 90s, 30m, 1h or 7d");
    let unit = text.char_indices().next_back().map(|(at, _)| text.split_at(at)).ok_or_else(malformed)?;
    let (number, unit) = unit;
    let seconds = match unit {
        "s" => 1,
        "m" => MINUTE,
        "h" => 60 * MINUTE,
        "d" => 24 * 60 * MINUTE,
        _ => return Err(malformed()),
    };
    let number: u64 = number.parse().map_err(|_| malformed())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(malformed)?;
    if seconds > MAX_DAYS * 24 * 60 * MINUTE {
        return Err(format!("figures are kept for {MAX_DAYS} days"));
    }
    i64::try_from(seconds.div_ceil(MINUTE)).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_to_minutes() {
        for (text, expected) in [("1s", 1), ("60s", 1), ("90s", 2), ("30m", 30), ("1h", 60), ("60d", 86400)] {
            assert_eq!(minutes(text), Ok(expected), "{text}");
        }
        for text in ["", "1", "h", "0s", "-1h", "1.5h", "61d", "99999999999999999999d", "1ä"] {
            assert!(minutes(text).is_err(), "{text}");
        }
    }
}
