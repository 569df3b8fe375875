//! Wall time, read here alone.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// RFC 3339 in UTC, whole seconds: `2026-11-24T16:00:00Z`.
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// The same for seconds of Unix time.
pub fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "a day that can't be written".into(), rfc3339)
}

/// RFC 3339 in UTC with milliseconds, for many lines: what is the same for a whole second is made
/// once.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// Unix time.
    second: i64,
    text: String,
    /// How much of the text is the second's.
    whole: usize,
}

impl Stamp {
    /// Now: `2026-11-24T16:00:00.123Z`.
    pub(super) fn now(&mut self) -> &str {
        self.at(Timestamp::now())
    }

    fn at(&mut self, time: Timestamp) -> &str {
        if self.text.is_empty() || self.second != time.as_second() {
            self.second = time.as_second();
            self.text = rfc3339(time);
            self.text.truncate(self.text.len().saturating_sub("Z".len()));
            self.whole = self.text.len();
        }
        self.text.truncate(self.whole);
        // Writing to a String does not fail.
        let _ = write!(self.text, ".{:03}Z", time.subsec_millisecond());
        &self.text
    }
}

/// Now as an IMF-fixdate (RFC 9110 §5.6.7).
pub fn imf_fixdate() -> String {
    // Only a year beyond 9999 cannot be printed.
    DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_follows_the_clock() {
        let mut stamp = Stamp::default();
        for time in ["2026-11-24T16:00:00.007Z", "2026-11-24T16:00:00.999Z", "2026-12-31T23:59:59.000Z"] {
            assert_eq!(stamp.at(time.parse().unwrap()), time);
        }
    }
}
