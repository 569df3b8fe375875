//! Whatever else keeps the proxy from starting.

use super::Finding;
use crate::check;
use crate::config::Config;

/// What has no lines of its own.
pub fn findings(config: &Config) -> Vec<Finding> {
    check::others(config).into_iter().map(|fault| Finding::of(fault.key.to_string(), fault)).collect()
}

/// What no check has foreseen.
pub fn rest(config: &Config) -> Option<Finding> {
    let error = check::rest(config)?;
    Some(Finding::fail("start", error, "the proxy does not start before that"))
}
