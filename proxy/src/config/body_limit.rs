use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// The most bytes that a request's body may have. As a number, also in a configuration, 0 is no
/// limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct BodyLimit(Option<NonZeroU64>);

impl BodyLimit {
    /// In bytes.
    pub fn most(self) -> u64 {
        self.0.map_or(u64::MAX, NonZeroU64::get)
    }
}

impl From<u64> for BodyLimit {
    fn from(bytes: u64) -> Self {
        Self(NonZeroU64::new(bytes))
    }
}

impl From<BodyLimit> for u64 {
    fn from(BodyLimit(bytes): BodyLimit) -> Self {
        bytes.map_or(0, NonZeroU64::get)
    }
}
