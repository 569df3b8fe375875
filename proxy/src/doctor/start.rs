//! Whatever else keeps the proxy from starting.

use super::Finding;
use crate::access::Disk;
use crate::config::Config;
use crate::observe::{Format, Log};
use crate::server::{self, BadCertificates, Machine, Prepared, StartError};
use crate::tls::BadTls;

/// Errors that have lines of their own are left to these: certificates, and the list of prefixes.
pub fn finding(config: &Config) -> Option<Finding> {
    let (standing, _) = config.prefixes.load().ok()?;
    let log = Log::new(Format::Text, false);
    let prepared = server::worker_user(config)
        .map_err(StartError::from)
        .and_then(|_| Prepared::new(config, &standing, &Machine::measure(), &log, &Disk.shared()));
    match prepared {
        Ok(_) | Err(StartError::Certificates(BadCertificates::Tls(BadTls::Certificate(_)))) => None,
        Err(error) => Some(Finding::fail("start", error.to_string(), "the proxy does not start before that")),
    }
}
