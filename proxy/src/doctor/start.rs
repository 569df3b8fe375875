//! Whatever else keeps the proxy from starting.

use super::Finding;
use crate::config::Config;
use crate::observe::{Format, Log};
use crate::server::{BadCertificates, Prepared, StartError};
use crate::tls::BadTls;

/// Errors that have lines of their own are left to these: certificates, and the list of prefixes.
pub fn finding(config: &Config) -> Option<Finding> {
    let (standing, _) = config.prefixes.load().ok()?;
    match Prepared::new(config, standing, Log::new(Format::Text, false)) {
        Ok(_) | Err(StartError::Certificates(BadCertificates::Tls(BadTls::Certificate(_)))) => None,
        Err(error) => Some(Finding::fail("start", error.to_string(), "the proxy does not start before that")),
    }
}
