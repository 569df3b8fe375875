use std::sync::Arc;

use super::clock;
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

    /// Something that the operator should know.
    pub fn note(&self, message: &str) {
        let time = clock::rfc3339_millis();
        self.line(&match self.format {
            Format::Text => format!("{time} {message}\n"),
            Format::Json => format!("{}\n", serde_json::json!({ "time": time, "message": message })),
        });
    }

    /// Whether requests are logged.
    pub(super) fn wants_access(&self) -> bool {
        self.access
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A whole line, its end included.
    pub(super) fn line(&self, line: &str) {
        self.sink.line(line);
    }
}
