/// Bytes of content taken from a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub copied: u64,
    pub spliced: u64,
}

impl Moved {
    /// What moved in two directions.
    pub fn plus(self, other: Self) -> Self {
        Self {
            copied: self.copied.saturating_add(other.copied),
            spliced: self.spliced.saturating_add(other.spliced),
        }
    }

    pub fn bytes(self) -> u64 {
        self.copied.saturating_add(self.spliced)
    }
}
