//! What this machine can do, what is wrong with it or with the configuration, and where connections
//! are being lost.

mod certificates;
mod dns;
mod finding;
mod host;
mod interfaces;
mod kernel;
mod ports;
mod prefixes;
mod process;
mod resources;
mod start;
mod tls;
mod traffic;

pub use finding::{Finding, Level};
pub use process::silence;

use std::path::Path;

use crate::config::Config;
use crate::host::Host;
use crate::insight::Report;
use crate::stats::Document;

/// Everything about this machine that matters without a configuration too.
pub fn examine_machine(config: &Config) -> Vec<Finding> {
    let host = Host::examine();
    [host::findings(config, &host), kernel::findings(config, &host), resources::findings(config)].concat()
}

/// Whether what is configured in `file` works here.
pub async fn examine_configuration(config: &Config, file: &Path) -> Vec<Finding> {
    let mut findings = [
        interfaces::findings(config),
        ports::findings(config, file),
        certificates::findings(config),
        prefixes::findings(config),
    ]
    .concat();
    findings.extend(start::findings(config));
    if !findings.iter().any(|finding| finding.level == Level::Fail) {
        findings.extend(start::rest(config));
    }
    findings.extend(dns::findings(config).await);
    findings
}

/// Where messages are being lost. `lost`: in the last hour; `None`: there are no figures of it.
pub fn examine_traffic(config: &Config, document: &Document, lost: Option<&Report>) -> Vec<Finding> {
    let mut findings = traffic::findings(config, document, lost);
    findings.extend(tls::findings(document));
    findings
}
