use std::io::Write;

use super::clock;
use crate::config::{self, LogFormat};

/// Lines on standard error, which the journal or a terminal takes.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    settings: config::Log,
}

impl Log {
    pub fn new(settings: config::Log) -> Self {
        Self { settings }
    }

    /// Something that the operator should know.
    pub fn note(&self, message: &str) {
        let time = clock::rfc3339_millis();
        let line = match self.settings.format {
            LogFormat::Text => format!("{time} {message}\n"),
            LogFormat::Json => format!("{}\n", serde_json::json!({ "time": time, "message": message })),
        };
        Self::write(&line);
    }

    /// Whether requests are logged.
    pub(super) fn wants_access(&self) -> bool {
        self.settings.access
    }

    pub(super) fn format(&self) -> LogFormat {
        self.settings.format
    }

    /// One whole line in one write, so that lines of several threads do not mix.
    pub(super) fn write(line: &str) {
        // A log that cannot be written must not stop a message.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
