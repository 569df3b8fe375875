use std::fmt;

/// How far a request's body got.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyProgress {
    /// In bytes; `None`: not known yet, or the head could not be read.
    pub length: Option<u64>,
    /// The least number of bytes that the upstream's kernel has acknowledged.
    pub acknowledged: u64,
}

impl fmt::Display for BodyProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            Some(length) => write!(f, "{} of {length} bytes of the body", self.acknowledged),
            None => write!(f, "{} of an unknown number of bytes of the body", self.acknowledged),
        }
    }
}

impl BodyProgress {
    /// Whether all of it is known to have arrived.
    pub fn is_whole(self) -> bool {
        self.length == Some(self.acknowledged)
    }
}
