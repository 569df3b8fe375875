use std::fmt::{self, Display};

use crate::config::{Key, Severity};

/// Something that is wrong with what a configuration names, or with this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The setting to blame.
    pub key: Key,
    pub text: String,
    /// What to do, where `text` does not say so.
    pub next: Option<String>,
}

impl Diagnostic {
    pub(super) fn new(severity: Severity, key: Key, text: impl Display, next: impl Display) -> Self {
        Self { severity, key, text: text.to_string(), next: Some(next.to_string()) }
    }

    /// One of an error that says itself what to do.
    pub(super) fn of(severity: Severity, key: Key, error: &impl Display) -> Self {
        Self { severity, key, text: error.to_string(), next: None }
    }
}

/// What is wrong, and what to do; without the key.
impl Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.next.iter().try_for_each(|next| write!(f, ": {next}"))
    }
}
