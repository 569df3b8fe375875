//! What Meta's messages themselves tell: when something happened, whether it came before, and what
//! is missing. Ids are kept as keyed hashes, and nothing that a person wrote.

mod observation;
mod scan;

pub use observation::{Chain, ChainStep, Event, Key, Kind, Number, Observation, Product, Unscanned};
pub use scan::{IdKey, Scan};
