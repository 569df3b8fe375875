//! The excerpt's file, and how it is made from a clone of the database.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use semver::{Version, VersionReq};
use toml::de::{DeTable, DeValue};

const HEADER: &str = "\
# What the RustSec advisory database (https://github.com/RustSec/advisory-db; public domain, CC0 1.0) has on the
# crates in Cargo.lock. `cargo xtask advisories` writes this file.

# The database as it was on this day.
";

#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The database's day, `2026-09-14`.
    pub state: String,
    /// The crates that it was made for, also those without an advisory.
    pub looked_up: BTreeSet<String>,
    /// By crate, then by number.
    pub advisories: Vec<Advisory>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Advisory {
    pub id: String,
    krate: String,
    /// `unsound`, `unmaintained` or `notice`; a vulnerability otherwise.
    kind: Option<String>,
    patched: Vec<String>,
    unaffected: Vec<String>,
}

impl Excerpt {
    /// # Errors
    /// It is not an excerpt's text.
    pub fn parse(text: &str) -> Result<Self> {
        let table = DeTable::parse(text)?;
        let table = table.get_ref();
        let state = text_of(table, "state")?;
        ensure!(day_number(&state).is_some(), "`{state}` is no day");
        let advisories = table.get("advisory").and_then(|list| list.get_ref().as_array());
        let advisories = advisories.into_iter().flatten().map(|advisory| {
            let advisory = advisory.get_ref().as_table().context("an advisory that is no table")?;
            Advisory {
                id: text_of(advisory, "id")?,
                krate: text_of(advisory, "crate")?,
                kind: text_of(advisory, "kind").ok(),
                patched: texts_of(advisory, "patched")?,
                unaffected: texts_of(advisory, "unaffected")?,
            }
            .verified()
        });
        let looked_up = texts_of(table, "looked_up")?.into_iter().collect();
        Ok(Self { state, looked_up, advisories: advisories.collect::<Result<_>>()? })
    }

    /// What a clone of the database has on the crates in `names`.
    ///
    /// # Errors
    /// It is no such clone, or an advisory is not written as they are.
    pub fn of(database: &Path, names: BTreeSet<String>) -> Result<Self> {
        let crates = database.join("crates");
        ensure!(crates.is_dir(), "{} is no clone of the advisory database", database.display());
        let mut advisories = Vec::new();
        for folder in names.iter().map(|name| crates.join(name)).filter(|folder| folder.is_dir()) {
            let entries = std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
            let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
            files.sort();
            for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
                let text = std::fs::read_to_string(file)?;
                let advisory =
                    Advisory::from_database(&text).with_context(|| format!("{}", file.display()))?;
                advisories.extend(advisory);
            }
        }
        Ok(Self { state: state_of(database)?, looked_up: names, advisories })
    }
}

impl Advisory {
    /// Reads the TOML at the start of an advisory; `None` if it was withdrawn.
    fn from_database(text: &str) -> Result<Option<Self>> {
        let front = text.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("\n```"));
        let front = DeTable::parse(front.context("an advisory without TOML")?.0)?;
        let section = |name: &str| front.get_ref().get(name).and_then(|section| section.get_ref().as_table());
        let about = section("advisory").context("an advisory without [advisory]")?;
        let versions = section("versions").context("an advisory without [versions]")?;
        let advisory = Self {
            id: text_of(about, "id")?,
            krate: text_of(about, "package")?,
            kind: text_of(about, "informational").ok(),
            patched: texts_of(versions, "patched")?,
            unaffected: texts_of(versions, "unaffected")?,
        };
        Ok(if about.contains_key("withdrawn") { None } else { Some(advisory.verified()?) })
    }

    fn verified(self) -> Result<Self> {
        for requirement in self.patched.iter().chain(&self.unaffected) {
            VersionReq::parse(requirement).with_context(|| format!("{}: `{requirement}`", self.id))?;
        }
        Ok(self)
    }

    /// Whether it is about this version. A pre-release counts as affected where no requirement
    /// names one.
    pub fn covers(&self, name: &str, version: &Version) -> bool {
        let fine =
            |requirement: &String| VersionReq::parse(requirement).is_ok_and(|req| req.matches(version));
        self.krate == name && !self.patched.iter().chain(&self.unaffected).any(fine)
    }

    /// Not only news of a crate's upkeep.
    pub fn is_a_fault(&self) -> bool {
        !matches!(self.kind.as_deref(), Some("unmaintained" | "notice"))
    }
}

/// What it says of an affected crate.
impl fmt::Display for Advisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_deref().unwrap_or("vulnerable");
        let remedy = match &*self.patched {
            [] => "no version is patched".to_owned(),
            patched => format!("patched in {}", patched.join(" or ")),
        };
        write!(f, "{kind}, {remedy}: https://rustsec.org/advisories/{}.html", self.id)
    }
}

/// The file's text.
impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}state = \"{}\"", self.state)?;
        f.write_str("# Every crate that was looked up; most have no advisory.\nlooked_up = [\n")?;
        self.looked_up.iter().try_for_each(|name| writeln!(f, "    \"{name}\","))?;
        f.write_str("]\n")?;
        for advisory in &self.advisories {
            let Advisory { id, krate, kind, patched, unaffected } = advisory;
            write!(f, "\n[[advisory]]\nid = \"{id}\"\ncrate = \"{krate}\"\n")?;
            kind.iter().try_for_each(|kind| writeln!(f, "kind = \"{kind}\""))?;
            writeln!(f, "patched = {patched:?}")?;
            if !unaffected.is_empty() {
                writeln!(f, "unaffected = {unaffected:?}")?;
            }
        }
        Ok(())
    }
}

/// # Errors
/// There is no such key, or its value is no text.
pub fn text_of(table: &DeTable<'_>, key: &str) -> Result<String> {
    let text = table.get(key).and_then(|value| value.get_ref().as_str());
    Ok(text.with_context(|| format!("no `{key}`"))?.to_owned())
}

/// An empty list where there is no such key.
fn texts_of(table: &DeTable<'_>, key: &str) -> Result<Vec<String>> {
    let Some(list) = table.get(key) else { return Ok(Vec::new()) };
    let list = list.get_ref().as_array().with_context(|| format!("`{key}` is no list"))?;
    let text = |value: &toml::Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
    list.iter().map(|value| text(value).with_context(|| format!("not only text in `{key}`"))).collect()
}

/// The day of a clone's last commit.
fn state_of(database: &Path) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "-C"]).arg(database).args(["log", "-1", "--format=%cs"]);
    Ok(harness_core::run(git)?.trim().to_owned())
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, written `2026-09-14`.
pub fn day_number(date: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years from March on, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    const DAYS_BEFORE_1970: i64 = 719_468;
    Some(365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_1970)
}
