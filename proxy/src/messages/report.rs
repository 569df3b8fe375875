use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Observation, Unscanned};

/// One POST that has ended. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The upstream's configured name; empty: it names none.
    pub upstream: Arc<str>,
    pub observation: Observation,
    /// Why there is no observation, if so.
    pub unscanned: Option<Unscanned>,
    /// It was answered with 200, and all of the answer was written.
    pub is_delivered: bool,
    pub arrived: i64,
    pub ended: i64,
}
