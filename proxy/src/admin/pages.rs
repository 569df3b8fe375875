//! What is asked of the proxy, and by which peers.

use super::status;
use crate::config::HostName;
use crate::insight::{Chart, Query, Report};
use crate::messages::Document as Messages;
use crate::observe::{Delivery, Exposition, Trace};
use crate::stats::Document;

/// What the pages say. Each may block for a moment.
pub trait Pages: Send + Sync {
    /// Everything that is counted.
    fn metrics(&self) -> Exposition;
    /// The document of `hookgate stats --json`, since the attach or within a window.
    ///
    /// Errors: who has to read the guard's counters does not answer, or there are no figures.
    fn stats(&self, within: Option<&Query>) -> Result<Document, String>;
    /// The document of `/status.json`, with that upstream alone or without such a choice; `None`:
    /// it is not allowed.
    fn status(&self, upstream: Option<&[u8]>) -> Option<status::Document>;
    /// The document of `hookgate lost --json`; `None`: there are no figures.
    ///
    /// Errors: those that are kept can't be read.
    fn lost(&self, query: &Query) -> Result<Option<Report>, String>;
    /// The document of `hookgate messages --json`, of that upstream alone or of all; `None`: bodies
    /// are not looked at.
    ///
    /// Errors: why the ledger can't be read.
    fn messages(&self, upstream: Option<&str>) -> Result<Option<Messages>, String>;
    /// Requests that are followed, those after that number, or from now on; and the latest one's
    /// number.
    fn traces(&self, after: Option<u64>) -> (u64, Vec<Trace>);
    /// The document of `/history.json`.
    ///
    /// Errors: the figures that are kept can't be read.
    fn chart(&self, query: &Query) -> Result<Chart, String>;
    /// The latest requests, those after that number.
    fn deliveries(&self, after: u64) -> Vec<Delivery>;
    /// Puts in force the prefixes that were stored; how many there are then.
    ///
    /// Errors: why those that were in force still are.
    fn take_prefixes(&self) -> Result<usize, String>;
    /// Reads the configuration again and puts it in force; what has changed.
    ///
    /// Errors: why nothing has.
    fn reload(&self) -> Result<String, String>;
    /// What keeps the proxy from serving, a reason each; none when it is ready.
    fn unready(&self) -> Vec<String>;
    /// What else is not as configured, though the proxy serves, a line each.
    fn remarks(&self) -> Vec<String>;
    /// Names, in lower case, by which the address may be asked beside IP addresses and `localhost`.
    fn hosts(&self) -> Vec<HostName>;
}

/// Who asks.
#[derive(Clone, Copy)]
pub enum Origin {
    Anybody,
    /// Root, or the user or the group that the proxy runs as.
    CommandLine,
}
