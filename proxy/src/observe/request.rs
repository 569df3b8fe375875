use std::cell::Cell;
use std::fmt::{Display, Write as _};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Format, Log, Metrics, Row, Step, UpstreamMetrics, redact};
use crate::http::answer::Failure;

/// The longest X-Request-Id that is taken over from a client into the log.
const LONGEST_ID: usize = 128;
/// The only status after which Meta does not send a message again.
const DELIVERED: u16 = 200;

/// What is known of one request; it is counted and logged when the value is dropped, however it ended.
#[derive(Debug)]
pub struct Request<'m> {
    log: &'m Log,
    metrics: &'m Metrics,
    source: &'m str,
    row: Row,
    /// What it is counted as when it ends.
    end: Step,
    begun: Instant,
    /// Its id, then the method and the path.
    words: &'m mut String,
    id_end: usize,
    method_end: usize,
    upstream: Option<Arc<UpstreamMetrics>>,
    stage: Stage,
    /// What the client was answered, by the upstream or by us.
    code: Option<u16>,
    upstream_code: Option<u16>,
    error: Option<&'static str>,
    detail: String,
    /// Since `begun`: a connection to the upstream was there.
    connected: Option<Duration>,
    /// Since `begun`: the final response's head was there.
    responded: Option<Duration>,
    /// How often an upstream was tried.
    attempts: u32,
    /// Over which kind of connection it was last tried, once there was one.
    connection: Option<&'static str>,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Connect,
    Response,
    Done,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Connect => "connect",
            Self::Response => "response",
            Self::Done => "done",
        }
    }
}

impl<'m> Request<'m> {
    /// A request from `source`, in `row`'s prefix, whose head has arrived. `words`: memory for what it says of itself.
    pub fn new(source: &'m str, row: Row, words: &'m mut String, log: &'m Log, metrics: &'m Metrics) -> Self {
        metrics.funnel.count(row, Step::Requests);
        words.clear();
        append_new_id(words);
        Self {
            log,
            metrics,
            source,
            row,
            end: Step::Failed,
            begun: Instant::now(),
            id_end: words.len(),
            method_end: words.len(),
            words,
            upstream: None,
            stage: Stage::Head,
            code: None,
            upstream_code: None,
            error: None,
            detail: String::new(),
            connected: None,
            responded: None,
            attempts: 0,
            connection: None,
        }
    }

    /// What is sent upstream as X-Request-Id when the client sent none.
    pub fn id(&self) -> &str {
        &self.words[..self.id_end]
    }

    fn method(&self) -> &str {
        &self.words[self.id_end..self.method_end]
    }

    fn path(&self) -> &str {
        &self.words[self.method_end..]
    }

    /// Its valid head: `path_and_query` is masked before it is kept.
    pub fn head(&mut self, method: &str, path_and_query: &[u8], client_id: Option<&[u8]>) {
        let written = client_id.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        let written = written.and_then(|id| std::str::from_utf8(id).ok());
        if let Some(id) = written.filter(|id| id.bytes().all(|b| b.is_ascii_graphic() && b != b'"')) {
            self.words.replace_range(.., id);
        }
        self.id_end = self.words.len();
        self.words.push_str(method);
        self.method_end = self.words.len();
        redact::target(path_and_query, self.words);
    }

    /// The upstream that it goes to.
    pub fn upstream(&mut self, upstream: &Arc<UpstreamMetrics>) {
        self.upstream = Some(Arc::clone(upstream));
        self.stage = Stage::Connect;
    }

    /// The upstream is tried, over a connection that was kept or a new one.
    pub fn attempt(&mut self) {
        self.attempts += 1;
        self.connection = None;
    }

    /// There is a connection to the upstream; `idle`: for how long it had waited, if it was used before.
    pub fn connected(&mut self, idle: Option<Duration>) {
        self.stage = Stage::Response;
        self.connection = Some(if idle.is_some() { "pooled" } else { "new" });
        self.connected = Some(self.begun.elapsed());
    }

    /// Answered by us, before an upstream was asked.
    pub fn refused(&mut self, failure: Failure) {
        self.end = Step::Refused;
        self.metrics.refused_request(failure);
        self.answered(failure, &failure.reason());
    }

