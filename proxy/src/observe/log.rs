use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::slice::from_ref;
use std::sync::Arc;

use super::Exposition;
use super::clock::Stamp;
use super::line_budget::LineBudget;
use super::sink::Sink;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One JSON object a line.
    Json,
}

/// What becomes of a line for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// It is lost, and counted.
    Normal,
    /// It waits for room, as long as there is memory for it.
    High,
}

/// Lines on standard error, which the journal or a terminal takes.
#[derive(Clone, Debug)]
pub struct Log {
    format: Format,
    access: bool,
    sink: Arc<Sink>,
    /// For what strangers were refused.
    budget: Arc<LineBudget>,
}

impl Log {
    /// `access`: whether there is a line for each request.
    pub fn new(format: Format, access: bool) -> Self {
        let (sink, budget) = (Arc::new(Sink::standard_error()), Arc::new(LineBudget::new()));
        Self { format, access, sink, budget }
    }

    /// The same, written in another way.
    pub fn with(&self, format: Format, access: bool) -> Self {
        Self { format, access, ..self.clone() }
    }

    /// Something that the operator should know.
    pub fn note(&self, message: &str) {
        self.line(Priority::High, |time, line| self.append_note(time, message, line));
    }

    /// How many lines are not there.
    pub fn expose(&self, to: &mut Exposition) {
        to.family("hookgate_log_lines_missing_total", "counter", "Lines that the log does not have, by why");
        to.used_sample(&[("reason", "no_reader")], &self.sink.lost_lines);
        to.used_sample(&[("reason", "strangers")], &self.budget.left_out_lines);
    }

    fn append_note(&self, time: &str, message: &str, line: &mut Vec<u8>) {
        let text = match self.format {
            Format::Text => format!("{time} {}\n", one_line(message)),
            Format::Json => format!("{}\n", serde_json::json!({ "time": time, "message": message })),
        };
        line.extend_from_slice(text.as_bytes());
    }

    /// Whether a request is logged. `is_refused_stranger`: these are limited in number.
    pub(super) fn wants_access(&self, is_refused_stranger: bool) -> bool {
        self.access && (!is_refused_stranger || self.budget.take())
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A whole line, its end included, which `append` makes of the time; on a thread that batches,
    /// it is written when the thread has nothing else to do.
    pub(super) fn line(&self, priority: Priority, append: impl FnOnce(&str, &mut Vec<u8>)) {
        BATCH.with_borrow_mut(|batch| match batch {
            Some(batch) => batch.add(self, priority, append),
            None => {
                let mut line = Vec::new();
                append(Stamp::default().now(), &mut line);
                let whole = 0..line.len();
                let kept = if priority == Priority::High { from_ref(&whole) } else { &[] };
                self.write(&line, kept);
            }
        });
    }

    /// `kept` is where in `lines` those lie that must not be lost.
    fn write(&self, lines: &[u8], kept: &[Range<usize>]) {
        self.sink.lines(lines, kept, |lost| {
            let message = format!("{lost} lines of the log were lost: nobody was reading");
            let mut line = Vec::new();
            self.append_note(Stamp::default().now(), &message, &mut line);
            line
        });
    }

    /// From now on this thread's lines are written together, by [`Self::write_batch`].
    pub fn batch_on_this_thread(&self) {
        let (log, stamp) = (self.clone(), Stamp::default());
        BATCH.set(Some(Batch { log, lines: Vec::new(), kept: Vec::new(), stamp }));
    }

    /// Writes what this thread has batched.
    pub fn write_batch() {
        BATCH.with_borrow_mut(|batch| batch.as_mut().map(Batch::write));
    }
}

/// Control characters escaped: what others say, quoted in a message, can neither begin a line nor
/// move a cursor.
fn one_line(message: &str) -> Cow<'_, str> {
    if !message.contains(char::is_control) {
        return message.into();
    }
    let mut line = String::with_capacity(message.len() + 8);
    for character in message.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line.into()
}

/// When a batch is written without waiting for the thread to be idle, in bytes.
const FULL_BATCH: usize = 16 * 1024;

/// Lines of one thread that are not written yet.
struct Batch {
    log: Log,
    lines: Vec<u8>,
    /// Where in `lines` those lie that must not be lost.
    kept: Vec<Range<usize>>,
    stamp: Stamp,
}

thread_local! {
    static BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
}

impl Batch {
    fn add(&mut self, log: &Log, priority: Priority, append: impl FnOnce(&str, &mut Vec<u8>)) {
        if !Arc::ptr_eq(&self.log.sink, &log.sink) || self.log.format != log.format {
            self.write();
            self.log = log.clone();
        }
        let start = self.lines.len();
        append(self.stamp.now(), &mut self.lines);
        if priority == Priority::High {
            self.kept.push(start..self.lines.len());
        }
        if self.lines.len() >= FULL_BATCH {
            self.write();
        }
    }

    fn write(&mut self) {
        if let Some(count) = self.log.budget.report() {
            let message = format!(
                "{count} more requests of strangers were refused and have no line of their own; \
                 hookgate_refused_total counts them"
            );
            self.log.append_note(self.stamp.now(), &message, &mut self.lines);
        }
        if !self.lines.is_empty() || self.log.sink.is_behind() {
            self.log.write(&self.lines, &self.kept);
            self.lines.clear();
            self.kept.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_line_whatever_it_quotes() {
        let log = Log::new(Format::Text, false);
        let mut line = Vec::new();
        // As serde quotes what a worker may send in place of a request.
        let forged = "unknown variant `x\n2026-11-29T16:00:00Z reloaded\u{1b}[2K\r\u{85}`";
        log.append_note("now", forged, &mut line);
        let text = String::from_utf8(line).unwrap();
        let expected = "now unknown variant `x\\n2026-11-29T16:00:00Z reloaded\\u{1b}[2K\\r\\u{85}`\n";
        assert_eq!(text, expected);
    }
}
