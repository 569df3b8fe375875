mod line;

use std::cell::Cell;
use std::fmt::{Display, Write as _};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::log::Priority;
use super::words::{MAX_ID_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, start_of};
use super::{
    BodyProgress, Cause, Log, Loss, LostAt, Metrics, Step, Steps, TraceStep, UpstreamMetrics, clock, redact,
};
use crate::http::answer::Failure;
use crate::messages::{Body, Intake, Observation, Report, Unscanned};
use crate::prefixes::CounterIndex;

/// The longest `detail` in bytes; a peer may have written it.
const MAX_DETAIL_BYTES: usize = 500;
/// The only status after which Meta does not send a message again.
const DELIVERED: u16 = 200;

/// What is known of one request. [`Request::finish`] counts and logs it; so does dropping it, when
/// its task is cancelled.
#[derive(Debug)]
pub struct Request<'m> {
    log: &'m Log,
    metrics: &'m Metrics,
    source: &'m str,
    counter: CounterIndex,
    /// Whether its refusals can come in any number.
    is_stranger: bool,
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
    /// `None`: it was not.
    lost_at: Option<(LostAt, Cause)>,
    /// Whether it may carry a message.
    is_post: bool,
    /// How long its client waited for a response once all of it had been sent; `None`: not at all.
    waited: Option<Duration>,
    /// How long its client had waited when it hung up; `None`: it has not.
    hung_up: Option<Duration>,
    detail: String,
    /// Since `begun`: a connection to the upstream was there.
    connected: Option<Duration>,
    /// Since `begun`: the final response's head was there.
    responded: Option<Duration>,
    /// How often an upstream was tried.
    attempts: u32,
    body: BodyProgress,
    /// Over which kind of connection it was last tried, once there was one.
    connection: Option<&'static str>,
    is_recorded: bool,
    /// While it is followed.
    steps: Option<Box<Steps>>,
    /// Whether a body belongs to it.
    has_body: bool,
    /// What its body tells, once that is known.
    report: Option<Report>,
}

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'s> {
    /// The client's address.
    pub source: &'s str,
    pub counter: CounterIndex,
    /// It is neither Meta's nor the operator's.
    pub is_stranger: bool,
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
    /// A request from `sender`, of which `head` has arrived, good or bad. `words`: memory for what
    /// it says of itself.
    pub fn new(
        sender: Sender<'m>,
        head: &[u8],
        words: &'m mut String,
        log: &'m Log,
        metrics: &'m Metrics,
    ) -> Self {
        let is_post = head.trim_ascii_start().starts_with(b"POST ");
        let Sender { source, counter, is_stranger } = sender;
        metrics.funnel.count(counter, Step::Requests);
        if is_post && !is_stranger {
            metrics.losses.open_posts.begin(counter);
        }
        words.clear();
        append_new_id(words);
        Self {
            log,
            metrics,
            source,
            counter,
            is_stranger,
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
            lost_at: Some((LostAt::Machine, Cause::ENDED)),
            is_post,
            waited: None,
            hung_up: None,
            detail: String::new(),
            connected: None,
            responded: None,
            attempts: 0,
            body: BodyProgress::default(),
            connection: None,
            is_recorded: false,
            steps: None,
            has_body: false,
            report: None,
        }
    }

    /// Follows it from its head on, while a client asks for that. `arrival`: the steps of its
    /// connection, for the first request there.
    pub fn follow(&mut self, arrival: Option<Box<Steps>>) {
        self.steps = arrival.or_else(|| self.metrics.tracer.steps());
        self.step(TraceStep::Head);
    }

    /// The steps so far, while it is followed.
    pub fn steps(&self) -> Option<&Steps> {
        self.steps.as_deref()
    }

    pub fn step(&self, step: TraceStep) {
        if let Some(steps) = &self.steps {
            steps.now(step);
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

    /// Its valid head: `path_and_query` is masked before it is kept, and long words are cut.
    pub fn head(&mut self, method: &str, path_and_query: &[u8], client_id: Option<&[u8]>) {
        let written = client_id.filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
        let written = written.and_then(|id| std::str::from_utf8(id).ok());
        if let Some(id) = written.filter(|id| id.bytes().all(|b| b.is_ascii_graphic() && b != b'"')) {
            self.words.replace_range(.., id);
        }
        self.id_end = self.words.len();
        let (method, cut) = start_of(method, MAX_METHOD_BYTES);
        self.words.push_str(method);
        self.words.push_str(cut);
        self.method_end = self.words.len();
        redact::target(path_and_query, self.words);
        let (path, cut) = start_of(&self.words[self.method_end..], MAX_PATH_BYTES);
        let end = self.method_end + path.len();
        self.words.truncate(end);
        self.words.push_str(cut);
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

    /// How far its body got by now.
    pub fn body(&mut self, progress: BodyProgress) {
        self.body = progress;
    }

    /// How long its client has waited for the response by now, if it has.
    pub fn waited(&mut self, for_response: Option<Duration>) {
        self.waited = for_response;
    }

    /// Its client has hung up before its answer came, after it had waited for so long.
    pub fn hung_up(&mut self, after: Option<Duration>) {
        self.hung_up = after;
    }

    /// Whether it may carry messages of Meta's.
    pub fn is_message(&self) -> bool {
        self.is_post && !self.is_stranger
    }

    /// Its head says that a body follows.
    pub fn has_body(&mut self) {
        self.has_body = true;
    }

    /// Where what its body tells goes; `None`: it is not looked at.
    pub fn messages(&self) -> Option<&'m Intake> {
        self.metrics.messages.as_deref().filter(|_| self.is_message() && self.has_body)
    }

    /// Its whole body, to be scanned later; `body` is something else then.
    pub fn keep_body(&mut self, body: &mut Body) {
        let Some(messages) = self.messages() else { return };
        let mut report = messages.report();
        report.unscanned = None;
        std::mem::swap(&mut report.body, body);
        report.body.is_whole = true;
        self.report = Some(report);
    }

    /// What its body tells, or why that is not known.
    pub fn scanned(&mut self, outcome: Result<&Observation, Unscanned>) {
        let Some(messages) = self.messages() else { return };
        let mut report = messages.report();
        report.unscanned = outcome.err();
        if let Ok(observation) = outcome {
            report.observation.copy_from(observation);
        }
        self.report = Some(report);
    }

    /// There is a connection to the upstream; `idle`: for how long it had waited, if it was used
    /// before.
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

    /// An OPTIONS request that may go no further: its answer is ours, and no error. No upstream had
    /// to do with it.
    pub fn answered_options(&mut self) {
        self.end = Step::Refused;
        self.upstream = None;
        self.stage = Stage::Head;
        self.code = Some(200);
        self.lost_at = None;
    }

    /// Answered by us, because the upstream could not.
    pub fn failed(&mut self, failure: Failure, detail: &dyn Display) {
        self.count_error(failure);
        self.answered(failure, detail);
    }

    fn answered(&mut self, failure: Failure, detail: &dyn Display) {
        self.lost_at = Some((failure.into(), failure.into()));
        self.code = Some(failure.status());
        self.error = Some(failure.error());
        self.set_detail(detail);
    }

    /// The client has the upstream's whole response, whose head came at `head_at`.
    pub fn relayed(&mut self, status: u16, head_at: Instant) {
        self.stage = Stage::Done;
        let is_delivered = status == DELIVERED;
        if is_delivered {
            self.end = Step::Delivered;
        }
        self.lost_at = (!is_delivered).then_some((LostAt::Upstream, Cause::Status(status)));
        self.code = Some(status);
        self.responded(status, head_at);
    }

    /// The response, whose head came at `head_at`, had begun and could not be completed.
    pub fn cut(&mut self, failure: Failure, status: u16, head_at: Instant) {
        self.count_error(failure);
        self.responded(status, head_at);
        self.lost_at = Some((failure.into(), failure.into()));
        self.error = Some(failure.error());
        self.set_detail(&failure.reason());
    }

    /// The client went away before it had its response.
    pub fn client_gone(&mut self, why: &dyn Display) {
        self.lost_at = Some((LostAt::of_leaving_after(self.waited), Cause::CLIENT_GONE));
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
        if self.detail.len() > MAX_DETAIL_BYTES {
            self.detail.truncate(self.detail.floor_char_boundary(MAX_DETAIL_BYTES));
            self.detail.push('…');
        }
    }
}

impl Request<'_> {
    /// Counts and logs the request.
    pub fn finish(mut self) {
        self.record();
        self.is_recorded = true;
    }

    fn record(&mut self) {
        if let Some(waited) = self.hung_up {
            // The client will send it again, whatever became of the answer.
            self.end = Step::Failed;
            self.lost_at = Some((LostAt::of_leaving_after(Some(waited)), Cause::CLIENT_GONE));
            if self.error.is_none() {
                self.error = Some("client_gone");
                self.set_detail(&"it hung up before its answer was written");
            }
        }
        let upstream = self.upstream.as_deref().unwrap_or(&self.metrics.without_upstream);
        let (duration, time) = (self.begun.elapsed(), clock::now());
        upstream.request(self.code, duration);
        if let Some(upstream) = self.upstream.as_deref().filter(|_| self.end != Step::Delivered) {
            upstream.failed(self.code, self.error);
        }
        self.metrics.funnel.count(self.counter, self.end);
        // Anybody else can write any POST.
        if self.is_message() {
            self.metrics.losses.count_post(self.counter);
            if let Some(upstream) = &self.upstream {
                upstream.count_post();
            }
            if let Some((lost_at, cause)) = self.lost_at {
                let upstream = self.upstream.as_ref().map(|upstream| upstream.name().into());
                self.metrics.lost(Loss { counter: self.counter, upstream, lost_at, cause });
            }
            // One that hookgate cuts ends with the sample that tells of it.
            if self.lost_at.is_none_or(|(lost_at, _)| lost_at != LostAt::Machine) {
                self.metrics.losses.open_posts.end(self.counter, 1);
            }
        }
        self.report_messages(duration, time);
        let is_refused_stranger = self.is_stranger && self.end == Step::Refused;
        if self.log.wants_access(is_refused_stranger) {
            let is_lost_message = self.end != Step::Delivered && !self.is_stranger;
            let priority = if is_lost_message { Priority::High } else { Priority::Normal };
            self.log.line(priority, |time, line| self.append_line(self.log.format(), time, duration, line));
        }
        if let Some(steps) = &self.steps {
            self.metrics.tracer.add(self.id(), self.upstream.as_deref().map(UpstreamMetrics::name), steps);
        }
        let upstream = self.upstream.take();
        let words = [self.id(), self.method(), self.path(), self.source];
        self.metrics.deliveries.add(words, time, |record| {
            record.counter = self.counter;
            record.upstream = upstream;
            record.end = self.end;
            record.stage = self.stage.name();
            record.code = self.code;
            record.upstream_code = self.upstream_code;
            record.error = self.error;
            record.lost_at = self.lost_at.map(|(stage, _)| stage);
            record.attempts = self.attempts;
            record.detail = self.error.map(|_| self.detail.as_str().into());
            record.body = self.body;
            record.connection = self.connection;
            record.duration = duration;
        });
    }
}

impl Request<'_> {
    /// Passes on what its body tells, with how it ended.
    fn report_messages(&mut self, duration: Duration, ended: Timestamp) {
        let Some(messages) = self.messages() else { return };
        let mut report = match self.report.take() {
            Some(report) => report,
            None => Report { unscanned: Some(Unscanned::Unread), ..messages.report() },
        };
        report.upstream = self.upstream.as_deref().unwrap_or(&self.metrics.without_upstream).shared_name();
        report.is_delivered = self.end == Step::Delivered;
        // It may be made good later.
        report.failed_post = self.lost_at.map_or(0, |(lost_at, cause)| {
            let upstream = self.upstream.as_ref().map(|upstream| upstream.name().into());
            self.metrics.losses.failed_posts.expect(Loss { counter: self.counter, upstream, lost_at, cause })
        });
        report.ended = ended.as_millisecond();
        let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        report.arrived = report.ended.saturating_sub(milliseconds);
        messages.add(report);
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.record();
        }
    }
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
    fn ids_are_hexadecimal_and_differ() {
        let [mut one, mut other] = [String::new(), String::new()];
        append_new_id(&mut one);
        append_new_id(&mut other);
        assert_ne!(one, other);
        assert!([one, other].iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
