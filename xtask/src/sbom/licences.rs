//! The licences of what is linked in, with the texts that the crates bring: each text once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use spdx::{Expression, Licensee, ParseMode};

use super::components::{Components, GUARD, HOOKGATE, Id};

const BEGINNINGS: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "authors"];
/// Where crates keep what they have of others.
const OTHERS: &str = "third_party";

/// # Errors
/// A component brings no text.
pub fn write(workspace: &Workspace, components: &Components) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::new();
    for (id, component) in &components.all {
        let (name, version) = id;
        if name == HOOKGATE || name == GUARD {
            continue; // our own
        }
        writeln!(list, "{name} {version}: {}", component.licence)?;
        let mut its = match &component.folder {
            Some(folder) => texts_in(folder).with_context(|| format!("the licence of {name} {version}"))?,
            None => Vec::new(),
        };
        if its.is_empty() {
            its.extend(standard_text(workspace, &component.licence)?);
        }
        ensure!(!its.is_empty(), "{name} {version} brings no text of its licence ({})", component.licence);
        for text in its {
            texts.entry(text).or_default().insert(title(id));
        }
    }
    let mut all = format!(
        "hookgate is linked with the components below, each under its licence. Of licences joined by OR,\n\
         one may be chosen. The texts follow, each once, as the components bring them.\n\n{list}"
    );
    let mut texts: Vec<_> = texts.into_iter().map(|(text, users)| (users, text)).collect();
    texts.sort();
    for (users, text) in texts {
        let users = users.into_iter().collect::<Vec<_>>().join(", ");
        write!(all, "\n{}\n{users}\n\n{text}\n", "-".repeat(80))?;
    }
    Ok(all)
}

fn title((name, version): &Id) -> String {
    format!("{name} {version}")
}

/// The crate's own texts, and those of what it has of others.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let named_so = BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
        if named_so && entry.is_file() {
            files.push(entry);
        } else if (named_so || name == OTHERS) && entry.is_dir() {
            files.extend(files_named_so(&entry)?);
        }
    }
    files.iter().map(|file| text(file)).collect()
}

fn files_named_so(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if entry.is_dir() {
            files.extend(files_named_so(&entry)?);
        } else if BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
            files.push(entry);
        }
    }
    Ok(files)
}

/// In order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", folder.display());
    let entries = fs::read_dir(folder).with_context(reading)?;
    let mut entries = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// Without what differs between copies: ends of lines, and spaces there.
fn text(file: &Path) -> Result<String> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n").trim_matches('\n').to_owned())
}

/// Of a component that brings no text: that of Apache-2.0, which is the same for all, where that
/// may be chosen.
fn standard_text(workspace: &Workspace, licence: &str) -> Result<Option<String>> {
    let apache = Licensee::parse("Apache-2.0")?;
    let expression = Expression::parse_mode(licence, ParseMode::LAX)?;
    let may_be_chosen = expression.evaluate(|required| apache.satisfies(required));
    may_be_chosen.then(|| text(&workspace.root.join("LICENSE-APACHE"))).transpose()
}
