//! What is left of what newer rules forbid, folder by folder. It may only shrink.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use toml::de::DeTable;

use super::circles::{Circle, Found};

pub const FILE: &str = "xtask/src/tidy/ratchet.toml";
const HEADER: &str = "\
# What is left of what the newer rules of `cargo xtask tidy` forbid. It fails where there is more, and where there is less
# than this file says: `cargo xtask tidy --lower` writes what is left. Nothing is added by hand.
";

/// Rules that the code does not keep everywhere yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Names that docs/glossary.md does not want.
    Names,
    /// Words of comments that it does not want.
    Comments,
    /// Lines with comments that are too wide.
    WideComments,
    /// Files and processes in code of the worker.
    Files,
    /// Files of Rust that are too long.
    LongFiles,
}

impl Rule {
    const ALL: [Self; 5] = [Self::Names, Self::Comments, Self::WideComments, Self::Files, Self::LongFiles];

    fn name(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Comments => "comments",
            Self::WideComments => "wide-comments",
            Self::Files => "files-in-worker",
            Self::LongFiles => "long-files",
        }
    }
}

/// Something that a rule forbids.
pub struct Hit {
    pub rule: Rule,
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl Hit {
    /// At most three deep: files move within a folder without a change of the count.
    fn folder(&self) -> String {
        let folders = self.path.rsplit_once('/').map_or("", |(folders, _)| folders);
        folders.split('/').take(3).collect::<Vec<_>>().join("/")
    }
}

/// How much of it may be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ratchet {
    circles: BTreeSet<Circle>,
    counts: BTreeMap<Rule, BTreeMap<String, usize>>,
}

impl Ratchet {
    /// # Errors
    /// It is not TOML, or has something else in it.
    pub fn parse(text: &str) -> Result<Self> {
        let table = DeTable::parse(text).context(FILE)?;
        let table = table.get_ref();
        let mut ratchet = Self::default();
        for circle in table.get("circles").and_then(|list| list.get_ref().as_array()).into_iter().flatten() {
            let circle = circle.get_ref().as_str().and_then(Circle::parse);
            ratchet
                .circles
                .insert(circle.with_context(|| format!("{FILE}: a circle is \"folder: module module\""))?);
        }
        for rule in Rule::ALL {
            let Some(counts) = table.get(rule.name()).and_then(|counts| counts.get_ref().as_table()) else {
                continue;
            };
            for (folder, count) in counts {
                let count = count.get_ref().as_integer().and_then(|count| count.as_str().parse().ok());
                let count = count.with_context(|| format!("{FILE}: {folder} has no count"))?;
                ratchet.counts.entry(rule).or_default().insert(folder.get_ref().to_string(), count);
            }
        }
        Ok(ratchet)
    }

    /// Just what is there.
    pub fn of(hits: &[Hit], circles: &[Found]) -> Self {
        let mut ratchet = Self::default();
        ratchet.circles.extend(circles.iter().map(|found| found.circle.clone()));
        // A name counts once a folder, however many files use it: files are split and merged.
        let key = |hit: &Hit| match hit.rule {
            Rule::Names => hit.what.clone(),
            _ => format!("{}:{}: {}", hit.path, hit.line, hit.what),
        };
        let different: BTreeSet<_> = hits.iter().map(|hit| (hit.rule, hit.folder(), key(hit))).collect();
        for (rule, folder, _) in different {
            *ratchet.counts.entry(rule).or_default().entry(folder).or_default() += 1;
        }
        ratchet
    }

    /// What is left of it; never more than it has.
    pub fn lowered(&self, left: &Self) -> Self {
        let smaller =
            left.circles.iter().filter(|circle| self.circles.iter().any(|former| circle.is_left_of(former)));
        let still_there =
            self.circles.iter().filter(|former| left.circles.iter().any(|circle| former.is_left_of(circle)));
        let mut lowered =
            Self { circles: smaller.chain(still_there).cloned().collect(), counts: BTreeMap::new() };
        for (rule, counts) in &self.counts {
            for (folder, count) in counts {
                let count = left.count(*rule, folder).min(*count);
                if count > 0 {
                    lowered.counts.entry(*rule).or_default().insert(folder.clone(), count);
                }
            }
        }
        lowered
    }

    /// A line for everything that is too much, and for everything that is not there any more.
    pub fn findings(&self, hits: &[Hit], circles: &[Found]) -> Vec<String> {
        let left = Self::of(hits, circles);
        let mut findings = Vec::new();
        for found in circles {
            if !self.circles.iter().any(|former| found.circle.is_left_of(former)) {
                let uses = found.uses.join("\n    ");
                findings.push(format!("{}: a circle, which {FILE} does not list\n    {uses}", found.circle));
            }
        }
        for (rule, counts) in &left.counts {
            for (folder, count) in counts {
                let allowed = self.count(*rule, folder);
                if *count > allowed {
                    let here = hits.iter().filter(|hit| hit.rule == *rule && hit.folder() == *folder);
                    findings.extend(here.map(|hit| format!("{}:{}: {}", hit.path, hit.line, hit.what)));
                    let name = rule.name();
                    findings.push(format!(
                        "{folder}: {count} {name}, and {FILE} allows {allowed}: remove the new ones"
                    ));
                }
            }
        }
        if self.lowered(&left) != *self {
            findings.push(format!("less is left than {FILE} says: run `cargo xtask tidy --lower`"));
        }
        findings
    }

    fn count(&self, rule: Rule, folder: &str) -> usize {
        self.counts.get(&rule).and_then(|counts| counts.get(folder)).copied().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        text += "\n# Modules of a folder that use each other in a circle; `mod` is the one that declares them.\ncircles = [\n";
        self.circles.iter().for_each(|circle| text += &format!("    {:?},\n", circle.to_string()));
        text += "]\n";
        for (rule, counts) in &self.counts {
            text += &format!("\n[{}]\n", rule.name());
            counts.iter().for_each(|(folder, count)| text += &format!("{folder:?} = {count}\n"));
        }
        text
    }
}
