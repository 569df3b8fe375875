//! A request's line in the log.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Request;
use crate::observe::{Format, UpstreamMetrics};

impl Request<'_> {
    pub(super) fn append_line(&self, format: Format, time: &str, duration: Duration, line: &mut Vec<u8>) {
        match format {
            Format::Text => self.text(time, duration, line),
            Format::Json => self.json(time, duration, line),
        }
    }

    fn json(&self, time: &str, duration: Duration, line: &mut Vec<u8>) {
        let written = Line {
            time,
            id: self.id(),
            source: self.source,
            upstream: self.upstream.as_deref().map(UpstreamMetrics::name),
            method: self.method(),
            path: self.path(),
            code: self.code,
            stage: self.stage.name(),
            error: self.error,
            detail: (!self.detail.is_empty()).then_some(self.detail.as_str()),
            upstream_code: self.upstream_code,
            answered_by: self.answered_by(),
            connection: self.connection,
            connect_seconds: self.connected.map(|at| at.as_secs_f64()),
            response_seconds: self.responded.map(|at| at.as_secs_f64()),
            duration_seconds: duration.as_secs_f64(),
            body_bytes: self.body.length,
            body_sent_bytes: self.body.acknowledged,
        };
        // Writing to a Vec does not fail.
        let _ = serde_json::to_writer(&mut *line, &written);
        line.push(b'\n');
    }

    /// By hand, since it is made for every request: formatting would be a good part of all that one
    /// costs.
    fn text(&self, time: &str, duration: Duration, line: &mut Vec<u8>) {
        let upstream = self.upstream.as_deref().map_or("-", UpstreamMetrics::name);
        append(line, &[time, " "]);
        append_code(line, self.code);
        append(line, &[" ", or_dash(self.method()), " ", or_dash(self.path()), " source=", self.source]);
        append(line, &[" upstream=", upstream, " stage=", self.stage.name(), " duration="]);
        append_seconds(line, duration);
        append(line, &[" id=", self.id()]);
        if self.upstream_code.is_some() {
            append(line, &[" upstream_code="]);
            append_code(line, self.upstream_code);
        }
        if let Some(who) = self.answered_by() {
            append(line, &[" answered_by=", who]);
        }
        if let Some(connection) = self.connection {
            append(line, &[" connection=", connection]);
        }
        for (stage, at) in [(" connect=", self.connected), (" response=", self.responded)] {
            if let Some(at) = at {
                append(line, &[stage]);
                append_seconds(line, at);
            }
        }
        if let Some(error) = self.error {
            // Writing to a Vec does not fail.
            let _ = write!(line, " error={error} detail={:?}", self.detail);
        }
        if self.connected.is_some() && !self.body.is_whole() {
            // Writing to a Vec does not fail.
            let _ = write!(line, " sent=\"{}\"", self.body);
        }
        line.push(b'\n');
    }
}

/// A line in JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    id: &'a str,
    source: &'a str,
    upstream: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    code: Option<u16>,
    stage: &'a str,
    error: Option<&'a str>,
    detail: Option<&'a str>,
    upstream_code: Option<u16>,
    answered_by: Option<&'a str>,
    connection: Option<&'a str>,
    connect_seconds: Option<f64>,
    response_seconds: Option<f64>,
    duration_seconds: f64,
    body_bytes: Option<u64>,
    body_sent_bytes: u64,
}

fn append(line: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        line.extend_from_slice(text.as_bytes());
    }
}

fn append_code(line: &mut Vec<u8>, code: Option<u16>) {
    // Writing to a Vec does not fail.
    let _ = match code {
        Some(code) => write!(line, "{code}"),
        None => write!(line, "-"),
    };
}

/// With four decimals, and the unit.
fn append_seconds(line: &mut Vec<u8>, time: Duration) {
    let rounded = (time.as_micros() + 50) / 100;
    // Writing to a Vec does not fail.
    let _ = write!(line, "{}.{:04}s", rounded / 10_000, rounded % 10_000);
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_four_decimals() {
        for (micros, text) in [(0, "0.0000s"), (49, "0.0000s"), (50, "0.0001s"), (12_345_678, "12.3457s")] {
            let mut line = Vec::new();
            append_seconds(&mut line, Duration::from_micros(micros));
            assert_eq!(String::from_utf8(line).unwrap(), text);
        }
    }
}
