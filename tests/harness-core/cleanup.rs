//! What has to be undone when the process ends, in whatever way it ends.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A shell beside us that waits for its input to end, which happens when this value is dropped and
/// also when we are killed, and then runs the commands it was given, the last one first. It has its
/// own process group: Ctrl-C does not reach it.
pub struct Cleanup(Child);

const WAIT_THEN_UNDO: &str = r#"
    trap '' HUP INT TERM
    undo=:
    while IFS= read -r line; do undo="$line; $undo"; done
    eval "$undo""#;

impl Cleanup {
    /// # Errors
    /// No shell.
    pub fn new() -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", WAIT_THEN_UNDO]).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Ok(Self(shell.spawn().context("starting sh")?))
    }

    /// Adds one line of shell; [`quoted`] makes its words.
    ///
    /// # Errors
    /// The shell is gone.
    pub fn add(&self, line: &str) -> Result<()> {
        let mut input = self.0.stdin.as_ref().context("a shell without input")?;
        writeln!(input, "{line}").context("the shell that cleans up is gone")
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(e) = self.0.wait() {
            eprintln!("cleaning up: {e}");
        }
    }
}

/// A word that any shell reads as it is.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The beginning of a script: a variable for each path.
pub fn assignments<'p>(paths: impl IntoIterator<Item = &'p (&'p str, &'p Path)>) -> String {
    paths.into_iter().map(|(name, path)| format!("{name}={}\n", quoted_path(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["plain", "", "it's", "a b", "$HOME;`x`", r"back\slash", "*", "{\"a\":1}"] {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("printf %s {}", quoted(word))]);
            assert_eq!(crate::run(shell).unwrap(), word);
        }
    }

    #[test]
    fn what_came_last_is_undone_first() {
        let dir = crate::TempDir::new("cleanup").unwrap();
        let log = dir.path().join("log");
        let cleanup = Cleanup::new().unwrap();
        for word in ["first", "second"] {
            cleanup.add(&format!("echo {word} >>{}", quoted_path(&log))).unwrap();
        }
        assert!(!log.exists());
        drop(cleanup);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "second\nfirst\n");
    }
}
