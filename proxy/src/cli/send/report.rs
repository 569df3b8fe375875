//! The outcome of each request, and of all.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::receiver::Outcome;
use crate::net::http_client::Response;

/// How much of an answer is shown, in bytes.
const SHOWN_BYTES: usize = 60;

/// The only status after which Meta does not send a message again.
const DELIVERED: u16 = 200;

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
    /// Where a redirect leads to.
    location: Option<String>,
    /// The start of an answer that Meta would not take.
    pub body: Option<String>,
}

impl Row {
    pub fn new(outcome: &Outcome) -> Self {
        let answer = outcome.answer.as_ref().ok();
        let refusal = answer.filter(|answer| answer.status != DELIVERED);
        let redirect = answer.filter(|answer| (300..400).contains(&answer.status));
        Self {
            status: answer.map(|answer| answer.status),
            duration_seconds: outcome.took.as_secs_f64(),
            error: outcome.answer.as_ref().err().cloned(),
            proxy_status: answer.and_then(|answer| answer.field("proxy-status")),
            location: redirect.and_then(|answer| answer.field("location")),
            body: refusal.and_then(start_of),
        }
    }

    /// Meta takes nothing else for delivered.
    pub fn is_delivered(&self) -> bool {
        self.status == Some(DELIVERED)
    }

    /// Status, time, and what is known of why besides the answer's body.
    pub fn without_body(&self) -> String {
        let status = self.status.map_or("---".into(), |status| status.to_string());
        let why = match &self.location {
            Some(location) => Some(format!("redirects to {location}: Meta does not follow")),
            None => self.error.clone().or_else(|| self.proxy_status.clone()),
        };
        let why = why.map_or(String::new(), |why| format!("  {why}"));
        format!("{status}  {:>9}{why}", milliseconds(self.duration_seconds))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_body())?;
        // Of hookgate's own answers the field says more than the body.
        let body = self.body.as_ref().filter(|_| self.proxy_status.is_none());
        body.map_or(Ok(()), |body| write!(f, "  {body:?}"))
    }
}

/// The start of an answer's content, as far as it is text; `None` where there is none, or it cannot
/// be decoded.
pub fn start_of(answer: &Response) -> Option<String> {
    let content = answer.content().ok().filter(|content| !content.is_empty())?;
    let start = &content[..content.len().min(SHOWN_BYTES)];
    Some(String::from_utf8_lossy(start).into_owned())
}

/// All deliveries together.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    deliveries: usize,
    delivered: usize,
    /// Updates in all deliveries; null when their body was given.
    updates: Option<u64>,
    elapsed_seconds: f64,
    /// Of those that were answered; null when none was.
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

impl Summary {
    /// `batch`: updates in each, if that is known.
    pub fn new(rows: &[Row], elapsed: Duration, batch: Option<u32>) -> Self {
        let answered = rows.iter().filter(|row| row.status.is_some());
        let mut took: Vec<f64> = answered.map(|row| row.duration_seconds).collect();
        took.sort_by(f64::total_cmp);
        Self {
            deliveries: rows.len(),
            delivered: rows.iter().filter(|row| row.is_delivered()).count(),
            updates: batch.map(|batch| rows.len() as u64 * u64::from(batch)),
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
        let Self { deliveries, delivered, elapsed_seconds, .. } = *self;
        write!(f, "{delivered} of {deliveries} delivered in {elapsed_seconds:.2} s")?;
        if let (Some(p50), Some(p99)) = (self.p50_seconds, self.p99_seconds) {
            write!(f, ", p50 {}, p99 {}", milliseconds(p50), milliseconds(p99))?;
        }
        match self.updates {
            Some(updates) if updates != deliveries as u64 => write!(f, ", {updates} updates"),
            _ => Ok(()),
        }
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
        Row { status, duration_seconds, error: None, proxy_status: None, location: None, body: None }
    }

    #[test]
    fn only_200_is_delivered_and_only_answers_have_a_time() {
        let rows: Vec<Row> = (1..=98)
            .map(|n| row(Some(200), n))
            .chain([row(Some(201), 99), row(Some(502), 100), row(None, 9000)])
            .collect();
        let summary = Summary::new(&rows, Duration::from_secs(2), None);
        assert_eq!(summary.to_string(), "98 of 101 delivered in 2.00 s, p50 50.0 ms, p99 99.0 ms");
        assert!(!summary.is_fine() && Summary::new(&rows[..98], Duration::ZERO, None).is_fine());
        let none = |batch| Summary::new(&[], Duration::ZERO, batch).to_string();
        assert_eq!([none(None), none(Some(10))], ["0 of 0 delivered in 0.00 s"; 2]);
        let tens = Summary::new(&rows[..3], Duration::ZERO, Some(10)).to_string();
        assert_eq!(tens, "3 of 3 delivered in 0.00 s, p50 2.0 ms, p99 3.0 ms, 30 updates");
    }
}
