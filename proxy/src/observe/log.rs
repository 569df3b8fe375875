use std::cell::RefCell;
use std::sync::Arc;

use super::clock::Stamp;
use super::sink::Sink;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One JSON object a line.
    Json,
}

/// Lines on standard error, which the journal or a terminal takes.
#[derive(Clone, Debug)]
pub struct Log {
    format: Format,
    access: bool,
    sink: Arc<Sink>,
}

impl Log {
    /// `access`: whether there is a line for each request.
    pub fn new(format: Format, access: bool) -> Self {
        Self { format, access, sink: Arc::new(Sink::standard_error()) }
    }

    /// The same, written in another way.
    pub fn with(&self, format: Format, access: bool) -> Self {
        Self { format, access, sink: Arc::clone(&self.sink) }
    }

    /// Something that the operator should know.
    pub fn note(&self, message: &str) {
        self.line(|time, line| {
            let text = match self.format {
                Format::Text => format!("{time} {message}\n"),
                Format::Json => format!("{}\n", serde_json::json!({ "time": time, "message": message })),
            };
            line.extend_from_slice(text.as_bytes());
        });
    }

    /// Whether requests are logged.
    pub(super) fn wants_access(&self) -> bool {
        self.access
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A whole line, its end included, which `append` makes of the time; on a thread that batches, it is written
    /// when the thread has nothing else to do.
    pub(super) fn line(&self, append: impl FnOnce(&str, &mut Vec<u8>)) {
        BATCH.with_borrow_mut(|batch| match batch {
            Some(batch) => batch.add(&self.sink, append),
            None => {
                let mut line = Vec::new();
                append(Stamp::default().now(), &mut line);
                self.sink.lines(&line);
            }
        });
    }

    /// From now on this thread's lines are written together, by [`Self::write_batch`].
    pub fn batch_on_this_thread(&self) {
        BATCH.set(Some(Batch { sink: Arc::clone(&self.sink), lines: Vec::new(), stamp: Stamp::default() }));
    }

    /// Writes what this thread has batched.
    pub fn write_batch() {
        BATCH.with_borrow_mut(|batch| batch.as_mut().map(Batch::write));
    }
}

/// When a batch is written without waiting for the thread to be idle, in bytes.
const FULL_BATCH: usize = 16 * 1024;

/// Lines of one thread that are not written yet.
struct Batch {
    sink: Arc<Sink>,
    lines: Vec<u8>,
    stamp: Stamp,
}

thread_local! {
    static BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
}

impl Batch {
    fn add(&mut self, sink: &Arc<Sink>, append: impl FnOnce(&str, &mut Vec<u8>)) {
        if !Arc::ptr_eq(&self.sink, sink) {
            self.write();
            self.sink = Arc::clone(sink);
        }
        append(self.stamp.now(), &mut self.lines);
        if self.lines.len() >= FULL_BATCH {
            self.write();
        }
    }

    fn write(&mut self) {
        if !self.lines.is_empty() {
            self.sink.lines(&self.lines);
            self.lines.clear();
        }
    }
}
