use std::io::Write;

use super::clock;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One JSON object a line.
    Json,
}

/// Lines on standard error, which the journal or a terminal takes.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    format: Format,
    access: bool,
}

impl Log {
    /// `access`: whether there is a line for each request.
    pub fn new(format: Format, access: bool) -> Self {
        Self { format, access }
    }

    /// Something that the operator should know.
    pub fn note(&self, message: &str) {
        let time = clock::rfc3339_millis();
        let line = match self.format {
            Format::Text => format!("{time} {message}\n"),
            Format::Json => format!("{}\n", serde_json::json!({ "time": time, "message": message })),
        };
        Self::write(&line);
    }

    /// Whether requests are logged.
    pub(super) fn wants_access(&self) -> bool {
        self.access
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// One whole line in one write, so that lines of several threads do not mix.
    pub(super) fn write(line: &str) {
        // A log that cannot be written must not stop a message.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
