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

/// What the generator has measured under this name.
///
/// # Errors
/// Nothing.
pub fn number(measured: &Value, name: &str) -> Result<f64> {
    measured.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} was measured"))
}
