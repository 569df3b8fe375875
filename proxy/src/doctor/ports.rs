//! The addresses to listen on: free, ours already, or whose.

use std::path::Path;

use super::Finding;
use crate::check::{self, Holder};
use crate::config::Config;

/// `file`: the configuration's.
pub fn findings(config: &Config, file: &Path) -> Vec<Finding> {
    let finding = |(key, address)| {
        let subject = format!("{key} {address}");
        match check::port(key, address, |holder| holder.runs(file)) {
            Ok(ours) if ours.is_empty() => Finding::ok(subject, "free"),
            Ok(ours) => {
                let names = ours.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ");
                Finding::ok(subject, format!("held by {names}"))
            }
            Err(fault) => Finding::of(subject, fault),
        }
    };
    check::addresses(config).into_iter().map(finding).collect()
}
