//! What commands print.

use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;

/// `1 upstream`, `2 upstreams`.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

pub(super) fn json(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// To standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    is_read(text).map(drop)
}

/// To standard error, where a command reports what is not its result. A closed one is ignored:
/// there is no other place.
pub(super) fn print_error(text: &str) {
    io::stderr().write_all(text.as_bytes()).ok();
}

/// [`print`]. Returns whether the output is still read: a reader that stops (`| head`) has seen
/// enough.
pub(super) fn is_read(text: &str) -> io::Result<bool> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}
