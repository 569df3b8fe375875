//! Wall time, read here alone.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// RFC 3339 in UTC, whole seconds: `2026-11-24T16:00:00Z`.
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// Now as RFC 3339 in UTC, with milliseconds.
pub fn rfc3339_millis() -> String {
    format!("{:.3}", Timestamp::now())
}

/// Now as an IMF-fixdate (RFC 9110 §5.6.7).
pub fn imf_fixdate() -> String {
    // Only a year beyond 9999 cannot be printed.
    DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default()
}
