//! What became of each request, and of all.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::receiver::Outcome;

/// One request, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Null without an answer.
    pub status: Option<u16>,
    duration_seconds: f64,
    /// Why there is no answer.
    error: Option<String>,
    /// The answer's `Proxy-Status`: it is hookgate's own, not the receiver's.
    proxy_status: Option<String>,
}

impl Row {
    pub fn new(outcome: &Outcome) -> Self {
        let answer = outcome.answer.as_ref();
        Self {
            status: answer.ok().map(|answer| answer.status),
            duration_seconds: outcome.took.as_secs_f64(),
            error: answer.err().cloned(),
            proxy_status: answer.ok().and_then(|answer| answer.field("proxy-status")),
        }
    }

    /// Meta takes nothing else for delivered.
    pub fn is_delivered(&self) -> bool {
        self.status == Some(200)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("---")?,
        }
        write!(f, "  {:>9}", milliseconds(self.duration_seconds))?;
        let why = self.error.as_ref().or(self.proxy_status.as_ref());
        why.map_or(Ok(()), |why| write!(f, "  {why}"))
    }
}

/// Whether the callback URL would be accepted.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    #[serde(flatten)]
    pub row: Row,
    pub challenge_returned: bool,
    /// Whether a token was given, so that a receiver can agree at all.
    pub counts: bool,
}

impl Verification {
    pub fn new(outcome: &Outcome, challenge: &str, has_token: bool) -> Self {
        let challenge_returned =
            outcome.answer.as_ref().is_ok_and(|answer| answer.body == challenge.as_bytes());
        Self { row: Row::new(outcome), challenge_returned, counts: has_token }
    }

    pub fn is_fine(&self) -> bool {
        !self.counts || (self.row.is_delivered() && self.challenge_returned)
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.row)?;
        match (self.counts, self.challenge_returned) {
            (_, true) => f.write_str("  the challenge came back"),
            (true, false) if self.row.is_delivered() => {
                f.write_str("  the challenge did not come back: Meta would refuse this callback URL")
            }
            (true, false) => f.write_str("  Meta would refuse this callback URL"),
            (false, false) => f.write_str("  (does not count: no receiver can agree without --verify-token)"),
        }
    }
}

/// All deliveries together.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    deliveries: usize,
    delivered: usize,
    elapsed_seconds: f64,
    /// Of those that were answered; null when none was.
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

impl Summary {
    pub fn new(rows: &[Row], elapsed: Duration) -> Self {
        let answered = rows.iter().filter(|row| row.status.is_some());
        let mut took: Vec<f64> = answered.map(|row| row.duration_seconds).collect();
        took.sort_by(f64::total_cmp);
        Self {
            deliveries: rows.len(),
            delivered: rows.iter().filter(|row| row.is_delivered()).count(),
            elapsed_seconds: elapsed.as_secs_f64(),
            p50_seconds: percentile(&took, 50),
            p99_seconds: percentile(&took, 99),
        }
    }

    pub fn is_fine(&self) -> bool {
        self.delivered == self.deliveries
    }
}

/// By nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deliveries, delivered, elapsed_seconds, .. } = self;
        write!(f, "{delivered} of {deliveries} delivered in {elapsed_seconds:.2} s")?;
        if let (Some(p50), Some(p99)) = (self.p50_seconds, self.p99_seconds) {
            write!(f, ", p50 {}, p99 {}", milliseconds(p50), milliseconds(p99))?;
        }
        Ok(())
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Option<u16>, milliseconds: u32) -> Row {
        let duration_seconds = f64::from(milliseconds) / 1000.0;
        Row { status, duration_seconds, error: None, proxy_status: None }
    }

    #[test]
    fn only_200_is_delivered_and_only_answers_have_a_time() {
        let rows: Vec<Row> = (1..=98)
            .map(|n| row(Some(200), n))
            .chain([row(Some(201), 99), row(Some(502), 100), row(None, 9000)])
            .collect();
        let summary = Summary::new(&rows, Duration::from_secs(2));
        assert_eq!(summary.to_string(), "98 of 101 delivered in 2.00 s, p50 50.0 ms, p99 99.0 ms");
        assert!(!summary.is_fine() && Summary::new(&rows[..98], Duration::ZERO).is_fine());
        assert_eq!(Summary::new(&[], Duration::ZERO).to_string(), "0 of 0 delivered in 0.00 s");
    }
}
