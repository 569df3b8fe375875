//! The outcome of an import.

use std::path::PathBuf;

use super::notes::Group;
use super::plan::{Origin, Plan};
use super::write;

/// What was made of another server's configuration.
#[derive(Debug)]
pub struct Imported {
    pub origin: Origin,
    /// A `hookgate.toml`, with a comment for each difference.
    pub toml: String,
    pub upstreams: usize,
    /// A line for each thing that the other server refuses and hookgate forwards.
    pub open: Vec<String>,
    /// How many differences there are of each group.
    pub differences: [(Group, usize); 4],
    /// Why nothing would get through.
    pub blocked: Vec<String>,
}

impl Imported {
    /// `files`: those that the plan was made of.
    pub fn new(plan: Plan, files: &[PathBuf]) -> Self {
        let count = |group| (group, plan.notes.count(group));
        Self {
            origin: plan.origin,
            toml: write::toml(&plan, files),
            upstreams: plan.upstreams.len(),
            open: plan.notes.of(Group::Open).iter().map(|note| note.line()).collect(),
            differences: [Group::Open, Group::Elsewhere, Group::Different, Group::NoConsequence].map(count),
            blocked: plan.blocked,
        }
    }
}
