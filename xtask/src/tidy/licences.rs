//! What dependencies may be, by the lists in deny.toml (which cargo-deny reads too).

use anyhow::{Context, Result};
use harness_core::Workspace;
use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};
use toml::de::DeTable;

/// # Errors
/// deny.toml or cargo's metadata can't be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(workspace.root.join("deny.toml")).context("reading deny.toml")?;
    let rules = DeTable::parse(&text).context("deny.toml")?;
    let list = |section: &str, key: &str| {
        let list = rules.get_ref().get(section)?.get_ref().get(key)?.get_ref().as_array()?;
        Some(list.iter().filter_map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Vec<_>>())
    };
    let allowed = list("licenses", "allow").context("deny.toml without licenses.allow")?;
    let allowed = allowed.iter().map(|name| Licensee::parse(name)).collect::<Result<Vec<_>, _>>();
    let allowed = allowed.context("deny.toml, licenses.allow")?;
    let registries = list("sources", "allow-registry").context("deny.toml without sources.allow-registry")?;

    let mut findings = Vec::new();
    for package in workspace.packages()? {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let name = format!("{} {}", text("name").unwrap_or("?"), text("version").unwrap_or("?"));
        let Some(source) = text("source") else { continue }; // our own
        if !registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry)) {
            findings.push(format!("{name}: comes from {source}, which deny.toml does not allow"));
        }
        let Some(licence) = text("license") else {
            findings.push(format!("{name}: names no licence"));
            continue;
        };
        match is_allowed(licence, &allowed) {
            Ok(true) => {}
            Ok(false) => findings.push(format!("{name}: its licence ({licence}) is not among deny.toml's")),
            Err(e) => findings.push(format!("{name}: {e:#}")),
        }
    }
    Ok(findings)
}

/// Whether an SPDX expression can be kept with the licences in `list`. Crates from before SPDX
/// write MIT/Apache-2.0.
///
/// # Errors
/// It is no such expression.
pub fn is_allowed(expression: &str, list: &[Licensee]) -> Result<bool> {
    let expression = Expression::parse_mode(expression, ParseMode::LAX)
        .with_context(|| format!("reading the licence `{expression}`"))?;
    Ok(expression.evaluate(|required| list.iter().any(|licence| licence.satisfies(required))))
}
