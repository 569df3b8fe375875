//! What the generator is asked for, and what it has measured.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// What was measured, by name; the unit is the end of the name.
pub type Figures = BTreeMap<&'static str, f64>;

/// Words of the generator's command line.
pub fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// The smallest value that `per_cent` of all do not exceed.
pub fn percentile(values: &[f64], per_cent: f64) -> Option<f64> {
    let mut values = Vec::from(values);
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * per_cent / 100.0).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// What the generator has measured under this name.
///
/// # Errors
/// Nothing.
pub fn number(measured: &Value, name: &str) -> Result<f64> {
    measured.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} was measured"))
}