    /// An OPTIONS request that may go no further: its answer is ours, and no error. No upstream had to do with it.
    pub fn answered_options(&mut self) {
        self.end = Step::Refused;
        self.upstream = None;
        self.stage = Stage::Head;
        self.code = Some(200);
    }

    /// Answered by us, because the upstream could not.
    pub fn failed(&mut self, failure: Failure, detail: &dyn Display) {
        self.count_error(failure);
        self.answered(failure, detail);
    }

    fn answered(&mut self, failure: Failure, detail: &dyn Display) {
        self.code = Some(failure.status());
        self.error = Some(failure.error());
        self.set_detail(detail);
    }

    /// The client has the upstream's whole response, whose head came at `head_at`.
    pub fn relayed(&mut self, status: u16, head_at: Instant) {
        self.stage = Stage::Done;
        if status == DELIVERED {
            self.end = Step::Delivered;
        }
        self.code = Some(status);
        self.responded(status, head_at);
    }

    /// The response, whose head came at `head_at`, had begun and could not be completed.
    pub fn cut(&mut self, failure: Failure, status: u16, head_at: Instant) {
        self.count_error(failure);
        self.responded(status, head_at);
        self.error = Some(failure.error());
        self.set_detail(&failure.reason());
    }

    /// The client went away before it had its response.
    pub fn client_gone(&mut self, why: &dyn Display) {
        self.error = Some("client_gone");
        self.set_detail(why);
    }

    fn responded(&mut self, status: u16, head_at: Instant) {
        self.upstream_code = Some(status);
        self.responded = Some(head_at.duration_since(self.begun));
    }

    /// Whose answer the client was given.
    fn answered_by(&self) -> Option<&'static str> {
        match (self.code, self.upstream_code) {
            (_, Some(_)) => Some("upstream"),
            (Some(_), None) => Some("hookgate"),
            (None, None) => None,
        }
    }

    fn count_error(&self, failure: Failure) {
        if let Some(upstream) = &self.upstream {
            upstream.error(failure);
        }
    }

    fn set_detail(&mut self, detail: &dyn Display) {
        self.detail.clear();
        // Writing to a String does not fail.
        let _ = write!(self.detail, "{detail}");
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
        };
        // Writing to a Vec does not fail.
        let _ = serde_json::to_writer(&mut *line, &written);
        line.push(b'\n');
    }

    /// By hand, since it is made for every request: formatting would be a good part of all that one costs.
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
        line.push(b'\n');
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let upstream = self.upstream.as_deref().unwrap_or(&self.metrics.without_upstream);
        let duration = self.begun.elapsed();
        upstream.request(self.code, duration);
        if let Some(upstream) = self.upstream.as_deref().filter(|_| self.end != Step::Delivered) {
            upstream.failed(self.code, self.error);
        }
        self.metrics.funnel.count(self.row, self.end);
        if self.log.wants_access() {
            self.log.line(|time, line| match self.log.format() {
                Format::Text => self.text(time, duration, line),
                Format::Json => self.json(time, duration, line),
            });
        }
        let upstream = self.upstream.take();
        let words = [self.id(), self.method(), self.path(), self.source];
        self.metrics.deliveries.add(words, |record| {
            record.row = self.row;
            record.upstream = upstream;
            record.end = self.end;
            record.stage = self.stage.name();
            record.code = self.code;
            record.upstream_code = self.upstream_code;
            record.error = self.error;
            record.attempts = self.attempts;
            record.connection = self.connection;
            record.duration = duration;
        });
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

/// Appends 32 hexadecimal digits that no other request has: a random number a thread, and a count.
fn append_new_id(to: &mut String) {
    thread_local! {
        static SEED: u64 = RandomState::new().hash_one(0);
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    let id = u128::from(SEED.with(|seed| *seed)) << 64 | u128::from(count);
    let digit = |place: u32| char::from(b"0123456789abcdef"[(id >> (4 * place)) as usize & 15]);
    to.extend((0..32).rev().map(digit));
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

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let [mut one, mut other] = [String::new(), String::new()];
        append_new_id(&mut one);
        append_new_id(&mut other);
        assert_ne!(one, other);
        assert!([one, other].iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
