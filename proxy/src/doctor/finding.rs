use std::fmt;

use crate::check::Diagnostic;
use crate::config::Severity;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// It works, but not as well as it could, or not for ever.
    Warn,
    /// Something that is configured does not work.
    Fail,
}

/// One line of the doctor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What was looked at.
    pub subject: String,
    pub text: String,
    /// What to do, where there is something to do.
    pub next: Option<String>,
}

impl Finding {
    pub fn ok(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), text: text.into(), next: None }
    }

    pub fn warn(subject: impl Into<String>, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self::wrong(Level::Warn, subject, text, next)
    }

    pub fn fail(subject: impl Into<String>, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self::wrong(Level::Fail, subject, text, next)
    }

    /// What a check has found.
    pub fn of(subject: impl Into<String>, fault: Diagnostic) -> Self {
        let level = match fault.severity {
            Severity::Fatal | Severity::Error => Level::Fail,
            Severity::Warning => Level::Warn,
        };
        let next = fault.next.unwrap_or_else(|| format!("correct {}", fault.key));
        Self::wrong(level, subject, fault.text, next)
    }

    pub fn wrong(
        level: Level,
        subject: impl Into<String>,
        text: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { level, subject: subject.into(), text: text.into(), next: Some(next.into()) }
    }
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {}: {}", self.level.name(), self.subject, self.text)?;
        self.next.iter().try_for_each(|next| write!(f, "\n      -> {next}"))
    }
}
