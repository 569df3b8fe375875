use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limit::LimitCode;
use super::stage::{Stage, Unit};

/// `hookgate lost --json`, version 1: fields are added, never renamed or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    /// RFC 3339 in UTC, as all times.
    pub taken: String,
    /// The window: whole minutes, of which the last may not be over.
    pub from: String,
    pub to: String,
    pub verdict: Option<Verdict>,
    /// One a stage and unit. Those that can't be seen are absent.
    pub stages: Vec<StageReport>,
    pub not_counted: NotCounted,
    pub limits: Vec<Limit>,
}

/// Where most was lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub stage: Stage,
    pub unit: Unit,
    /// (lost + late) / of.
    pub share: f64,
    pub lost: u64,
    pub late: u64,
    pub of: u64,
    /// The most frequent one.
    pub cause: String,
    /// The first minute with losses after ten without; `None`: older than the figures.
    pub since: Option<String>,
    pub text: String,
    /// What to do, and what to type.
    pub next: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: Stage,
    pub unit: Unit,
    /// Failed, and not made good so far.
    pub lost: u64,
    /// Failed, and made good.
    pub late: u64,
    pub of: u64,
    /// Lost and late together.
    pub causes: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCounted {
    pub reset: u64,
    pub unproven: u64,
    #[serde(default)]
    pub suspect: u64,
}

/// What the figures can't tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub code: LimitCode,
    pub text: String,
}

impl Report {
    /// Says also that something else can't be told.
    pub fn add_limit(&mut self, code: LimitCode, text: String) {
        self.limits.push(Limit { code, text });
    }
}

impl StageReport {
    pub fn sum(&self) -> u64 {
        self.lost + self.late
    }

    pub fn share(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.sum() as f64 / self.of as f64 }
    }
}
