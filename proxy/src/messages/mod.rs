//! What Meta's messages themselves tell: when something happened, whether it came before, and what
//! is missing. Ids are kept as keyed hashes, and nothing that a person wrote.

mod buckets;
mod document;
mod figures;
mod intake;
mod ledger;
mod observation;
mod report;

pub use buckets::{BOUNDS, Histogram};
pub use document::{Document, NumberRow, Percentiles, ProductRow, UpstreamRow};
pub use figures::{Changes, SharedFigures, UpstreamFigures};
pub use intake::Intake;
pub use ledger::{ChainEnd, LEDGER_FILE, Ledger, LedgerError, LedgerFile, Outcome, ledger_bytes};
pub use observation::{Chain, ChainStep, Event, Key, Kind, Observation, Product, Unscanned};
pub use report::Report;

/// Stand-in until the scan is merged.
pub struct IdKey([u8; 32]);
impl IdKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(*key)
    }
}
#[derive(Debug, Default)]
pub struct Scan {
    observation: Observation,
}
impl Scan {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn begin(&mut self, key: &IdKey, upstream: &str, path: &[u8]) {
        let _ = (key.0, upstream, path);
    }
    pub fn feed(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }
    pub fn is_over(&self) -> bool {
        false
    }
    pub fn end(&mut self, signature: Option<&[u8]>) -> Result<&Observation, Unscanned> {
        let _ = signature;
        Ok(&self.observation)
    }
}
