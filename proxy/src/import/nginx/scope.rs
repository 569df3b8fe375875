//! Directives in force where requests are forwarded, after nginx's inheritance.

use std::collections::{BTreeMap, HashMap};

use super::setup::{Level, Setup};
use crate::import::directive::Directive;

/// The blocks around a forwarded request, the innermost last.
#[derive(Clone, Debug)]
pub struct Scope<'s, 'd> {
    pub pass: &'d Directive,
    pub levels: Vec<&'s Level<'d>>,
}

impl<'s, 'd> Scope<'s, 'd> {
    /// Equal for requests that pass through the same blocks.
    pub fn key(&self) -> usize {
        self.levels.last().map_or(0, |level| std::ptr::from_ref(*level).addr())
    }

    /// The directives in force, by name: those of the innermost block that has any.
    pub fn directives(&self, setup: &Setup<'d>) -> BTreeMap<&'d str, Vec<&'d Directive>> {
        let mut all = BTreeMap::<&str, Vec<&Directive>>::new();
        let blocks = self.levels.iter().rev().map(|level| &level.directives);
        for block in blocks.chain([&setup.http]) {
            let mut inside = HashMap::<&str, Vec<&Directive>>::new();
            for directive in block {
                inside.entry(family(&directive.name)).or_default().push(*directive);
            }
            for (name, directives) in inside {
                all.entry(name).or_insert(directives);
            }
        }
        all
    }
}

/// `allow` and `deny` are inherited together.
fn family(name: &str) -> &str {
    if name == "allow" { "deny" } else { name }
}

/// The last directive of that name in the innermost block that has one.
pub fn effective<'d>(setup: &Setup<'d>, levels: &[&Level<'d>], name: &str) -> Option<&'d Directive> {
    all_effective(setup, levels, name).last().copied()
}

/// All directives of that name in the innermost block that has one.
pub fn all_effective<'d>(setup: &Setup<'d>, levels: &[&Level<'d>], name: &str) -> Vec<&'d Directive> {
    let in_block = |level: &&Level<'d>| -> Vec<&'d Directive> {
        level.directives.iter().copied().filter(|directive| directive.name == name).collect()
    };
    let inner = levels.iter().rev().map(in_block).find(|found| !found.is_empty());
    inner.unwrap_or_else(|| setup.http.iter().copied().filter(|directive| directive.name == name).collect())
}
