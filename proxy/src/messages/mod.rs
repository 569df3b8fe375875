//! What Meta's messages themselves tell: when something happened, whether it came before, and what
//! is missing. Ids are kept as keyed hashes, and nothing that a person wrote.

mod buckets;
mod document;
mod figures;
mod intake;
mod ledger;
mod observation;
mod outcome;
mod report;
mod scan;

pub use buckets::{BOUNDS, Histogram};
pub use document::{Document, NumberRow, Percentiles, ProductRow, UpstreamRow};
pub use figures::{Changes, SharedFigures, UpstreamFigures};
pub use intake::Intake;
pub use ledger::{LEDGER_FILE, Ledger, LedgerError, LedgerFile, ledger_bytes};
pub use observation::{Chain, ChainStep, Event, Key, Kind, Number, Observation, Product, Unscanned};
pub use outcome::{ChainEnd, Outcome};
pub use report::{Body, Report};
pub use scan::{IdKey, Scan};
