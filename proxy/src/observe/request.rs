use std::cell::Cell;
use std::fmt::{Display, Write};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Format, Log, Metrics, Row, Step, UpstreamMetrics, clock, redact};
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
    source: IpAddr,
    row: Row,
    /// What it is counted as when it ends.
    end: Step,
    begun: Instant,
    id: String,
    method: String,
    path: String,
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
    /// A request from `source`, in `row`'s prefix, whose head has arrived.
    pub fn new(source: IpAddr, row: Row, log: &'m Log, metrics: &'m Metrics) -> Self {
        metrics.funnel.count(row, Step::Requests);
        Self {
            log,
            metrics,
            source,
            row,
            end: Step::Failed,
            begun: Instant::now(),
            id: new_id(),
            method: String::new(),
            path: String::new(),
            upstream: None,
            stage: Stage::Head,
            code: None,
            upstream_code: None,
            error: None,
            detail: String::new(),
            connected: None,
            responded: None,
        }
    }

    /// What is sent upstream as X-Request-Id when the client sent none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its valid head: `path_and_query` is masked before it is kept.
    pub fn head(&mut self, method: &str, path_and_query: &[u8], client_id: Option<&[u8]>) {
        if self.log.wants_access() {
            self.method.push_str(method);
            redact::target(path_and_query, &mut self.path);
        }
        let written = client_id.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        let written = written.and_then(|id| std::str::from_utf8(id).ok());
        if let Some(id) = written.filter(|id| id.bytes().all(|b| b.is_ascii_graphic() && b != b'"')) {
            self.id.replace_range(.., id);
        }
    }

    /// The upstream that it goes to.
    pub fn upstream(&mut self, upstream: &Arc<UpstreamMetrics>) {
        self.upstream = Some(Arc::clone(upstream));
        self.stage = Stage::Connect;
    }

    /// There is a connection to the upstream.
    pub fn connected(&mut self) {
        self.stage = Stage::Response;
        self.connected = Some(self.begun.elapsed());
    }

    /// Answered by us, before an upstream was asked.
    pub fn refused(&mut self, failure: Failure) {
        self.end = Step::Refused;
        self.metrics.refused_request(failure);
        self.answered(failure, &failure.reason());
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

    fn json(&self) -> String {
        let line = json!({
            "time": clock::rfc3339_millis(),
            "id": self.id,
            "source": self.source.to_string(),
            "upstream": self.upstream.as_deref().map(UpstreamMetrics::name),
            "method": self.method,
            "path": self.path,
            "code": self.code,
            "stage": self.stage.name(),
            "error": self.error,
            "detail": (!self.detail.is_empty()).then_some(&self.detail),
            "upstream_code": self.upstream_code,
            "answered_by": self.answered_by(),
            "connect_seconds": self.connected.map(|at| at.as_secs_f64()),
            "response_seconds": self.responded.map(|at| at.as_secs_f64()),
            "duration_seconds": self.begun.elapsed().as_secs_f64(),
        });
        format!("{line}\n")
    }

    fn text(&self) -> String {
        let mut line = clock::rfc3339_millis();
        let code = self.code.map_or("-".into(), |code| code.to_string());
        let upstream = self.upstream.as_deref().map_or("-", UpstreamMetrics::name);
        let seconds = self.begun.elapsed().as_secs_f64();
        // Writing to a String does not fail.
        let _ = write!(
            line,
            " {code} {} {} source={} upstream={upstream} stage={} duration={seconds:.4}s id={}",
            or_dash(&self.method),
            or_dash(&self.path),
            self.source,
            self.stage.name(),
            self.id,
        );
        if let Some(upstream_code) = self.upstream_code {
            let _ = write!(line, " upstream_code={upstream_code}");
        }
        if let Some(who) = self.answered_by() {
            let _ = write!(line, " answered_by={who}");
        }
        for (stage, at) in [("connect", self.connected), ("response", self.responded)] {
            if let Some(at) = at {
                let _ = write!(line, " {stage}={:.4}s", at.as_secs_f64());
            }
        }
        if let Some(error) = self.error {
            let _ = write!(line, " error={error} detail={:?}", self.detail);
        }
        line.push('\n');
        line
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let upstream = self.upstream.as_deref().unwrap_or(&self.metrics.without_upstream);
        upstream.request(self.code, self.begun.elapsed());
        self.metrics.funnel.count(self.row, self.end);
        if self.log.wants_access() {
            self.log.line(&match self.log.format() {
                Format::Text => self.text(),
                Format::Json => self.json(),
            });
        }
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// 32 hexadecimal digits that no other request has: a random number a thread, and a count.
fn new_id() -> String {
    thread_local! {
        static SEED: u64 = RandomState::new().hash_one(0);
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    format!("{:016x}{count:016x}", SEED.with(|seed| *seed))
}
