//! Commands, options and keys that pages name.

use std::path::Path;

use anyhow::Result;

use super::configuration::Keys;
use super::interface::Interface;
use super::markdown::Page;

/// The words that pages may use for what exists.
pub struct KnownNames {
    hookgate: Interface,
    xtask: Interface,
    keys: Keys,
}

impl KnownNames {
    /// `xtask`: our own command line. `bench`: the help text of the bench, which is a program of
    /// its own.
    ///
    /// # Errors
    /// The binary can't be run, or the reference of keys can't be read.
    pub fn read(root: &Path, binary: &Path, xtask: &clap::Command, bench: &str) -> Result<Self> {
        Ok(Self {
            hookgate: Interface::of_hookgate(binary)?,
            xtask: Interface::of(xtask).with("bench", bench),
            keys: Keys::read(root)?,
        })
    }

    /// A line for every one that does not exist.
    pub fn findings(&self, page: &Page) -> Vec<String> {
        let in_text = page.code.iter().filter_map(|piece| Some((piece.line, self.fault(&piece.text)?)));
        let mut findings: Vec<String> =
            in_text.map(|(line, fault)| format!("{}:{line}: {fault}", page.path)).collect();
        for block in page.blocks.iter().filter(|block| block.language == "sh") {
            let text = block.text.replace("\\\n", " ");
            let lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line).trim());
            let faults = lines.filter_map(|line| self.fault(line));
            findings.extend(faults.map(|fault| format!("{}:{}: {fault}", page.path, block.line)));
        }
        findings.extend(self.keys.findings(page));
        findings
    }

    /// What is wrong with a command line, if it is one of ours, or with an option by itself.
    fn fault(&self, text: &str) -> Option<String> {
        let line = text.strip_prefix("sudo ").unwrap_or(text);
        let line = line.split(['|', '>', ';', '&']).next().unwrap_or(line);
        if let Some(rest) = line.strip_prefix("hookgate ") {
            return self.hookgate.fault(rest);
        }
        if let Some(rest) = line.strip_prefix("cargo xtask ") {
            return self.xtask.fault(rest);
        }
        let option = line.split([' ', '=']).next().filter(|word| word.starts_with("--") && word.len() > 2)?;
        let known = self.hookgate.knows_option(option) || self.xtask.knows_option(option);
        (!known).then(|| format!("no command has an option {option}"))
    }
}
