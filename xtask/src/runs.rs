//! The table in docs/install.md of what was run where: written by the tests that ran it, each kind
//! of test its own rows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const PAGE: &str = "docs/install.md";
const BEGIN: &str = "<!-- runs -->\n";
const END: &str = "<!-- /runs -->";
const HEAD: &str = "| what | on | what was done | version |\n| --- | --- | --- | --- |\n";

/// One row.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// Which test's row it is, such as `apt`: the first column.
    kind: String,
    /// The system that it ran on, by what that says of itself.
    on: String,
    what: String,
}

impl Run {
    /// `RAN: kind | on | what was done`, as a line of a test's output.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix("RAN: ")?.splitn(3, '|').map(|part| part.trim().to_owned());
        Some(Self { kind: parts.next()?, on: parts.next()?, what: parts.next()? })
    }

    fn row(&self) -> String {
        format!("| {} | {} | {} | {} |\n", self.kind, self.on, self.what, env!("CARGO_PKG_VERSION"))
    }
}

/// Puts `runs` in the place of the rows of their kinds; the others stay.
///
/// # Errors
/// There is no table in the page, or it can't be written.
pub fn publish(root: &Path, runs: &[Run]) -> Result<()> {
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::write(&path, with_runs(&page, runs)?).with_context(|| format!("writing {}", path.display()))
}

fn with_runs(page: &str, runs: &[Run]) -> Result<String> {
    ensure!(!runs.is_empty(), "no test said what it ran, so there is nothing to publish");
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (table, after)) = parts.with_context(|| format!("{PAGE} has no {}…{END}", BEGIN.trim()))?;
    let is_replaced = |row: &str| runs.iter().any(|run| row.starts_with(&format!("| {} |", run.kind)));
    let kept = table.lines().skip(HEAD.lines().count()).filter(|row| !is_replaced(row));
    let mut rows: Vec<String> = kept.map(|row| format!("{row}\n")).chain(runs.iter().map(Run::row)).collect();
    rows.sort();
    Ok([before, BEGIN, HEAD, &rows.concat(), END, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_replaces_its_own_rows() {
        let other = "| image | podman | served | 0.1.0 |\n";
        let old = "| apt | Debian 11 | installed | 0.1.0 |\n";
        let page = |rows: &str| format!("# Page\n{BEGIN}{HEAD}{rows}{END}\nEnd\n");
        let run = Run::parse("RAN: apt | Debian 12 | installed, upgraded").unwrap();
        let new = with_runs(&page(&[other, old].concat()), std::slice::from_ref(&run)).unwrap();
        assert_eq!(new, page(&[run.row().as_str(), other].concat()));
        assert_eq!(with_runs(&new, &[run]).unwrap(), new);
    }

    #[test]
    fn nothing_is_published_without_a_run_or_a_table() {
        let run = Run::parse("RAN: apt | Debian 12 | installed").unwrap();
        assert!(with_runs("# Page\n", &[run]).is_err());
        assert!(with_runs(&format!("{BEGIN}{HEAD}{END}"), &[]).is_err());
        assert_eq!(Run::parse("RAN: apt | Debian 12"), None);
        assert_eq!(Run::parse("test apt ... ok"), None);
    }
}
