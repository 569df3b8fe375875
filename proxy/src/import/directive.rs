//! What configurations consist of, and where it is written.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A name, arguments, and for some a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    pub name: String,
    pub arguments: Vec<String>,
    pub place: Place,
    /// `None`: it has none.
    pub block: Option<Vec<Directive>>,
}

/// A line of a file; lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub file: Arc<Path>,
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.arguments.iter().try_for_each(|argument| match &**argument {
            "" => f.write_str(" \"\""),
            argument => write!(f, " {argument}"),
        })
    }
}

/// What is no configuration of the server in question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct SyntaxError {
    pub place: Place,
    pub what: &'static str,
}
